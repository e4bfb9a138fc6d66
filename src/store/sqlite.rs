//! The default datastore: one SQLite file in WAL mode, an fsync per commit.
//!
//! Settings are those that won in measurements: an ordinary rowid table, a checkpoint every 200 pages, never truncating the WAL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::datastore::{Batch, CommitError, Datastore, Loaded, OpenError};
use crate::entry::{Frame, Key};

/// Raised when the tables change in a way that older code cannot read.
const FORMAT: i64 = 1;

const TABLES: &str = "
    CREATE TABLE kv (key TEXT PRIMARY KEY, rev INTEGER NOT NULL, val BLOB NOT NULL);
    CREATE TABLE last_change (partition TEXT PRIMARY KEY, rev INTEGER NOT NULL);
    CREATE TABLE revision (one INTEGER PRIMARY KEY CHECK (one = 1), ceiling INTEGER NOT NULL, closed_at INTEGER);
    INSERT INTO revision VALUES (1, 0, 0);
";

pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl Sqlite {
    /// Opens or makes the file; holds its lock until dropped.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let fail = |error| open_error(path, error);
        let connection = Connection::open(path).map_err(fail)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(fail)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        connection.pragma_update(None, "wal_autocheckpoint", 200).map_err(fail)?;
        connection.pragma_update(None, "cache_size", -256).map_err(fail)?;
        connection.pragma_update(None, "temp_store", "MEMORY").map_err(fail)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fail)?;
        match found {
            0 => {
                let make = format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;");
                connection.execute_batch(&make).map_err(fail)?;
            }
            FORMAT => {
                // Takes the lock now, so that a second server is refused at its start.
                connection.execute_batch("BEGIN IMMEDIATE; COMMIT;").map_err(fail)?;
            }
            found => return Err(OpenError::Version { path: path.display().to_string(), found, known: FORMAT }),
        }
        Ok(Self { connection, path: path.to_owned() })
    }

    fn read(&self) -> rusqlite::Result<Loaded> {
        let mut loaded = Loaded::default();
        let mut statement = self.connection.prepare("SELECT key, rev, val FROM kv")?;
        let mut rows = statement.query([])?;
        let mut partition: Arc<str> = Arc::from("");
        while let Some(row) = rows.next()? {
            let text = row.get_ref(0)?.as_str()?;
            let (own, name) = text.split_once('|').unwrap_or(("", text));
            if *own != *partition {
                partition = Arc::from(own);
            }
            let frame = decode(row.get_ref(2)?.as_blob()?).ok_or(rusqlite::Error::InvalidQuery)?;
            loaded.entries.push((
                Key { partition: partition.clone(), name: Arc::from(name) },
                frame,
                row.get::<_, i64>(1)? as u64,
            ));
        }
        let mut statement = self.connection.prepare("SELECT partition, rev FROM last_change")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            loaded.last_changes.insert(Arc::from(row.get_ref(0)?.as_str()?), row.get::<_, i64>(1)? as u64);
        }
        let revision = "SELECT ceiling, closed_at FROM revision";
        let row =
            self.connection.query_row(revision, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)));
        if let Some((ceiling, closed_at)) = row.optional()? {
            loaded.ceiling = ceiling as u64;
            loaded.closed_at = closed_at.map(|revision| revision as u64);
        }
        Ok(loaded)
    }

    fn apply(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut put = transaction.prepare_cached(
                "INSERT INTO kv (key, rev, val) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET rev = ?2, val = ?3",
            )?;
            let mut delete = transaction.prepare_cached("DELETE FROM kv WHERE key = ?1")?;
            let mut changed =
                transaction.prepare_cached("INSERT OR REPLACE INTO last_change (partition, rev) VALUES (?1, ?2)")?;
            for op in &batch.ops {
                let key = format!("{}|{}", op.key.partition, op.key.name);
                match &op.frame {
                    Some(frame) => {
                        put.execute(params![key, op.revision as i64, encode(frame)])?;
                    }
                    None => {
                        delete.execute([&key])?;
                        changed.execute(params![&*op.key.partition, op.revision as i64])?;
                    }
                }
            }
        }
        transaction.commit()
    }
}

impl Datastore for Sqlite {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        self.read().map_err(|error| open_error(&self.path, error))
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        self.apply(batch).map_err(commit_error)
    }

    fn reserve(&mut self, ceiling: u64) -> Result<(), CommitError> {
        let statement = "UPDATE revision SET ceiling = ?1, closed_at = NULL";
        self.connection.execute(statement, [ceiling as i64]).map(drop).map_err(commit_error)
    }

    fn close(&mut self, revision: u64) -> Result<(), CommitError> {
        let statement = "UPDATE revision SET closed_at = ?1";
        self.connection.execute(statement, [revision as i64]).map(drop).map_err(commit_error)
    }
}

/// Splice and writer, four bytes each, then the object.
pub(crate) fn encode(frame: &Frame) -> Vec<u8> {
    let mut value = Vec::with_capacity(frame.bytes.len() + 8);
    value.extend_from_slice(&frame.splice.to_le_bytes());
    value.extend_from_slice(&frame.writer.to_le_bytes());
    value.extend_from_slice(&frame.bytes);
    value
}

pub(crate) fn decode(value: &[u8]) -> Option<Frame> {
    let word = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?));
    let (splice, writer) = (word(0)?, word(4)?);
    (splice as usize <= value.len() - 8).then(|| Frame { bytes: value[8..].to_vec().into(), splice, writer })
}

fn commit_error(error: rusqlite::Error) -> CommitError {
    let why = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => CommitError::Full(why),
        Some(ErrorCode::ReadOnly | ErrorCode::DatabaseBusy | ErrorCode::TooBig | ErrorCode::OutOfMemory) => {
            CommitError::NotWritten(why)
        }
        // A failed fsync may or may not have reached the disk.
        _ => CommitError::Unknown(why),
    }
}

pub(crate) fn open_error(path: &Path, error: rusqlite::Error) -> OpenError {
    let (path, why) = (path.display().to_string(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::ReadOnly { path, why }
        }
        Some(ErrorCode::DiskFull) => OpenError::Full { path },
        _ => OpenError::Damaged { path, why },
    }
}
