//! Named tasks that end with their handle; the only place that may call `tokio::spawn`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;
use tracing::Instrument;

/// A running task. Dropping it aborts the task; awaiting it gives the task's output.
#[must_use = "a task is aborted when its handle is dropped; keep it or call detach()"]
pub struct Task<T> {
    handle: Option<JoinHandle<T>>,
}

/// Why a task gave no output.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("task panicked: {0}")]
    Panicked(String),
    #[error("task was aborted")]
    Aborted,
}

/// Starts `future` on the current runtime under `name`, which every log line of the task carries.
#[allow(clippy::disallowed_methods)]
pub fn spawn<F>(name: &'static str, future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Task { handle: Some(tokio::spawn(future.instrument(tracing::info_span!("task", name)))) }
}

/// Runs `work` on the blocking pool: for anything that keeps a thread above half a millisecond.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TaskError> {
    tokio::task::spawn_blocking(work).await.map_err(TaskError::from)
}

impl<T> Task<T> {
    /// Lets the task run to its end on its own; only for work that ends by itself.
    pub fn detach(mut self) {
        self.handle.take();
    }

    /// Aborts the task and waits until it is gone.
    pub async fn stop(mut self) {
        if let Some(handle) = self.handle.take() {
            handle.abort();
            let _ = handle.await;
        }
    }

    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let handle = self.handle.as_mut().expect("a detached task is never polled: detach takes it");
        Pin::new(handle).poll(context).map_err(TaskError::from)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }
}

impl From<tokio::task::JoinError> for TaskError {
    fn from(error: tokio::task::JoinError) -> Self {
        if error.is_cancelled() {
            return TaskError::Aborted;
        }
        let panic = error.into_panic();
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        TaskError::Panicked(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropping_the_handle_aborts_the_task() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let task = spawn("held", async move {
            let _held = sender;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        drop(task);
        assert!(receiver.await.is_err(), "the task's sender is dropped with the task");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_text() {
        let task = spawn("panics", async { panic!("overboard") });
        let error: Result<(), _> = task.await;
        assert_eq!(error.expect_err("it panicked").to_string(), "task panicked: overboard");
    }
}
