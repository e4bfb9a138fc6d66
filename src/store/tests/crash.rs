//! The files as a crash may leave them, cut at every write that a commit makes, and opened again.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// SQLite writes a WAL frame as its header and its page, and checkpoints page by page.
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const PAGE: usize = 4096;

/// What the disk holds and what was promised at that point.
#[derive(Clone, Default)]
struct Moment {
    database: Vec<u8>,
    wal: Vec<u8>,
    volatile: Vec<u8>,
    volatile_wal: Vec<u8>,
    entries: BTreeMap<String, String>,
    /// The last durable change of the partition.
    changed: u64,
    /// The highest revision that anyone was shown.
    shown: u64,
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

impl Moment {
    fn read_files(&mut self, place: &Place) {
        self.database = read(&place.path("state.db"));
        self.wal = read(&place.path("state.db-wal"));
        self.volatile = read(&place.path("volatile.db"));
        self.volatile_wal = read(&place.path("volatile.db-wal"));
    }
}

/// `before` with the bytes of `after` from the first difference up to `end`.
fn cut(before: &[u8], after: &[u8], end: usize) -> Vec<u8> {
    let mut bytes = before.to_vec();
    bytes.resize(bytes.len().max(end), 0);
    bytes[..end].copy_from_slice(&after[..end]);
    bytes
}

/// Every end of a frame between two states of the WAL, and of every fourth its header's end and the middle of its page.
fn wal_cuts(before: &[u8], after: &[u8]) -> Vec<usize> {
    let same = before.iter().zip(after).take_while(|(left, right)| left == right).count();
    let until = match after.len() > before.len() {
        true => after.len(),
        false => (0..after.len()).rev().find(|at| before[*at] != after[*at]).map_or(same, |at| at + 1),
    };
    let frame = |number: usize| (number, WAL_HEADER + number * (FRAME_HEADER + PAGE));
    let frames = (0..).map(frame).take_while(|(_, at)| *at < until);
    let ends = frames.flat_map(|(number, at)| match number % 4 {
        0 => vec![at, at + FRAME_HEADER, at + FRAME_HEADER + PAGE / 2],
        _ => vec![at],
    });
    let mut cuts: Vec<usize> = ends.filter(|at| *at > same && *at < until).collect();
    cuts.push(until);
    cuts
}

/// The images that a crash between two acknowledged commits may leave; `true` says that the second is certainly there.
fn images(before: &Moment, after: &Moment) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    let cuts = wal_cuts(&before.wal, &after.wal);
    let last = cuts.len() - 1;
    let mut images: Vec<_> = cuts
        .into_iter()
        .enumerate()
        .map(|(at, end)| (before.database.clone(), cut(&before.wal, &after.wal, end), at == last))
        .collect();
    // The checkpoint begins when the WAL is complete.
    let mut database = before.database.clone();
    for start in (0..after.database.len()).step_by(PAGE) {
        let page = &after.database[start..start + PAGE];
        if database.get(start..start + PAGE) != Some(page) {
            database.resize(database.len().max(start + PAGE), 0);
            if (start / PAGE).is_multiple_of(8) {
                database[start..start + PAGE / 2].copy_from_slice(&page[..PAGE / 2]);
                images.push((database.clone(), after.wal.clone(), true));
            }
            database[start..start + PAGE].copy_from_slice(page);
        }
    }
    images.push((after.database.clone(), after.wal.clone(), true));
    images
}

async fn check(before: &Moment, after: &Moment, database: &[u8], wal: &[u8], certain: bool) {
    let place = Place { directory: tempfile::tempdir().unwrap(), backend: Kind::Sqlite };
    std::fs::write(place.path("state.db"), database).unwrap();
    std::fs::write(place.path("state.db-wal"), wal).unwrap();
    std::fs::write(place.path("volatile.db"), &after.volatile).unwrap();
    std::fs::write(place.path("volatile.db-wal"), &after.volatile_wal[..after.volatile_wal.len() / 2]).unwrap();
    let store = place.open();
    let snapshot = store.snapshot(&"pods".into()).await.unwrap();
    let found: BTreeMap<String, String> =
        snapshot.range("", "").map(|(name, entry)| (name.to_string(), entry.text.clone())).collect();
    let is_after = found == after.entries;
    assert!(is_after || (!certain && found == before.entries), "all of a commit or nothing of it");
    assert!(store.revision() >= after.shown, "a revision would come twice");
    let changed = if is_after { after.changed } else { before.changed };
    // Who saw the last durable change goes on, whoever may have missed one lists again.
    let mut watch = store.watch(&"pods".into(), Scope::All, changed).unwrap();
    assert!(changed == 0 || store.watch(&"pods".into(), Scope::All, changed - 1).is_err());
    let lease = store.get(&key("leases", "a/l")).await.unwrap().unwrap();
    assert_eq!(lease.text, "held", "a renewal that was in memory only is gone, its lease is not");
    assert!(texts(&store, "events").await.iter().all(|event| event.ends_with("=happened")));
    let next = one(&store, put("pods", "a/next", "x", Expect::Absent)).await.unwrap();
    assert!(next > after.shown);
    let seen = watch.next().await.unwrap().unwrap();
    assert_eq!(seen.iter().map(|change| change.revision).collect::<Vec<_>>(), [next]);
    store.close().await;
}

#[tokio::test]
async fn files_cut_at_every_write_hold_all_that_was_acknowledged() {
    let place = Place { directory: tempfile::tempdir().unwrap(), backend: Kind::Sqlite };
    let store = place.open();
    let lease = one(&store, put("leases", "a/l", "held", Expect::Absent)).await.unwrap();
    let mut now = Moment { shown: lease, ..Moment::default() };
    now.read_files(&place);
    let (mut checkpoints, mut restarts) = (0, 0);
    for number in 0..24 {
        let before = now.clone();
        let mut ops = Vec::new();
        let size = if number % 3 == 2 { 60_000 } else { 300 };
        for name in [format!("a/{}", number % 7), format!("b/{}", number % 5)] {
            if number % 4 == 3 && now.entries.remove(&name).is_some() {
                ops.push(delete("pods", &name));
                continue;
            }
            let text = format!("{number:0size$}");
            ops.push(put("pods", &name, &text, Expect::Anything));
            now.entries.insert(name, text);
        }
        now.changed = store.commit(Txn { ops }).await.unwrap().revision;
        let mut renewal = put("leases", "a/l", "renewed", Expect::Present);
        if let Write::Put { renewal, .. } = &mut renewal.write {
            *renewal = true;
        }
        one(&store, renewal).await.unwrap();
        now.shown = one(&store, put("events", &format!("a/{number}"), "happened", Expect::Absent)).await.unwrap();
        now.read_files(&place);
        checkpoints += u32::from(now.database != before.database);
        restarts += u32::from(!before.wal.is_empty() && now.wal[..WAL_HEADER] != before.wal[..WAL_HEADER]);
        for (database, wal, certain) in images(&before, &now) {
            check(&before, &now, &database, &wal, certain).await;
        }
    }
    assert!(checkpoints >= 1, "the cuts reach into a checkpoint");
    assert!(restarts >= 1, "the cuts reach into a WAL begun anew");
}
