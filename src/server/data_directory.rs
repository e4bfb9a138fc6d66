//! The data directory: made, locked and of a format we know; secrets in it are written whole and for root only.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// What this coracle writes; changed only with a migration.
const FORMAT: &str = "coracle 1";

/// An open data directory. The lock ends with it, also when the process is killed.
pub struct DataDirectory {
    root: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory where it is missing, and takes it for this process.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let server = root.join("server");
        for part in [root, &server] {
            make_private(part)
                .map_err(Error::setup("the data directory cannot be used: choose another with --data-dir"))?;
        }
        let lock = lock(root, &server.join("lock"))?;
        check_format(root, &server.join("format"))?;
        for part in ["tls", "db", "manifests"] {
            make_private(&server.join(part))?;
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path under `server/`.
    pub fn server(&self, name: &str) -> PathBuf {
        self.root.join("server").join(name)
    }
}

fn make_private(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(Error::file("create the directory", path))
}

fn lock(root: &Path, path: &Path) -> Result<File, Error> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = open.map_err(Error::file("write", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let holder = if pid.is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) };
            return Err(Error::InUse { path: root.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(Error::file("lock", path)(source)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(Error::file("write", path))?;
    Ok(file)
}

fn check_format(root: &Path, path: &Path) -> Result<(), Error> {
    match fs::read_to_string(path) {
        Ok(found) if found.trim() == FORMAT => Ok(()),
        Ok(found) => Err(Error::Format { path: root.to_owned(), found: found.trim().to_owned(), known: FORMAT }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => write_private(path, format!("{FORMAT}\n").as_bytes()),
        Err(source) => Err(Error::file("read", path)(source)),
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    write_with_mode(path, content, 0o600)
}

/// As `write_private`, with the given permission bits.
pub fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&draft);
        Error::file("write", path)(source)
    })
}

/// The file's content, or `None` when there is none.
pub fn read_optional(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::file("read", path)(source)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_is_held_by_one_server() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(directory.path()).unwrap();
        let refused = DataDirectory::open(directory.path()).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by another server (pid {})", std::process::id())), "{refused}");
        drop(first);
        DataDirectory::open(directory.path()).unwrap();
    }

    #[test]
    fn another_format_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(directory.path()).unwrap());
        fs::write(directory.path().join("server/format"), "coracle 99\n").unwrap();
        let refused = DataDirectory::open(directory.path()).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("was written in format \"coracle 99\""), "{refused}");
    }

    #[test]
    fn secrets_are_private_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left behind");
    }
}
