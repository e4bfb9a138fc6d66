//! Brings the table back when somebody else deletes it: reloading Debian's nftables.service begins with `flush ruleset`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::table::Table;
use crate::netlink::message::{SUBSYSTEM_NFTABLES, messages};
use crate::netlink::{KernelError, NetlinkSocket};

/// NFNLGRP_NFTABLES as a bit.
const GROUP: u32 = 1 << 6;
const DELETE_TABLE: u16 = (SUBSYSTEM_NFTABLES << 8) | 2;

/// Hears of deleted tables in the network namespace in which it was made.
pub struct Guard {
    events: OwnedFd,
    table: Arc<Table>,
}

impl Guard {
    pub fn new(table: Arc<Table>) -> Result<Self, KernelError> {
        Ok(Self { events: NetlinkSocket::events(GROUP)?, table })
    }

    /// Runs until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let events = match crate::sys::watch(self.events) {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(%error, "table is not guarded");
                return;
            }
        };
        let mut buffer = vec![0; 16 * 1024];
        let watch = async {
            while let Ok(mut ready) = events.readable().await {
                match recv(events.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    Ok(length) if messages(&buffer[..length]).any(|message| message.kind == DELETE_TABLE) => (),
                    // More came than the socket holds: it may have been among them.
                    Err(Errno::ENOBUFS) => (),
                    Ok(_) => continue,
                    Err(_) => {
                        ready.clear_ready();
                        continue;
                    }
                }
                let table = self.table.clone();
                match task::blocking(move || table.restore()).await {
                    Ok(Ok(false)) => (),
                    Ok(Ok(true)) => tracing::warn!("table was deleted by somebody else; it is back"),
                    Ok(Err(error)) => tracing::error!(%error, "table is deleted and cannot be made"),
                    Err(error) => tracing::error!(%error, "table is not restored"),
                }
            }
        };
        shutdown.bound(watch).await;
    }
}
