//! ONE suite of behaviour for every backend, and for one whose every third commit fails.

mod crash;
mod lives;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::datastore::{Batch, CommitError, Datastore, Loaded, OpenError};
use crate::memory::Memory;
use crate::ring::{Owed, Ring};
use crate::*;

/// An entry that is its text.
#[derive(Clone, Debug, PartialEq)]
struct Text {
    text: String,
    revision: u64,
}

impl Entry for Text {
    type Draft = ();
    type Rendering = Option<String>;

    fn commit(_: &Key, frame: &Frame, (): (), revision: u64) -> Self {
        Self { text: String::from_utf8_lossy(&frame.bytes).into_owned(), revision }
    }

    fn load(_: &Key, frame: Frame, revision: u64) -> Result<Self, String> {
        Ok(Self { text: String::from_utf8(frame.bytes.to_vec()).map_err(|error| error.to_string())?, revision })
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn size(&self) -> usize {
        self.text.len()
    }

    fn index(&self) -> Option<&str> {
        self.text.strip_prefix("on ")
    }
}

fn key(partition: &str, name: &str) -> Key {
    Key { partition: partition.into(), name: name.into() }
}

fn put(partition: &str, name: &str, text: &str, expect: Expect) -> Op<Text> {
    let frame = Frame { bytes: Bytes::from(text.to_owned()), splice: 0, writer: 1 };
    Op { key: key(partition, name), expect, write: Write::Put { frame, draft: (), renewal: false } }
}

fn delete(partition: &str, name: &str) -> Op<Text> {
    Op { key: key(partition, name), expect: Expect::Anything, write: Write::Delete }
}

/// A place where a datastore is opened again and again.
struct Place {
    directory: tempfile::TempDir,
    backend: Kind,
}

#[derive(Clone)]
enum Kind {
    Memory(Memory),
    Sqlite,
    /// SQLite behind `Faulty`: every third commit surely does not happen.
    Flaky,
}

impl Place {
    fn all() -> Vec<Place> {
        let kinds = [Kind::Memory(Memory::new()), Kind::Sqlite, Kind::Flaky];
        kinds.map(|backend| Place { directory: tempfile::tempdir().unwrap(), backend }).into()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn backend(&self) -> Box<dyn Datastore> {
        let sqlite = || Box::new(Sqlite::open(&self.path("state.db")).unwrap());
        match &self.backend {
            Kind::Memory(memory) => Box::new(memory.clone()),
            Kind::Sqlite => sqlite(),
            Kind::Flaky => {
                let fault = |number| if number % 3 == 0 { Fault::NotWritten } else { Fault::None };
                Box::new(Faulty { inner: sqlite(), number: 0, fault })
            }
        }
    }

    fn open(&self) -> Store<Text> {
        self.open_with(self.backend(), Duration::from_secs(3600))
    }

    fn open_with(&self, backend: Box<dyn Datastore>, lifetime: Duration) -> Store<Text> {
        let options = Options { volatile: vec!["events".into()], volatile_path: self.path("volatile.db"), lifetime };
        Store::open(backend, options).unwrap()
    }
}

async fn texts(store: &Store<Text>, partition: &str) -> Vec<String> {
    let snapshot = store.snapshot(&partition.into()).await.unwrap();
    snapshot.range("", "").map(|(name, entry)| format!("{name}={}", entry.text)).collect()
}

/// Commits one op, again when it surely did not happen.
async fn one(store: &Store<Text>, op: Op<Text>) -> Result<u64, TxnError> {
    loop {
        let write = match &op.write {
            Write::Put { frame, renewal, .. } => Write::Put { frame: frame.clone(), draft: (), renewal: *renewal },
            Write::Delete => Write::Delete,
            Write::Check => Write::Check,
        };
        let again = Op { key: op.key.clone(), expect: op.expect, write };
        match store.commit(Txn { ops: vec![again] }).await {
            Err(TxnError::NotWritten(_)) => {}
            outcome => return outcome.map(|committed| committed.revision),
        }
    }
}

#[tokio::test]
async fn expectations_hold_or_nothing_happens() {
    for place in Place::all() {
        let store = place.open();
        let first = one(&store, put("pods", "a/x", "1", Expect::Absent)).await.unwrap();
        assert!(matches!(
            one(&store, put("pods", "a/x", "2", Expect::Absent)).await,
            Err(TxnError::Conflict { op: 0, revision: Some(at), .. }) if at == first
        ));
        assert!(one(&store, put("pods", "a/x", "2", Expect::Revision(first + 9))).await.is_err());
        let ops = vec![put("pods", "a/y", "3", Expect::Absent), put("pods", "a/x", "4", Expect::Absent)];
        assert!(matches!(store.commit(Txn { ops }).await, Err(TxnError::Conflict { op: 1, .. })));
        assert_eq!(texts(&store, "pods").await, ["a/x=1"]);
        let second = one(&store, put("pods", "a/x", "2", Expect::Revision(first))).await.unwrap();
        assert!(second > first);
        one(&store, delete("pods", "a/x")).await.unwrap();
        assert!(texts(&store, "pods").await.is_empty());
    }
}

/// A process that dies takes back nothing that it acknowledged and hands out no revision that was seen: not even one that never
/// reached the disk, as a renewal's.
#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_and_no_revision_comes_twice() {
    for place in Place::all() {
        let mut highest = 0;
        for round in 0..3 {
            let store = place.open_mortal();
            assert!(store.revision() >= highest, "round {round}: {} after {highest}", store.revision());
            assert_eq!(texts(&store, "pods").await.len(), round);
            one(&store, put("pods", &format!("a/{round}"), "x", Expect::Absent)).await.unwrap();
            one(&store, put("leases", "a/l", "held", Expect::Anything)).await.unwrap();
            for _ in 0..5 {
                let mut renewal = put("leases", "a/l", "renewed", Expect::Present);
                if let Write::Put { renewal, .. } = &mut renewal.write {
                    *renewal = true;
                }
                highest = one(&store, renewal).await.unwrap();
            }
            store.close().await;
        }
    }
}

/// A datastore whose process dies before it can close it.
struct Mortal(Box<dyn Datastore>);

impl Datastore for Mortal {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        self.0.load()
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        // What a clean end writes are the renewals.
        let renewals = batch.ops.iter().any(|op| op.frame.as_ref().is_some_and(|frame| &*frame.bytes == b"renewed"));
        if renewals { Ok(()) } else { self.0.commit(batch) }
    }

    fn reserve(&mut self, ceiling: u64) -> Result<(), CommitError> {
        self.0.reserve(ceiling)
    }

    fn close(&mut self, _: u64) -> Result<(), CommitError> {
        Ok(())
    }
}

impl Place {
    fn open_mortal(&self) -> Store<Text> {
        self.open_with(Box::new(Mortal(self.backend())), Duration::from_secs(3600))
    }
}

#[tokio::test]
async fn watchers_see_every_change_once_and_in_order() {
    for place in Place::all() {
        let store = place.open();
        let start = store.revision();
        let mut all = store.watch(&"pods".into(), Scope::All, start).unwrap();
        let mut of_b = store.watch(&"pods".into(), Scope::Namespace("b".into()), start).unwrap();
        let mut on_n = store.watch(&"pods".into(), Scope::Index("n".into()), start).unwrap();
        for number in 0..20 {
            one(&store, put("pods", &format!("a/{number}"), "x", Expect::Absent)).await.unwrap();
        }
        one(&store, put("pods", "b/1", "on n", Expect::Absent)).await.unwrap();
        one(&store, put("pods", "b/1", "on m", Expect::Present)).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 22 {
            seen.extend(all.next().await.unwrap().unwrap());
        }
        assert!(seen.windows(2).all(|pair| pair[0].revision < pair[1].revision));
        let mut few = Vec::new();
        while few.len() < 2 {
            few.extend(of_b.next().await.unwrap().unwrap());
        }
        assert!(few.iter().all(|change| &*change.key.name == "b/1"));
        let mut moved = Vec::new();
        while moved.len() < 2 {
            moved.extend(on_n.next().await.unwrap().unwrap());
        }
        assert_eq!(moved[1].entry.as_ref().map(|entry| entry.text.as_str()), Some("on m"), "the move away is seen");
        let resumed =
            store.watch(&"pods".into(), Scope::All, seen[20].revision).unwrap().next().await.unwrap().unwrap();
        assert_eq!(resumed.len(), 1);
    }
}

#[tokio::test]
async fn old_snapshots_are_rebuilt_and_lost_history_is_said() {
    for place in Place::all() {
        let store = place.open();
        let first = one(&store, put("pods", "a/x", "1", Expect::Absent)).await.unwrap();
        one(&store, put("pods", "a/x", "2", Expect::Present)).await.unwrap();
        one(&store, put("pods", "a/y", "3", Expect::Absent)).await.unwrap();
        let old = store.snapshot_at(&"pods".into(), first).await.unwrap();
        assert_eq!(old.range("", "").map(|(_, entry)| entry.text.as_str()).collect::<Vec<_>>(), ["1"]);
        assert!(matches!(store.snapshot_at(&"pods".into(), store.revision() + 1).await, Err(ReadError::Future { .. })));
        for number in 0..60 {
            one(&store, put("pods", "a/z", &"x".repeat(100_000 + number), Expect::Anything)).await.unwrap();
        }
        assert!(matches!(store.snapshot_at(&"pods".into(), first).await, Err(ReadError::Expired(_))));
        assert!(store.watch(&"pods".into(), Scope::All, first).is_err());
        assert!(store.watch(&"leases".into(), Scope::All, first).is_ok(), "a busy kind cannot push out a quiet one");
    }
}

#[tokio::test]
async fn quiet_watchers_resume_after_a_restart() {
    for place in Place::all() {
        let store = place.open();
        let quiet = one(&store, put("pods", "a/x", "1", Expect::Absent)).await.unwrap();
        one(&store, put("nodes", "n", "1", Expect::Absent)).await.unwrap();
        one(&store, delete("nodes", "n")).await.unwrap();
        store.close().await;
        drop(store);
        let store = place.open();
        assert!(store.watch(&"pods".into(), Scope::All, quiet).is_ok());
        assert!(store.watch(&"nodes".into(), Scope::All, quiet).is_err(), "the deletion would be missed");
        assert!(store.watch(&"events".into(), Scope::All, quiet).is_err(), "volatile history ends with each start");
    }
}

#[tokio::test]
async fn renewals_stay_in_memory_until_the_end() {
    for place in Place::all() {
        let store = place.open();
        one(&store, put("leases", "a/l", "1", Expect::Absent)).await.unwrap();
        let mut renewal = put("leases", "a/l", "2", Expect::Present);
        if let Write::Put { renewal, .. } = &mut renewal.write {
            *renewal = true;
        }
        one(&store, renewal).await.unwrap();
        assert_eq!(texts(&store, "leases").await, ["a/l=2"]);
        store.close().await;
        drop(store);
        assert_eq!(texts(&place.open(), "leases").await, ["a/l=2"], "a clean end writes it");
    }
}

#[tokio::test]
async fn volatile_entries_are_read_from_disk_and_expire() {
    for place in Place::all() {
        let store = place.open_with(place.backend(), Duration::from_millis(300));
        let mut watch = store.watch(&"events".into(), Scope::All, store.revision()).unwrap();
        let first = one(&store, put("events", "a/e", "1", Expect::Absent)).await.unwrap();
        assert!(one(&store, put("events", "a/e", "2", Expect::Absent)).await.is_err());
        one(&store, put("events", "a/e", "2", Expect::Revision(first))).await.unwrap();
        assert_eq!(texts(&store, "events").await, ["a/e=2"]);
        assert_eq!(store.get(&key("events", "a/e")).await.unwrap().unwrap().text, "2");
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(watch.next().await.unwrap().unwrap());
        }
        assert!(seen[2].entry.is_none() && seen[2].previous.as_ref().is_some_and(|entry| entry.text == "2"));
        assert!(texts(&store, "events").await.is_empty());
    }
}

#[tokio::test]
async fn volatile_entries_are_read_by_extents_at_one_revision() {
    for place in Place::all() {
        let store = place.open();
        let events: Arc<str> = "events".into();
        for name in ["a/1", "a/2", "a/3", "b/1"] {
            one(&store, put("events", name, "old", Expect::Absent)).await.unwrap();
        }
        let at = store.revision();
        one(&store, put("events", "a/0", "new", Expect::Absent)).await.unwrap();
        one(&store, put("events", "a/2", "new", Expect::Present)).await.unwrap();
        one(&store, delete("events", "a/3")).await.unwrap();
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let extent = Extent { prefix: "a/", after: &after, limit: 1 };
            let part = store.extent(&events, extent, Some(at)).await.unwrap();
            seen.extend(part.range("a/", &after).map(|(name, entry)| format!("{name}={}", entry.text)));
            let Some(end) = part.end() else { break };
            after = end.to_string();
        }
        assert_eq!(seen, ["a/1=old", "a/2=old", "a/3=old"]);
        assert_eq!(texts(&store, "events").await, ["a/0=new", "a/1=old", "a/2=new", "b/1=old"]);
    }
}

#[tokio::test]
async fn history_is_bounded_by_bytes_even_for_few_changes_and_the_newest_stays() {
    let place = Place { directory: tempfile::tempdir().unwrap(), backend: Kind::Memory(Memory::new()) };
    let store = place.open();
    let start = one(&store, put("pods", "a/x", "x", Expect::Absent)).await.unwrap();
    let mut watch = store.watch(&"pods".into(), Scope::All, start).unwrap();
    let large = "x".repeat(3 << 20);
    for _ in 0..3 {
        one(&store, put("pods", "a/x", &large, Expect::Anything)).await.unwrap();
    }
    let last = store.revision();
    assert!(watch.next().await.is_err(), "three changes of 3 MiB are more than a ring holds");
    let mut resumed = store.watch(&"pods".into(), Scope::All, last - 1).unwrap();
    assert_eq!(resumed.next().await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn watchers_share_the_batches_of_commits_and_what_was_rendered_of_them() {
    let place = Place { directory: tempfile::tempdir().unwrap(), backend: Kind::Memory(Memory::new()) };
    let store = place.open();
    let watch = || store.watch(&"pods".into(), Scope::All, store.revision()).unwrap();
    let (mut first, mut second) = (watch(), watch());
    one(&store, put("pods", "a/x", "1", Expect::Absent)).await.unwrap();
    let pending = first.pending().await.unwrap().unwrap();
    *pending.batches[0].rendering() = Some("rendered".to_owned());
    let shared = second.pending().await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&pending.batches[0], &shared.batches[0]));
    assert_eq!(shared.batches[0].rendering().as_deref(), Some("rendered"));
    // What was not taken is pending again.
    assert_eq!(first.pending().await.unwrap().unwrap().after, pending.after);
    first.advance(pending.until);
    for _ in 0..5 {
        one(&store, put("pods", "a/x", "2", Expect::Anything)).await.unwrap();
    }
    let mut seen = 0;
    while seen < 5 {
        seen += first.next().await.unwrap().unwrap().len();
    }
    assert!(shared.batches[0].rendering().is_none(), "newer commits came");
}

/// At once when the scope rests; while it is busy the writer's clock wakes it, once for all that came meanwhile.
#[test]
fn a_busy_scope_is_woken_at_a_pace() {
    let ring: Ring<Text> = Ring::new(0);
    let mut wake = ring.wait(&Scope::All, 0).unwrap();
    let mut owed = Owed::default();
    let mut revision = 0;
    let mut push = |owed: &mut Owed| {
        revision += 1;
        let entry = Some(Text { text: String::new(), revision });
        ring.push(vec![Change { revision, key: key("pods", "a/x"), entry, previous: None }], owed);
    };
    push(&mut owed);
    assert!(wake.has_changed().unwrap() && owed.next(Instant::now()).is_none(), "it rested");
    // Until two of them come within the pace, however slow this machine is.
    while owed.next(Instant::now()).is_none() {
        wake.mark_unchanged();
        push(&mut owed);
    }
    wake.mark_unchanged();
    push(&mut owed);
    assert!(!wake.has_changed().unwrap(), "its wake is owed");
    owed.pay(Instant::now() + Duration::from_millis(2));
    assert!(wake.has_changed().unwrap() && owed.next(Instant::now()).is_none());
    assert_eq!(ring.read(&Scope::All, 0).unwrap().len() as u64, ring.since(0).unwrap().len() as u64);
}

/// What becomes of a commit.
#[derive(Clone, Copy)]
enum Fault {
    None,
    Full,
    NotWritten,
    /// Reported as unknown: it did not happen.
    Lost,
    /// Reported as unknown: it did.
    Kept,
}

/// Lets `fault` decide about each commit, counted from 1.
struct Faulty {
    inner: Box<dyn Datastore>,
    number: u32,
    fault: fn(u32) -> Fault,
}

impl Datastore for Faulty {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        self.inner.load()
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        self.number += 1;
        let why = "injected".to_owned();
        match (self.fault)(self.number) {
            Fault::None => self.inner.commit(batch),
            Fault::Full => Err(CommitError::Full(why)),
            Fault::NotWritten => Err(CommitError::NotWritten(why)),
            Fault::Lost => Err(CommitError::Unknown(why)),
            Fault::Kept => self.inner.commit(batch).and(Err(CommitError::Unknown(why))),
        }
    }

    fn reserve(&mut self, ceiling: u64) -> Result<(), CommitError> {
        self.inner.reserve(ceiling)
    }

    fn close(&mut self, revision: u64) -> Result<(), CommitError> {
        self.inner.close(revision)
    }
}

impl Faulty {
    fn place(fault: fn(u32) -> Fault, kind: Kind) -> (Place, Store<Text>) {
        let place = Place { directory: tempfile::tempdir().unwrap(), backend: kind };
        let faulty = Faulty { inner: place.backend(), number: 0, fault };
        let store = place.open_with(Box::new(faulty), Duration::from_secs(3600));
        (place, store)
    }
}

#[tokio::test]
async fn a_failed_commit_leaves_nothing() {
    for kind in [Kind::Memory(Memory::new()), Kind::Sqlite] {
        let (_place, store) = Faulty::place(|number| if number == 2 { Fault::Full } else { Fault::None }, kind);
        let mut watch = store.watch(&"pods".into(), Scope::All, 0).unwrap();
        let first = one(&store, put("pods", "a/x", "1", Expect::Absent)).await.unwrap();
        assert!(matches!(one(&store, put("pods", "a/y", "2", Expect::Absent)).await, Err(TxnError::Full(_))));
        assert_eq!(texts(&store, "pods").await, ["a/x=1"]);
        let next = one(&store, put("pods", "a/y", "3", Expect::Absent)).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(watch.next().await.unwrap().unwrap().into_iter().map(|change| change.revision));
        }
        assert_eq!(seen, [first, next]);
    }
}

#[tokio::test]
async fn an_unknown_outcome_ends_the_store_and_the_next_start_decides() {
    let faults: [fn(u32) -> Fault; 2] = [|_| Fault::Lost, |_| Fault::Kept];
    for (kept, fault) in faults.into_iter().enumerate() {
        for kind in [Kind::Memory(Memory::new()), Kind::Sqlite] {
            let (place, store) = Faulty::place(fault, kind);
            let mut watch = store.watch(&"pods".into(), Scope::All, 0).unwrap();
            assert!(matches!(one(&store, put("pods", "a/x", "1", Expect::Absent)).await, Err(TxnError::Unknown(_))));
            assert!(store.failed().await.contains("injected"));
            assert!(matches!(one(&store, put("pods", "a/x", "1", Expect::Absent)).await, Err(TxnError::Closed)));
            assert!(watch.next().await.unwrap().is_none());
            let mut late = store.watch(&"nodes".into(), Scope::All, 0).unwrap();
            assert!(late.next().await.unwrap().is_none(), "nobody waits on a store that ended");
            assert!(texts(&store, "pods").await.is_empty(), "what may not have happened is not shown");
            let used = store.revision() + 1;
            drop(store);
            let store = place.open();
            assert_eq!(texts(&store, "pods").await.len(), kept);
            assert!(store.revision() >= used);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_committers_count_without_losing_one() {
    for place in Place::all() {
        let store = place.open();
        one(&store, put("pods", "a/n", "0", Expect::Absent)).await.unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                coracle_base::task::spawn("committer", async move {
                    let mut done = 0;
                    while done < 25 {
                        let entry = store.get(&key("pods", "a/n")).await.unwrap().unwrap();
                        let next = (entry.text.parse::<u32>().unwrap() + 1).to_string();
                        done += u32::from(
                            one(&store, put("pods", "a/n", &next, Expect::Revision(entry.revision))).await.is_ok(),
                        );
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(texts(&store, "pods").await, ["a/n=200"]);
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let held = Sqlite::open(&path).unwrap();
    assert!(matches!(Sqlite::open(&path), Err(OpenError::Locked { .. })));
    drop(held);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Sqlite::open(&path), Err(OpenError::Version { found: 99, .. })));
    std::fs::write(directory.path().join("noise.db"), vec![7_u8; 8192]).unwrap();
    assert!(matches!(Sqlite::open(&directory.path().join("noise.db")), Err(OpenError::Damaged { .. })));
    assert!(matches!(Sqlite::open(&directory.path().join("no/such/file")), Err(OpenError::ReadOnly { .. })));
}
