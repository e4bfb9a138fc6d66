//! fsGroup: a volume's files belong to the pod's group (upstream: pkg/volume/volume_linux.go).

use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

/// What the group may do with files, at least.
pub(super) const READ_WRITE: u32 = 0o660;
pub(super) const READ_ONLY: u32 = 0o440;
/// Directories can be entered, and what is made in them is the group's too.
const DIRECTORY: u32 = 0o2110;

/// Gives everything from `path` down to `group`; children first, so that an interrupted change is seen at the top. Links are
/// changed themselves, never what they lead to.
pub(super) fn give(path: &Path, group: u32, mask: u32) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), group, mask)?;
        }
    }
    lchown(path, None, Some(group))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mask = if metadata.is_dir() { mask | DIRECTORY } else { mask };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(metadata.permissions().mode() & 0o7777 | mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_group_gets_what_it_needs_and_links_stay() {
        let volume = tempfile::tempdir().unwrap();
        let (file, link) = (volume.path().join("d/file"), volume.path().join("link"));
        std::fs::create_dir(volume.path().join("d")).unwrap();
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let outside = std::fs::metadata("/etc/passwd").unwrap();
        give(volume.path(), 4242, READ_ONLY).unwrap();
        let file = std::fs::metadata(file).unwrap();
        assert_eq!((file.gid(), file.mode() & 0o7777), (4242, 0o440));
        assert_eq!(std::fs::metadata(volume.path().join("d")).unwrap().mode() & 0o2110, 0o2110);
        assert_eq!(std::fs::symlink_metadata(&link).unwrap().gid(), 4242);
        let after = std::fs::metadata("/etc/passwd").unwrap();
        assert_eq!((after.gid(), after.mode()), (outside.gid(), outside.mode()));
    }
}
