//! Partitions that live on disk but are not durable (Events): a second SQLite file, written without fsync, expiring by time.
//!
//! In memory is one small row per entry; bytes are read from the file when they are asked for.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::datastore::{BatchOp, OpenError};
use crate::entry::{Entry, Frame, Key};
use crate::snapshot::{Entries, Extent, ReadError};
use crate::sqlite::{decode, encode, open_error};

/// The writer's half: index, expiry and the writing connection.
pub(crate) struct Volatile {
    connection: Connection,
    revisions: BTreeMap<Key, u64>,
    /// By time of expiry; rows whose revision is no longer the key's are skipped.
    expiries: VecDeque<(u64, Key, u64)>,
    lifetime: Duration,
}

/// The readers' half.
pub(crate) struct VolatileReader {
    connection: Mutex<Connection>,
}

/// When a deletion of expired entries failed.
const RETRY: Duration = Duration::from_secs(60);

fn milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -128)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, rev INTEGER NOT NULL, expires INTEGER NOT NULL, val BLOB NOT NULL)",
    )?;
    Ok(connection)
}

impl Volatile {
    /// Opens both halves; a file that a crash left damaged is begun anew.
    pub(crate) fn open(path: &Path, lifetime: Duration) -> Result<(Self, VolatileReader), OpenError> {
        let fail = |error| open_error(path, error);
        let mut opened = connect(path).and_then(|connection| Ok((read_index(&connection)?, connection)));
        let is_damaged = |error: &rusqlite::Error| {
            matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        };
        if opened.as_ref().is_err_and(is_damaged) {
            tracing::warn!(path = %path.display(), "volatile store is damaged, beginning a new one");
            remove(path);
            opened = connect(path).map(|connection| (Vec::new(), connection));
        }
        let (mut index, connection) = opened.map_err(fail)?;
        index.sort_by_key(|(expires, _, _)| *expires);
        let revisions = index.iter().map(|(_, key, revision)| (key.clone(), *revision)).collect();
        let reader = VolatileReader { connection: Mutex::new(connect(path).map_err(fail)?) };
        Ok((Self { connection, revisions, expiries: index.into(), lifetime }, reader))
    }

    pub(crate) fn revision(&self, key: &Key) -> Option<u64> {
        self.revisions.get(key).copied()
    }

    pub(crate) fn newest(&self) -> u64 {
        self.revisions.values().copied().max().unwrap_or(0)
    }

    pub(crate) fn read(&self, key: &Key) -> Option<(Frame, u64)> {
        read_one(&self.connection, key).ok().flatten()
    }

    /// Writes the ops in one transaction.
    pub(crate) fn apply(&mut self, ops: &[BatchOp]) -> Result<(), String> {
        let expires = milliseconds() + self.lifetime.as_millis() as u64;
        write(&mut self.connection, ops, expires).map_err(|error| error.to_string())?;
        for op in ops {
            if op.frame.is_some() {
                self.revisions.insert(op.key.clone(), op.revision);
                self.expiries.push_back((expires, op.key.clone(), op.revision));
            } else {
                self.revisions.remove(&op.key);
            }
        }
        Ok(())
    }

    /// How long until something expires; `None` when nothing can.
    pub(crate) fn next_expiry(&mut self) -> Option<Duration> {
        while let Some((expires, key, revision)) = self.expiries.front() {
            if self.revisions.get(key) == Some(revision) {
                return Some(Duration::from_millis(expires.saturating_sub(milliseconds())));
            }
            self.expiries.pop_front();
        }
        None
    }

    /// Keys whose time is over.
    pub(crate) fn expired(&mut self) -> Vec<Key> {
        let now = milliseconds();
        let mut keys = Vec::new();
        while self.expiries.front().is_some_and(|(expires, _, _)| *expires <= now) {
            let Some((_, key, revision)) = self.expiries.pop_front() else { break };
            if self.revisions.get(&key) == Some(&revision) {
                keys.push(key);
            }
        }
        keys
    }
}

impl Volatile {
    /// Keys that should have expired and are still here (a full disk) get another chance later, not at once.
    pub(crate) fn retry_expiry(&mut self, keys: Vec<Key>) {
        for key in keys {
            if let Some(revision) = self.revision(&key) {
                let later = milliseconds() + RETRY.as_millis() as u64;
                // The queue is in order of time.
                let place = self.expiries.partition_point(|(expires, _, _)| *expires <= later);
                self.expiries.insert(place, (later, key, revision));
            }
        }
    }
}

impl VolatileReader {
    pub(crate) fn get<E: Entry>(&self, key: &Key) -> Result<Option<E>, ReadError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let row = read_one(&connection, key).map_err(|error| ReadError::Volatile(error.to_string()))?;
        row.map(|(frame, revision)| E::load(key, frame, revision)).transpose().map_err(ReadError::Volatile)
    }

    /// Entries of a partition, and the last name that was looked at where there may be more.
    pub(crate) fn extent<E: Entry>(&self, partition: &Arc<str>, extent: Extent<'_>) -> Result<Read<E>, ReadError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        read_extent(&connection, partition, extent).map_err(|error| ReadError::Volatile(error.to_string()))
    }
}

type Read<E> = (Entries<E>, Option<Arc<str>>);

fn text(key: &Key) -> String {
    format!("{}|{}", key.partition, key.name)
}

fn read_index(connection: &Connection) -> rusqlite::Result<Vec<(u64, Key, u64)>> {
    let mut statement = connection.prepare("SELECT expires, key, rev FROM kv")?;
    let rows = statement.query_map([], |row| {
        let text: String = row.get(1)?;
        let (partition, name) = text.split_once('|').unwrap_or(("", &text));
        let key = Key { partition: partition.into(), name: name.into() };
        Ok((row.get::<_, i64>(0)? as u64, key, row.get::<_, i64>(2)? as u64))
    })?;
    rows.collect()
}

fn read_one(connection: &Connection, key: &Key) -> rusqlite::Result<Option<(Frame, u64)>> {
    let mut statement = connection.prepare_cached("SELECT rev, val FROM kv WHERE key = ?1")?;
    let row =
        statement.query_row([text(key)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))).optional()?;
    Ok(row.and_then(|(revision, value)| Some((decode(&value)?, revision as u64))))
}

fn read_extent<E: Entry>(
    connection: &Connection,
    partition: &Arc<str>,
    extent: Extent<'_>,
) -> rusqlite::Result<Read<E>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, rev, val FROM kv WHERE key > ?1 AND key >= ?2 AND key < ?3 ORDER BY key LIMIT ?4",
    )?;
    let (after, first) = (format!("{partition}|{}", extent.after), format!("{partition}|{}", extent.prefix));
    // No name has a character after U+10FFFF: the range holds exactly what begins with `first`.
    let last = format!("{first}\u{10ffff}");
    let limit = i64::try_from(extent.limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![after, first, last, limit])?;
    let (mut entries, mut end, mut count) = (Entries::new_sync(), None, 0);
    while let Some(row) = rows.next()? {
        let name: Arc<str> = Arc::from(&row.get_ref(0)?.as_str()?[partition.len() + 1..]);
        let key = Key { partition: partition.clone(), name: name.clone() };
        count += 1;
        end = Some(name.clone());
        let Some(frame) = decode(row.get_ref(2)?.as_blob()?) else { continue };
        if let Ok(entry) = E::load(&key, frame, row.get::<_, i64>(1)? as u64) {
            entries.insert_mut(name, entry);
        }
    }
    Ok((entries, end.filter(|_| count == extent.limit)))
}

fn write(connection: &mut Connection, ops: &[BatchOp], expires: u64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put =
            transaction.prepare_cached("INSERT OR REPLACE INTO kv (key, rev, expires, val) VALUES (?1, ?2, ?3, ?4)")?;
        let mut delete = transaction.prepare_cached("DELETE FROM kv WHERE key = ?1")?;
        for op in ops {
            let key = text(&op.key);
            match &op.frame {
                Some(frame) => put.execute(params![key, op.revision as i64, expires as i64, encode(frame)])?,
                None => delete.execute([key])?,
            };
        }
    }
    transaction.commit()
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(PathBuf::from(name));
    }
}
