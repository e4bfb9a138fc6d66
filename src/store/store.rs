//! `Store`: what the rest of the process holds; reads from snapshots, hands transactions to the writer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use rpds::HashTrieMapSync;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::datastore::{Datastore, OpenError};
use crate::entry::{Entry, Key};
use crate::ring::Rings;
use crate::snapshot::{Entries, Extent, ReadError, Snapshot};
use crate::txn::{Committed, Txn, TxnError};
use crate::volatile::{Volatile, VolatileReader};
use crate::watch::{Expired, Scope, Watch};
use crate::writer::{Request, Writer};

/// Transactions that may wait for the writer; more wait before they are handed over.
const WAITING: usize = 512;

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Partitions that are kept in `volatile_path` without durability, for `lifetime`.
    pub volatile: Vec<Arc<str>>,
    pub volatile_path: PathBuf,
    pub lifetime: Duration,
}

/// What readers see; replaced whole with each commit.
#[derive(Clone)]
pub(crate) struct State<E> {
    pub(crate) partitions: HashTrieMapSync<Arc<str>, Entries<E>>,
    pub(crate) revision: u64,
}

pub(crate) struct Shared<E: Entry> {
    pub(crate) state: ArcSwap<State<E>>,
    pub(crate) rings: Rings<E>,
    /// Everything up to it was published to the rings.
    pub(crate) progress: watch::Sender<u64>,
    pub(crate) volatile: Vec<Arc<str>>,
    /// Volatile changes up to it may be on disk before they are published.
    pub(crate) volatile_written: AtomicU64,
    reader: Option<VolatileReader>,
}

/// Cloning is a reference count; with the last clone the writer closes the datastore.
pub struct Store<E: Entry> {
    shared: Arc<Shared<E>>,
    requests: mpsc::Sender<Request<E>>,
    waiting: Arc<Semaphore>,
    fatal: watch::Receiver<Option<String>>,
}

impl<E: Entry> Clone for Store<E> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            requests: self.requests.clone(),
            waiting: self.waiting.clone(),
            fatal: self.fatal.clone(),
        }
    }
}

impl<E: Entry> Store<E> {
    /// Loads everything into memory and starts the writer.
    pub fn open(mut backend: Box<dyn Datastore>, options: Options) -> Result<Self, OpenError> {
        let loaded = backend.load()?;
        let (volatile, reader) = match options.volatile.is_empty() {
            true => (None, None),
            false => {
                let (writer, reader) = Volatile::open(&options.volatile_path, options.lifetime)?;
                (Some(writer), Some(reader))
            }
        };
        // After an unclean end nobody knows which revisions below the ceiling were handed out.
        let mut revision = loaded.closed_at.unwrap_or(loaded.ceiling);
        revision = revision.max(volatile.as_ref().map_or(0, Volatile::newest));
        let mut floors: HashMap<Arc<str>, u64> = loaded.last_changes.into_iter().collect();
        let mut partitions: HashTrieMapSync<Arc<str>, Entries<E>> = HashTrieMapSync::new_sync();
        let mut by_partition: HashMap<Arc<str>, Entries<E>> = HashMap::new();
        for (key, frame, changed) in loaded.entries {
            let entry = E::load(&key, frame, changed)
                .map_err(|why| OpenError::Damaged { path: format!("{}|{}", key.partition, key.name), why })?;
            by_partition.entry(key.partition.clone()).or_insert_with(Entries::new_sync).insert_mut(key.name, entry);
            let floor = floors.entry(key.partition).or_default();
            *floor = changed.max(*floor);
        }
        for (partition, entries) in by_partition {
            partitions.insert_mut(partition, entries);
        }
        let state = State { partitions, revision };
        let shared = Arc::new(Shared {
            state: ArcSwap::from_pointee(state.clone()),
            rings: Rings::new(floors, revision, options.volatile.clone()),
            progress: watch::Sender::new(revision),
            volatile: options.volatile,
            volatile_written: AtomicU64::new(revision),
            reader,
        });
        let (requests, received) = mpsc::channel();
        let (fatal_sender, fatal) = watch::channel(None);
        let writer = Writer::new(backend, volatile, state, shared.clone(), fatal_sender)?;
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(|error| OpenError::Damaged { path: "writer thread".to_owned(), why: error.to_string() })?;
        Ok(Self { shared, requests, waiting: Arc::new(Semaphore::new(WAITING)), fatal })
    }

    /// The newest revision that readers see.
    pub fn revision(&self) -> u64 {
        self.shared.state.load().revision
    }

    /// The present entry of a key.
    pub async fn get(&self, key: &Key) -> Result<Option<E>, ReadError> {
        if !self.is_volatile(&key.partition) {
            let state = self.shared.state.load();
            return Ok(state.partitions.get(&key.partition).and_then(|entries| entries.get(&key.name)).cloned());
        }
        let (shared, key) = (self.shared.clone(), key.clone());
        self.read_volatile(move || shared.reader.as_ref().map_or(Ok(None), |reader| reader.get(&key))).await
    }

    /// A partition as it is now.
    pub async fn snapshot(&self, partition: &Arc<str>) -> Result<Snapshot<E>, ReadError> {
        self.extent(partition, Extent::WHOLE, None).await
    }

    /// A partition as it was at `revision`, rebuilt from its history.
    pub async fn snapshot_at(&self, partition: &Arc<str>, revision: u64) -> Result<Snapshot<E>, ReadError> {
        self.extent(partition, Extent::WHOLE, Some(revision)).await
    }

    /// At least `extent` of a partition, as it is now or was at revision `at`; `Snapshot::end` says where it ends.
    pub async fn extent(
        &self,
        partition: &Arc<str>,
        extent: Extent<'_>,
        at: Option<u64>,
    ) -> Result<Snapshot<E>, ReadError> {
        let state = self.shared.state.load_full();
        if let Some(asked) = at.filter(|&at| at > state.revision) {
            return Err(ReadError::Future { asked, current: state.revision });
        }
        if self.is_volatile(partition) {
            return self.volatile_extent(partition, extent, at).await;
        }
        let entries = state.partitions.get(partition).cloned().unwrap_or_else(Entries::new_sync);
        let snapshot = Snapshot { entries, revision: state.revision, end: None };
        let Some(at) = at else { return Ok(snapshot) };
        self.published(snapshot.revision).await;
        let changes = self.shared.rings.ring(partition).since(at)?;
        Ok(snapshot.rewind(Extent::WHOLE, at, changes))
    }

    async fn volatile_extent(
        &self,
        partition: &Arc<str>,
        extent: Extent<'_>,
        at: Option<u64>,
    ) -> Result<Snapshot<E>, ReadError> {
        loop {
            let revision = at.unwrap_or(self.revision());
            let (shared, own) = (self.shared.clone(), partition.clone());
            let (prefix, after, limit) = (extent.prefix.to_owned(), extent.after.to_owned(), extent.limit);
            let read = move || {
                let extent = Extent { prefix: &prefix, after: &after, limit };
                shared.reader.as_ref().map_or(Ok((Entries::new_sync(), None)), |reader| reader.extent(&own, extent))
            };
            let (entries, end) = self.read_volatile(read).await?;
            // The file is ahead of `revision`: what it has above it is published soon, and then taken back.
            self.published(self.shared.volatile_written.load(Ordering::SeqCst)).await;
            match self.shared.rings.ring(partition).since(revision) {
                Ok(changes) => return Ok(Snapshot { entries, revision, end }.rewind(extent, revision, changes)),
                Err(expired) if at.is_some() => return Err(expired.into()),
                // More was written meanwhile than the history holds: read again.
                Err(_) => {}
            }
        }
    }

    /// Waits until the rings have everything up to `revision`.
    async fn published(&self, revision: u64) {
        let mut progress = self.shared.progress.subscribe();
        let _ = progress.wait_for(|published| *published >= revision).await;
    }

    /// Changes of `scope` after `revision`.
    pub fn watch(&self, partition: &Arc<str>, scope: Scope, revision: u64) -> Result<Watch<E>, Expired> {
        let ring = self.shared.rings.ring(partition);
        let wake = ring.wait(&scope, revision)?;
        Ok(Watch { ring, scope, cursor: revision, wake, progress: self.shared.progress.subscribe() })
    }

    /// Commits all ops of `txn` or none; acknowledged when durable. Dropping the future does not undo the transaction.
    pub async fn commit(&self, txn: Txn<E>) -> Result<Committed<E>, TxnError> {
        let permit = self.waiting.clone().acquire_owned().await.map_err(|_| TxnError::Closed)?;
        let (reply, outcome) = oneshot::channel();
        self.requests.send(Request::Commit { txn, reply, permit }).map_err(|_| TxnError::Closed)?;
        outcome.await.map_err(|_| TxnError::Closed)?
    }

    /// Gives back memory that only a busy store needs: history beyond its age.
    pub fn rest(&self) {
        self.shared.rings.rest();
    }

    /// Completes when the store had to end itself, with the reason; the process should end and start again.
    pub async fn failed(&self) -> String {
        let mut fatal = self.fatal.clone();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Writes what is only in memory, marks the end as clean and ends the writer; later commits are `Closed`.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.requests.send(Request::Close { reply }).is_ok() {
            let _ = done.await;
        }
    }

    fn is_volatile(&self, partition: &str) -> bool {
        self.shared.volatile.iter().any(|name| **name == *partition)
    }

    async fn read_volatile<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        coracle_base::task::blocking(read).await.map_err(|error| ReadError::Volatile(error.to_string()))?
    }
}
