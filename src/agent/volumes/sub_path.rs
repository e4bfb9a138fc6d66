//! subPath: a part of a volume, bound where only the node can change it (upstream: pkg/volume/util/subpath/subpath_linux.go).
//!
//! A pod writes its volumes, so a link in them may point anywhere, and may be changed at any moment: the part is opened so that
//! the kernel refuses to leave the volume, and what was opened, not its path, is bound.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// Binds `sub_path` of `volume` to `target`, in place of what an earlier run of the container had there; makes directories that
/// are missing, with the volume's own mode.
pub fn bind(volume: &Path, sub_path: &str, target: &Path) -> io::Result<()> {
    let part = open(volume, sub_path)?;
    match umount2(target, MntFlags::MNT_DETACH) {
        // Nothing is mounted there, or nothing is there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let is_directory = SFlag::from_bits_truncate(fstat(&part)?.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
    // A part that was a file may have become a directory.
    let _ = if is_directory { std::fs::remove_file(target) } else { std::fs::remove_dir(target) };
    if is_directory {
        std::fs::create_dir_all(target)?;
    } else {
        std::fs::File::create(target)?;
    }
    let source = format!("/proc/self/fd/{}", part.as_raw_fd());
    mount(Some(source.as_str()), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

/// The part itself; it never lies outside of the volume.
fn open(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let root = nix::fcntl::open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mode = std::fs::metadata(volume)?.permissions().mode() & 0o7777;
    let mut reached = std::path::PathBuf::from(".");
    let mut part = beneath(&root, &reached)?;
    for component in Path::new(sub_path).components() {
        let name = match component {
            Component::CurDir => continue,
            Component::Normal(name) => name,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{sub_path:?} leaves the volume"))),
        };
        reached.push(name);
        part = match beneath(&root, &reached) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mkdirat(&part, name, Mode::from_bits_truncate(mode))?;
                let made = beneath(&root, &reached)?;
                // Past the process's umask: the pod's group must be able to write.
                std::fs::set_permissions(
                    format!("/proc/self/fd/{}", made.as_raw_fd()),
                    std::fs::Permissions::from_mode(mode),
                )?;
                made
            }
            opened => opened?,
        };
    }
    Ok(part)
}

fn beneath(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_leads_out_of_the_volume() {
        let volume = tempfile::tempdir().unwrap();
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, volume.path().join(name)).unwrap();
        link("/etc", "absolute");
        link("../..", "up");
        std::fs::create_dir(volume.path().join("inner")).unwrap();
        link("inner", "within");
        for outside in ["absolute", "absolute/passwd", "up", "up/x", "../x", "/etc", "inner/../../x"] {
            assert!(open(volume.path(), outside).is_err(), "{outside}");
        }
        for inside in ["within", "inner", "./inner", "new/deep"] {
            assert!(open(volume.path(), inside).is_ok(), "{inside}");
        }
        assert!(volume.path().join("new/deep").is_dir());
    }

    #[test]
    fn what_was_opened_is_bound_and_bound_again() {
        let directory = tempfile::tempdir().unwrap();
        let (volume, target) = (directory.path().join("volume"), directory.path().join("bound/0"));
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(volume.join("a"), "first").unwrap();
        bind(&volume, "a", &target).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "first");
        std::fs::rename(volume.join("a"), volume.join("old")).unwrap();
        std::fs::write(volume.join("a"), "second").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "first");
        bind(&volume, "a", &target).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "second");
        std::fs::remove_file(volume.join("a")).unwrap();
        bind(&volume, "a", &target).unwrap();
        assert!(target.is_dir());
        super::super::remove_pod_directory(directory.path()).unwrap();
        assert!(!directory.path().exists());
    }
}
