//! The table of this network namespace: the only writer of `inet coracle`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ledger::Ledger;
use super::ruleset::{self, TABLE, TableConfig};
use crate::conntrack::{self, Live};
use crate::netlink::message::SUBSYSTEM_NFTABLES;
use crate::netlink::{KernelError, NetlinkSocket, message};
use crate::nftables::Batch;
use crate::services::NodeFacts;

/// Shared by Services and the CNI server. Its calls block until the kernel has answered: not for tokio workers.
pub struct Table {
    state: Mutex<State>,
    config: TableConfig,
}

struct State {
    ledger: Ledger,
    socket: NetlinkSocket,
    installed: bool,
}

impl Table {
    /// Opens the table without touching it: one that an earlier process left goes on serving until `install`.
    pub fn open(config: TableConfig) -> Result<Self, KernelError> {
        let state = State { ledger: Ledger::default(), socket: NetlinkSocket::netfilter()?, installed: false };
        Ok(Self { state: Mutex::new(state), config })
    }

    /// Whether the kernel has a table of this name, from whatever process.
    pub fn exists(&self) -> Result<bool, KernelError> {
        self.lock().exists()
    }

    /// Makes the table anew if it was installed and is gone; `true` when it was.
    pub fn restore(&self) -> Result<bool, KernelError> {
        let mut state = self.lock();
        if !state.installed || state.exists()? {
            return Ok(false);
        }
        state.install(&self.config)?;
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what is there by everything claimed so far, at once.
    pub fn install(&self) -> Result<(), KernelError> {
        self.lock().install(&self.config)
    }

    /// Lets `edit` change claims and brings the kernel after them. Before `install` claims are only noted. After an error
    /// nothing has changed in the kernel, and the next call tries again.
    pub fn change<T>(&self, edit: impl FnOnce(&mut Ledger) -> T) -> Result<T, KernelError> {
        let mut state = self.lock();
        let result = edit(&mut state.ledger);
        if state.installed {
            state.apply(&self.config)?;
        }
        Ok(result)
    }

    pub fn is_installed(&self) -> bool {
        self.lock().installed
    }

    /// Deletes UDP flows that lead to former endpoints.
    pub fn clean_udp(&self, live: &Live, node: &NodeFacts) -> Result<usize, KernelError> {
        conntrack::clean_udp(&mut self.lock().socket, live, &node.addresses)
    }
}

impl State {
    fn exists(&mut self) -> Result<bool, KernelError> {
        const GET_TABLE: u16 = (SUBSYSTEM_NFTABLES << 8) | 1;
        const REQUEST_ACKNOWLEDGE: u16 = 5;
        const INET: u8 = 1;
        let mut request = Vec::new();
        message::message(&mut request, GET_TABLE, REQUEST_ACKNOWLEDGE, 1, INET, 0, |attributes| {
            attributes.string(1, TABLE);
        });
        match self.socket.request(&request, |_| ()) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn install(&mut self, config: &TableConfig) -> Result<(), KernelError> {
        let mut batch = Batch::new(TABLE);
        ruleset::install(&mut batch, config);
        self.ledger.reset();
        let changes = self.ledger.changes();
        changes.write(&mut batch);
        batch.commit(&mut self.socket)?;
        self.ledger.done(&changes);
        self.installed = true;
        Ok(())
    }

    fn apply(&mut self, config: &TableConfig) -> Result<(), KernelError> {
        let changes = self.ledger.changes();
        let mut batch = Batch::new(TABLE);
        changes.write(&mut batch);
        match batch.commit(&mut self.socket) {
            Ok(()) => {
                self.ledger.done(&changes);
                Ok(())
            }
            // Somebody has changed the table under us, or flushed the ruleset.
            Err(error @ KernelError::Refused { .. }) => {
                tracing::warn!(%error, "table is not as it was left; it is made anew");
                self.install(config)
            }
            Err(error) => Err(error),
        }
    }
}

/// Deletes the table of this network namespace, if there is one.
pub fn remove() -> Result<(), KernelError> {
    let mut batch = Batch::new(TABLE);
    batch.add_table();
    batch.delete_table();
    batch.commit(&mut NetlinkSocket::netfilter()?)
}
