//! The terminal under standard input: raw while it is held, and the sizes it takes.

use std::io::Read;
use std::os::fd::AsFd;

use bytes::Bytes;
use coracle_streams::remote_command::client::Input;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::sync::mpsc;

/// Bytes of one read; what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Every byte goes to the command as it is typed, Ctrl-C too; dropping it gives the terminal its old ways back.
pub struct Raw {
    before: Termios,
}

impl Raw {
    pub fn enter() -> std::io::Result<Self> {
        let terminal = std::io::stdin();
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The terminal's size now; nothing where it has none.
pub fn size() -> Option<Input> {
    let size = termios::tcgetwinsize(std::io::stdin()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Input::Size(size.ws_col, size.ws_row))
}

/// Sends what standard input gives until its end. The thread stays in its read when nobody listens any more; the process ends
/// over it.
pub fn read_input(sender: mpsc::Sender<Input>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        let mut input = std::io::stdin();
        loop {
            let message = match input.read(&mut buffer) {
                Ok(read @ 1..) => Input::Bytes(Bytes::copy_from_slice(&buffer[..read])),
                Ok(0) => Input::End,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => Input::End,
            };
            let ended = matches!(message, Input::End);
            if sender.blocking_send(message).is_err() || ended {
                return;
            }
        }
    });
}

/// A second handle of standard output or error, to be written without blocking the runtime.
pub fn output(stream: impl AsFd) -> std::io::Result<tokio::fs::File> {
    Ok(tokio::fs::File::from_std(stream.as_fd().try_clone_to_owned()?.into()))
}
