//! The one thread that writes: groups waiting transactions into one commit, numbers them, then tells everyone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::datastore::{Batch, BatchOp, CommitError, Datastore, OpenError};
use crate::entry::{Entry, Frame, Key};
use crate::ring::Owed;
use crate::snapshot::Entries;
use crate::store::{Shared, State};
use crate::txn::{Committed, Expect, Op, Txn, TxnError, Write};
use crate::volatile::Volatile;
use crate::watch::Change;

/// Revisions are reserved durably in blocks of this many.
const BLOCK: u64 = 65_536;
/// Transactions of one commit, and bytes after which no more are taken; the others wait for the next.
const GROUP: usize = 128;
const GROUP_BYTES: usize = 1 << 20;

pub(crate) enum Request<E: Entry> {
    Commit {
        txn: Txn<E>,
        reply: Reply<E>,
        /// Bounds the channel: a caller that gave up still counts until the writer took its transaction.
        permit: OwnedSemaphorePermit,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

type Outcome<E> = Result<Committed<E>, TxnError>;
type Reply<E> = oneshot::Sender<Outcome<E>>;

pub(crate) struct Writer<E: Entry> {
    backend: Box<dyn Datastore>,
    volatile: Option<Volatile>,
    state: State<E>,
    ceiling: u64,
    /// Frames of renewals that are not durable yet.
    renewed: HashMap<Key, (Frame, u64)>,
    shared: Arc<Shared<E>>,
    fatal: watch::Sender<Option<String>>,
    /// Watchers that are woken soon.
    owed: Owed,
    /// Who asked for the end during a group.
    closing: Option<oneshot::Sender<()>>,
}

/// One commit in the making.
struct Group<E: Entry> {
    durable: Batch,
    volatile: Vec<BatchOp>,
    changes: Vec<Change<E>>,
    renewed: Vec<(Key, Frame, u64)>,
    answers: Vec<(Reply<E>, Outcome<E>)>,
    bytes: usize,
}

impl<E: Entry> Writer<E> {
    pub(crate) fn new(
        backend: Box<dyn Datastore>,
        volatile: Option<Volatile>,
        state: State<E>,
        shared: Arc<Shared<E>>,
        fatal: watch::Sender<Option<String>>,
    ) -> Result<Self, OpenError> {
        let (renewed, owed) = (HashMap::new(), Owed::default());
        let mut writer = Self { backend, volatile, ceiling: 0, state, renewed, shared, fatal, owed, closing: None };
        writer.reserve(0).map_err(|error| match error {
            CommitError::Full(_) => OpenError::Full { path: "the datastore".to_owned() },
            error => OpenError::ReadOnly { path: "the datastore".to_owned(), why: error.to_string() },
        })?;
        Ok(writer)
    }

    /// Until the store is closed or dropped, or an outcome is unknown.
    pub(crate) fn run(mut self, requests: &Receiver<Request<E>>) {
        loop {
            self.owed.pay(Instant::now());
            let expiry = self.volatile.as_mut().and_then(Volatile::next_expiry);
            let first = match self.owed.next(Instant::now()).into_iter().chain(expiry).min() {
                Some(wait) => requests.recv_timeout(wait),
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let alive = match first {
                Ok(Request::Commit { txn, reply, permit }) => {
                    drop(permit);
                    self.group(txn, reply, requests)
                }
                Ok(Request::Close { reply }) => {
                    self.close();
                    return self.end(Some(reply));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let expiry = self.volatile.as_mut().and_then(Volatile::next_expiry);
                    !expiry.is_some_and(|wait| wait.is_zero()) || self.expire()
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.close();
                    return;
                }
            };
            if !alive {
                let closing = self.closing.take();
                return self.end(closing);
            }
        }
    }

    /// Answers once the datastore is let go, so that it can be opened again.
    fn end(self, closing: Option<oneshot::Sender<()>>) {
        drop(self);
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    /// Commits `first` and what waits behind it. `false` when the store cannot go on.
    fn group(&mut self, first: Txn<E>, reply: Reply<E>, requests: &Receiver<Request<E>>) -> bool {
        let before = self.state.clone();
        let mut group = Group::new(before.revision + 1);
        let outcome = self.apply(first, &mut group);
        group.answers.push((reply, outcome));
        let mut close = None;
        while group.answers.len() < GROUP && group.bytes < GROUP_BYTES {
            match requests.try_recv() {
                Ok(Request::Commit { txn, reply, permit }) => {
                    drop(permit);
                    let outcome = self.apply(txn, &mut group);
                    group.answers.push((reply, outcome));
                }
                Ok(Request::Close { reply }) => {
                    close = Some(reply);
                    break;
                }
                Err(_) => break,
            }
        }
        let alive = self.finish(before, group);
        if let Some(reply) = close {
            if alive {
                self.close();
            }
            self.closing = Some(reply);
            return false;
        }
        alive
    }

    /// Makes the group durable, then shows it; or takes all of it back.
    fn finish(&mut self, before: State<E>, group: Group<E>) -> bool {
        let Group { durable, volatile, changes, renewed, answers, .. } = group;
        if let Err(error) = self.write(&durable, &volatile) {
            // Its revisions were shown to nobody, but are not used again all the same.
            let used = self.state.revision;
            self.state = State { revision: used, ..before };
            tracing::error!(%error, "commit failed");
            let fatal = matches!(error, CommitError::Unknown(_));
            for (reply, _) in answers {
                // A conflict, too, may have been with something that is taken back now.
                let _ = reply.send(Err(txn_error(&error)));
            }
            if fatal {
                self.fatal.send_replace(Some(error.to_string()));
            }
            return !fatal;
        }
        for op in &durable.ops {
            self.renewed.remove(&op.key);
        }
        self.renewed.extend(renewed.into_iter().map(|(key, frame, revision)| (key, (frame, revision))));
        let revision = self.state.revision;
        self.shared.state.store(Arc::new(self.state.clone()));
        for (reply, outcome) in answers {
            let _ = reply.send(outcome);
        }
        if !changes.is_empty() {
            self.shared.rings.push(changes, &mut self.owed);
        }
        self.shared.progress.send_replace(revision);
        true
    }

    fn write(&mut self, durable: &Batch, volatile: &[BatchOp]) -> Result<(), CommitError> {
        let used = self.state.revision;
        if used > self.ceiling {
            self.reserve(used)?;
        }
        if !durable.ops.is_empty() {
            self.backend.commit(durable)?;
        }
        if let Some(store) = self.volatile.as_mut().filter(|_| !volatile.is_empty()) {
            self.shared.volatile_written.store(used, Ordering::SeqCst);
            if let Err(error) = store.apply(volatile) {
                if durable.ops.is_empty() {
                    return Err(CommitError::NotWritten(error));
                }
                // Losing volatile entries is allowed, so their failure does not fail what is durable already.
                tracing::warn!(%error, "volatile entries were not written");
            }
        }
        Ok(())
    }

    fn reserve(&mut self, used: u64) -> Result<(), CommitError> {
        let ceiling = used.max(self.state.revision) + BLOCK;
        self.backend.reserve(ceiling)?;
        self.ceiling = ceiling;
        Ok(())
    }

    /// Checks and applies one transaction to the working state; on an error nothing of it is left.
    fn apply(&mut self, txn: Txn<E>, group: &mut Group<E>) -> Result<Committed<E>, TxnError> {
        for (index, op) in txn.ops.iter().enumerate() {
            let revision = self.current(&op.key, group);
            let holds = match op.expect {
                Expect::Absent => revision.is_none(),
                Expect::Revision(expected) => revision == Some(expected),
                Expect::Present => revision.is_some(),
                Expect::Anything => true,
            };
            if !holds {
                return Err(TxnError::Conflict { op: index, key: op.key.clone(), revision });
            }
        }
        let mut entries = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            entries.push(self.apply_op(op, group));
        }
        Ok(Committed { revision: self.state.revision, entries })
    }

    /// The revision at which a key stands, with what the group already did.
    fn current(&self, key: &Key, group: &Group<E>) -> Option<u64> {
        if !self.is_volatile(&key.partition) {
            return self.entry(key).map(Entry::revision);
        }
        match group.changes.iter().rev().find(|change| change.key == *key) {
            Some(change) => change.entry.as_ref().map(Entry::revision),
            None => self.volatile.as_ref().and_then(|store| store.revision(key)),
        }
    }

    fn entry(&self, key: &Key) -> Option<&E> {
        self.state.partitions.get(&key.partition).and_then(|entries| entries.get(&key.name))
    }

    fn apply_op(&mut self, op: Op<E>, group: &mut Group<E>) -> Option<E> {
        let Op { key, write, .. } = op;
        let is_volatile = self.is_volatile(&key.partition);
        let previous = match is_volatile {
            false => self.entry(&key).cloned(),
            true => group
                .changes
                .iter()
                .rev()
                .find(|change| change.key == key)
                .map_or_else(|| self.read_volatile(&key), |change| change.entry.clone()),
        };
        let (frame, draft, renewal) = match write {
            Write::Check => return previous,
            Write::Put { frame, draft, renewal } => (Some(frame), Some(draft), renewal),
            Write::Delete if previous.is_none() => return None,
            Write::Delete => (None, None, false),
        };
        self.state.revision += 1;
        let revision = self.state.revision;
        let entry = match (&frame, draft) {
            (Some(frame), Some(draft)) => Some(E::commit(&key, frame, draft, revision)),
            _ => None,
        };
        if !is_volatile {
            self.set(&key, entry.clone());
        }
        match frame {
            Some(frame) if renewal && !is_volatile => group.renewed.push((key.clone(), frame, revision)),
            frame => {
                let op = BatchOp { key: key.clone(), frame, revision };
                group.renewed.retain(|(renewed, _, _)| *renewed != op.key);
                if is_volatile { group.volatile.push(op) } else { group.durable.ops.push(op) }
            }
        }
        group.bytes += entry.as_ref().map_or(0, Entry::size);
        let answer = entry.clone().or_else(|| previous.clone());
        group.changes.push(Change { revision, key, entry, previous });
        answer
    }

    fn set(&mut self, key: &Key, entry: Option<E>) {
        if !self.state.partitions.contains_key(&key.partition) {
            self.state.partitions.insert_mut(key.partition.clone(), Entries::new_sync());
        }
        // In place, so that what this group copied already is not copied again.
        let Some(entries) = self.state.partitions.get_mut(&key.partition) else { return };
        match entry {
            Some(entry) => entries.insert_mut(key.name.clone(), entry),
            None => drop(entries.remove_mut(&key.name)),
        }
    }

    fn is_volatile(&self, partition: &str) -> bool {
        self.shared.volatile.iter().any(|name| **name == *partition)
    }

    fn read_volatile(&self, key: &Key) -> Option<E> {
        let (frame, revision) = self.volatile.as_ref()?.read(key)?;
        E::load(key, frame, revision).ok()
    }

    /// Deletes volatile entries whose time is over, visibly to watchers.
    fn expire(&mut self) -> bool {
        let keys = self.volatile.as_mut().map(Volatile::expired).unwrap_or_default();
        let before = self.state.clone();
        let mut group = Group::new(before.revision + 1);
        for key in keys.clone() {
            self.apply_op(Op { key, expect: Expect::Anything, write: Write::Delete }, &mut group);
        }
        let alive = self.finish(before, group);
        if let Some(volatile) = &mut self.volatile {
            volatile.retry_expiry(keys);
        }
        alive
    }

    /// Makes renewals durable and says that the end was clean.
    fn close(&mut self) {
        let mut ops: Vec<BatchOp> = std::mem::take(&mut self.renewed)
            .into_iter()
            .map(|(key, (frame, revision))| BatchOp { key, frame: Some(frame), revision })
            .collect();
        ops.sort_by_key(|op| op.revision);
        let first_revision = ops.first().map_or(self.state.revision, |op| op.revision);
        let written = ops.is_empty() || self.backend.commit(&Batch { first_revision, ops }).is_ok();
        if !written || self.backend.close(self.state.revision).is_err() {
            tracing::warn!("the store could not be closed cleanly; the next start treats it as a crash");
        }
    }
}

impl<E: Entry> Drop for Writer<E> {
    /// Nobody may wait for a writer that is gone, whatever ended it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fatal.send_replace(Some("the store's writer panicked".to_owned()));
        }
        self.shared.rings.close();
    }
}

impl<E: Entry> Group<E> {
    fn new(first_revision: u64) -> Self {
        Self {
            durable: Batch { first_revision, ops: Vec::new() },
            volatile: Vec::new(),
            changes: Vec::new(),
            renewed: Vec::new(),
            answers: Vec::new(),
            bytes: 0,
        }
    }
}

fn txn_error(error: &CommitError) -> TxnError {
    match error {
        CommitError::Full(why) => TxnError::Full(why.clone()),
        CommitError::NotWritten(why) => TxnError::NotWritten(why.clone()),
        CommitError::Unknown(why) => TxnError::Unknown(why.clone()),
    }
}
