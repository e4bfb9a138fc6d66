//! One signal that asks every part to stop, and the wait until each has.

use tokio_util::sync::CancellationToken;

/// Cloned into every component; a child is stopped with its parent and alone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds this signal, or a child of it, to stop.
    pub fn begin(&self) {
        self.token.cancel();
    }

    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes once shutdown has begun; cancel-safe.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// A signal that follows this one but can begin by itself.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }

    /// Runs `future` until it ends or shutdown begins; `None` says that shutdown came first.
    pub async fn bound<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.token.run_until_cancelled(future).await
    }
}
