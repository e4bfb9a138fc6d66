//! Prints commits per second of the SQLite store at 1, 16 and 64 in flight: `throughput [directory] [commits]`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle_store::{Entry, Expect, Frame, Key, Op, Options, Sqlite, Store, Txn, Write};

/// An entry as the API server's: the bytes with their revision.
#[derive(Clone)]
struct Object {
    bytes: Bytes,
    revision: u64,
}

impl Entry for Object {
    type Draft = ();

    fn commit(_: &Key, frame: &Frame, (): (), revision: u64) -> Self {
        Self { bytes: frame.spliced(revision), revision }
    }

    fn load(_: &Key, frame: Frame, revision: u64) -> Result<Self, String> {
        Ok(Self { bytes: frame.spliced(revision), revision })
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn size(&self) -> usize {
        self.bytes.len()
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let own = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| own.path().to_owned(), Into::into);
    let commits: u32 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let options =
        Options { volatile: Vec::new(), volatile_path: directory.join("events.db"), lifetime: Duration::ZERO };
    let store: Store<Object> = Store::open(Box::new(Sqlite::open(&directory.join("state.db"))?), options)?;
    for in_flight in [1, 16, 64] {
        let begun = Instant::now();
        let next = Arc::new(AtomicU32::new(0));
        let tasks: Vec<_> = (0..in_flight)
            .map(|_| coracle_base::task::spawn("committer", committer(store.clone(), next.clone(), in_flight, commits)))
            .collect();
        for task in tasks {
            task.await?;
        }
        let rate = f64::from(commits) / begun.elapsed().as_secs_f64();
        println!("{in_flight:>3} in flight: {rate:>8.0} commits/s of 1 KiB");
    }
    store.close().await;
    Ok(())
}

async fn committer(store: Store<Object>, next: Arc<AtomicU32>, in_flight: u32, commits: u32) {
    let partition: Arc<str> = "configmaps".into();
    let bytes = Bytes::from(vec![b'x'; 1024]);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= commits {
            return;
        }
        let key = Key { partition: partition.clone(), name: format!("default/{in_flight}-{number}").into() };
        let frame = Frame { bytes: bytes.clone(), splice: 0, writer: 1 };
        let write = Write::Put { frame, draft: (), renewal: false };
        let txn = Txn { ops: vec![Op { key, expect: Expect::Anything, write }] };
        store.commit(txn).await.expect("the directory of a measurement can be written");
    }
}
