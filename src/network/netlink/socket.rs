//! The netlink socket: sends batches, reads an error per message, dumps.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::message::{Received, messages};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const INTERRUPTED: u16 = 0x10;

/// Why the kernel did not take a change.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("netlink {operation}")]
    Socket { operation: &'static str, source: io::Error },
    /// The whole batch was refused; the first message that was wrong.
    #[error("nf_tables refused {what} (message {sequence})")]
    Refused { what: Box<str>, sequence: u32, source: io::Error },
    /// What was dumped changed meanwhile.
    #[error("the dump was interrupted by a change")]
    Interrupted,
}

impl KernelError {
    /// The kernel's answer, where it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            KernelError::Socket { source, .. } | KernelError::Refused { source, .. } => source.raw_os_error(),
            KernelError::Interrupted => None,
        }
    }
}

/// A netlink socket of the network namespace in which it was opened. Its calls block (a commit waits for RCU): not for tokio workers.
pub struct NetlinkSocket {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

fn failed(operation: &'static str) -> impl Fn(Errno) -> KernelError {
    move |errno| KernelError::Socket { operation, source: io::Error::from(errno) }
}

impl NetlinkSocket {
    /// For nf_tables and connection tracking.
    pub fn netfilter() -> Result<Self, KernelError> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    /// For links, addresses, routes and neighbours.
    pub fn route() -> Result<Self, KernelError> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    /// What nf_tables tells of changes by anybody, as a non-blocking socket. `groups` is a bit for each group.
    pub fn events(groups: u32) -> Result<OwnedFd, KernelError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)
            .map_err(failed("socket"))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(failed("bind"))?;
        Ok(socket)
    }

    fn open(protocol: SockProtocol) -> Result<Self, KernelError> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(failed("socket"))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed("bind"))?;
        let timeout = TimeVal::seconds(30);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).map_err(failed("timeout"))?;
        Ok(Self { socket, buffer: vec![0; 32 * 1024] })
    }

    /// Sends a batch in one datagram and waits for the answer to message `last`. `labels` say what each message (from 1) is about.
    pub fn transact(&mut self, bytes: &[u8], last: u32, labels: &[Box<str>]) -> Result<(), KernelError> {
        // A megabyte for some thousand Services.
        if bytes.len() > 128 * 1024 {
            setsockopt(&self.socket, sockopt::SndBufForce, &(2 * bytes.len())).map_err(failed("send buffer"))?;
        }
        send(self.socket.as_raw_fd(), bytes, MsgFlags::empty()).map_err(failed("send"))?;
        let mut refused = None;
        loop {
            let mut done = false;
            self.receive(|message| {
                if message.kind != ERROR {
                    return;
                }
                let errno = error_number(message);
                done |= message.sequence == last;
                if errno != 0 && refused.is_none() {
                    let label = labels.get((message.sequence as usize).wrapping_sub(1)).cloned();
                    refused = Some((label.unwrap_or_else(|| "batch".into()), message.sequence, errno));
                }
            })?;
            // An error outside the messages (sequence 0) is the only answer to the batch.
            if done || matches!(refused, Some((_, 0, _))) {
                break;
            }
        }
        match refused {
            None => Ok(()),
            Some((what, sequence, errno)) => {
                Err(KernelError::Refused { what, sequence, source: io::Error::from_raw_os_error(errno) })
            }
        }
    }

    /// Sends one request and gives every message of its answer to `each`, up to the acknowledgement or the end of the dump.
    pub fn request(&mut self, request: &[u8], mut each: impl FnMut(Received<'_>)) -> Result<(), KernelError> {
        send(self.socket.as_raw_fd(), request, MsgFlags::empty()).map_err(failed("send"))?;
        let (mut done, mut interrupted, mut error) = (false, false, 0);
        while !done {
            self.receive(|message| match message.kind {
                DONE => done = true,
                ERROR => {
                    error = error_number(message);
                    done = true;
                }
                _ => {
                    interrupted |= message.flags & INTERRUPTED != 0;
                    each(message);
                }
            })?;
        }
        match (error, interrupted) {
            (0, false) => Ok(()),
            (0, true) => Err(KernelError::Interrupted),
            (errno, _) => {
                Err(KernelError::Socket { operation: "request", source: io::Error::from_raw_os_error(errno) })
            }
        }
    }

    fn receive(&mut self, each: impl FnMut(Received<'_>)) -> Result<(), KernelError> {
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()).map_err(failed("receive"))?;
        messages(&self.buffer[..length]).for_each(each);
        Ok(())
    }
}

/// The positive error number of an NLMSG_ERROR; 0 is an acknowledgement.
fn error_number(message: Received<'_>) -> i32 {
    message.payload.get(..4).map_or(libc::EBADMSG, |bytes| -i32::from_ne_bytes(bytes.try_into().expect("four bytes")))
}
