//! Replaces a volume's files all at once: `..data` is a link to a dated directory, and changing a link is atomic
//! (upstream: pkg/volume/util/atomic_writer.go, whose layout programs rely on).

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

/// What stands under a path of the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// The writer's where nothing is said.
    pub owner: Option<u32>,
}

impl File {
    pub fn new(bytes: Vec<u8>, mode: i32) -> Self {
        Self { bytes, mode: mode as u32, owner: None }
    }
}

/// Relative paths, none of which leaves the volume.
pub type Files = BTreeMap<String, File>;

const DATA: &str = "..data";

/// Says whether anything changed.
pub fn write(volume: &Path, files: &Files) -> io::Result<bool> {
    for path in files.keys() {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || path.is_empty() || path.starts_with("..") {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path: {path:?}")));
        }
    }
    let data = volume.join(DATA);
    if data.exists() && is_same(&data, files)? {
        return Ok(false);
    }
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let name = (0u32..).map(|number| format!("{stamp}.{number}")).find(|name| !volume.join(name).exists());
    let name = name.expect("numbers do not run out");
    let directory = volume.join(&name);
    std::fs::create_dir_all(&directory)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let target = directory.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&target, &file.bytes)?;
        if file.owner.is_some() {
            std::os::unix::fs::chown(&target, file.owner, None)?;
        }
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(file.mode))?;
    }
    let before = std::fs::read_link(&data).ok();
    let temporary = volume.join("..data_tmp");
    let _ = std::fs::remove_file(&temporary);
    symlink(&name, &temporary)?;
    std::fs::rename(&temporary, &data)?;
    link_names(volume, files)?;
    if let Some(before) = before {
        std::fs::remove_dir_all(volume.join(before))?;
    }
    Ok(true)
}

/// The user sees links through `..data`; those whose target is gone go too.
fn link_names(volume: &Path, files: &Files) -> io::Result<()> {
    let first = |path: &str| path.split('/').next().unwrap_or(path).to_owned();
    let wanted: std::collections::BTreeSet<String> = files.keys().map(|path| first(path)).collect();
    for entry in std::fs::read_dir(volume)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            std::fs::remove_file(volume.join(name))?;
        }
    }
    for name in wanted {
        let link = volume.join(&name);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(&name), &link)?;
        }
    }
    Ok(())
}

fn is_same(data: &Path, files: &Files) -> io::Result<bool> {
    let mut count = 0;
    let mut pending = vec![data.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            count += 1;
            let name = path.strip_prefix(data).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let Some(file) = files.get(&name) else { return Ok(false) };
            // The mode may have been widened for the pod's group.
            let mode = std::fs::metadata(&path)?.permissions().mode() & 0o7777;
            if mode & file.mode != file.mode || std::fs::read(&path)? != file.bytes {
                return Ok(false);
            }
        }
    }
    Ok(count == files.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Files {
        let file = |text: &str| File::new(text.as_bytes().to_vec(), 0o644);
        entries.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    #[test]
    fn files_change_together_and_vanish() {
        let volume = tempfile::tempdir().unwrap();
        let read = |path: &str| std::fs::read_to_string(volume.path().join(path)).unwrap();
        assert!(write(volume.path(), &files(&[("a", "1"), ("d/b", "2")])).unwrap());
        assert_eq!((read("a"), read("d/b")), ("1".into(), "2".into()));
        assert!(!write(volume.path(), &files(&[("a", "1"), ("d/b", "2")])).unwrap());
        assert!(write(volume.path(), &files(&[("a", "3")])).unwrap());
        assert_eq!(read("a"), "3");
        assert!(!volume.path().join("d").exists());
        let names = std::fs::read_dir(volume.path()).unwrap().count();
        assert_eq!(names, 3, "one dated directory, ..data and a");
    }

    #[test]
    fn no_path_leaves_the_volume() {
        let volume = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", "..x", ""] {
            assert!(write(volume.path(), &files(&[(path, "")])).is_err(), "{path}");
        }
    }
}
