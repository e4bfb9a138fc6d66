//! The controller runner: changes of views become keys, keys become reconciles, failures come again with back-off.

use std::any::Any;
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::backoff::Shape;
use coracle_base::queue::Queue;
use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::view::{Change, Project, View};
use crate::{Error, Key};

/// As client-go's DefaultControllerRateLimiter.
const RETRY: Shape = Shape::doubling(Duration::from_millis(5), Duration::from_secs(1000));

/// What a reconcile that went well asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    Done,
    /// Reconcile again after this time even if nothing changes.
    After(Duration),
}

/// A controller that is being put together; `run` starts it.
pub struct Controller<K = Key> {
    name: &'static str,
    queue: Queue<K>,
    workers: usize,
    /// Give their views once those are complete.
    sources: Vec<BoxFuture<'static, HeldView>>,
}

/// A view that is kept, because its watch ends with the last handle on it.
type HeldView = Box<dyn Any + Send>;

impl<K: Hash + Eq + Clone + Debug + Send + Sync + 'static> Controller<K> {
    pub fn new(name: &'static str) -> Self {
        Self { name, queue: Queue::new(RETRY), workers: 1, sources: Vec::new() }
    }

    /// How many keys are reconciled at a time; one unless said otherwise.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// For triggers that are not views, and to come back to a key.
    pub fn queue(&self) -> Queue<K> {
        self.queue.clone()
    }

    /// Every change of `view` enqueues the keys that `map` names. The first reconcile waits until the view is complete.
    pub fn on<T: Project, I: IntoIterator<Item = K>>(
        self,
        view: &View<T>,
        map: impl Fn(&Change<T>) -> I + Send + Sync + 'static,
    ) -> Self {
        let queue = self.queue.clone();
        view.subscribe(move |change| map(change).into_iter().for_each(|key| queue.add(key)));
        self.reads(view)
    }

    /// The reconcile reads `view`: wait until it is complete, and keep it current while the controller runs.
    pub fn reads<T: Project>(mut self, view: &View<T>) -> Self {
        let view = view.clone();
        self.sources.push(Box::pin(async move {
            view.synced().await;
            Box::new(view) as HeldView
        }));
        self
    }

    /// Reconciles until shutdown. A failed or panicking reconcile of a key is tried again with back-off; no key is
    /// reconciled twice at the same time. On return no reconcile is running.
    pub async fn run<F, R>(self, shutdown: &Shutdown, reconcile: F)
    where
        F: Fn(K) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        let Self { name, queue, workers, sources } = self;
        let reconcile = Arc::new(reconcile);
        let Some(_views) = shutdown.bound(futures::future::join_all(sources)).await else { return };
        tracing::debug!(controller = name, workers, "started");
        let workers: Vec<_> =
            (0..workers).map(|_| task::spawn(name, work(name, queue.clone(), reconcile.clone()))).collect();
        shutdown.begun().await;
        queue.close();
        for worker in workers {
            worker.stop().await;
        }
    }
}

async fn work<K, F, R>(name: &'static str, queue: Queue<K>, reconcile: Arc<F>)
where
    K: Hash + Eq + Clone + Debug,
    F: Fn(K) -> R,
    R: Future<Output = Result<Next, Error>>,
{
    while let Some(item) = queue.next().await {
        let key = item.key().clone();
        match AssertUnwindSafe(reconcile(key.clone())).catch_unwind().await {
            Ok(Ok(next)) => {
                queue.forget(&key);
                if let Next::After(delay) = next {
                    queue.add_after(key, delay);
                }
            }
            Ok(Err(error)) => {
                if error.is_conflict() {
                    tracing::debug!(controller = name, ?key, error = error.chain(), "overtaken by another write");
                } else {
                    tracing::warn!(controller = name, ?key, error = error.chain(), "reconcile failed");
                }
                queue.add_rate_limited(key);
            }
            Err(_panic) => {
                tracing::error!(controller = name, ?key, "reconcile panicked");
                queue.add_rate_limited(key);
            }
        }
    }
}
