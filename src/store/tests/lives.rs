//! A process killed at every write that it makes to its files, from an empty directory on: the file's creation, the reserve, commits, and a
//! clean end. What it acknowledged before its end is there, and no revision comes twice.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// Names the child and its directory.
const DIRECTORY: &str = "CORACLE_STORE_LIFE";
/// System calls that change what a later process finds. They are counted by thread.
const WRITES: &str = "pwrite64,write,ftruncate,fdatasync,fsync,unlink";
/// More than a life has.
const NEVER: u32 = 60_000;

/// The child: one whole life, told over a socket, for that is no write. Does nothing in the parent's run of all tests.
#[tokio::test]
async fn life() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let parent = UnixDatagram::unbound().unwrap();
    parent.connect(directory.join("said")).unwrap();
    let say = |text: String| assert_eq!(parent.send(text.as_bytes()).unwrap(), text.len());
    let backend = Sqlite::open(&directory.join("state.db")).unwrap();
    let store: Store<Text> = Store::open(Box::new(backend), Options::default()).unwrap();
    say(format!("revision {}", store.revision()));
    for number in 0..2 {
        let name = format!("a/{}-{number}", std::process::id());
        let revision = one(&store, put("pods", &name, &"x".repeat(3000), Expect::Absent)).await.unwrap();
        say(format!("committed {name} {revision}"));
    }
    store.close().await;
    say("closed".to_owned());
}

/// What lives on one directory said before their end.
#[derive(Default)]
struct Said {
    names: BTreeSet<String>,
    highest: u64,
}

/// Runs a life that ends at the write number `end` of one of its threads; `true` when it came to its own end before.
fn live(directory: &Path, end: u32, said: &mut Said) -> bool {
    let socket = directory.join("said");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let status = Command::new("strace")
        .args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={WRITES}")])
        .args(["-e", &format!("inject={WRITES}:signal=KILL:when={end}")])
        .arg(std::env::current_exe().unwrap())
        .args(["tests::lives::life", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("strace is installed by tests/run");
    let mut buffer = [0; 256];
    let mut closed = false;
    while let Ok(length) = listener.recv(&mut buffer) {
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["committed", name, revision] => {
                said.names.insert(name.to_owned());
                let revision = revision.parse().unwrap();
                assert!(revision > said.highest, "revision {revision} comes again");
                said.highest = revision;
            }
            ["revision", revision] => assert!(revision.parse::<u64>().unwrap() >= said.highest),
            _ => closed = true,
        }
    }
    status.success() && closed
}

async fn check(directory: &Path, said: &Said) {
    let backend = Sqlite::open(&directory.join("state.db")).unwrap();
    let store: Store<Text> = Store::open(Box::new(backend), Options::default()).unwrap();
    assert!(store.revision() >= said.highest);
    let snapshot = store.snapshot(&"pods".into()).await.unwrap();
    for name in &said.names {
        assert!(snapshot.get(name).is_some(), "{name} was acknowledged");
    }
    assert!(snapshot.range("", "").all(|(_, entry)| entry.text.len() == 3000));
    store.close().await;
}

#[tokio::test]
async fn a_process_killed_at_any_write_loses_nothing_that_it_acknowledged() {
    for lives_before in [0, 1] {
        let (mut end, mut acknowledged) = (0, 0);
        loop {
            end += 1;
            let directory = tempfile::tempdir().unwrap();
            let mut said = Said::default();
            for _ in 0..lives_before {
                assert!(live(directory.path(), NEVER, &mut said), "a whole life");
            }
            let whole = live(directory.path(), end, &mut said);
            acknowledged += said.names.len();
            check(directory.path(), &said).await;
            // What a killed life leaves is where another begins.
            live(directory.path(), end, &mut said);
            check(directory.path(), &said).await;
            if whole {
                break;
            }
        }
        assert!(end > 8 && acknowledged > 0, "{end} writes, {acknowledged} commits");
    }
}
