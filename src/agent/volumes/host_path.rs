//! hostPath: a path of the machine's own, checked for its type (upstream: pkg/volume/hostpath/host_path.go).

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// The path, after the check (or the making) that its type asks for.
pub(super) fn check(source: &HostPathVolumeSource) -> io::Result<PathBuf> {
    let path = PathBuf::from(&source.path);
    let wrong = |what: &str| io::Error::other(format!("hostPath type check failed: {} is not {what}", source.path));
    let metadata = std::fs::metadata(&path).ok();
    let kind = metadata.as_ref().map(std::fs::Metadata::file_type);
    let is = |check: fn(&std::fs::FileType) -> bool| kind.as_ref().is_some_and(check);
    match source.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" => {
            if kind.is_none() {
                std::fs::create_dir_all(&path)?;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
            } else if !is(std::fs::FileType::is_dir) {
                return Err(wrong("a directory"));
            }
        }
        "FileOrCreate" => {
            if kind.is_none() {
                std::fs::write(&path, "")?;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
            } else if !is(std::fs::FileType::is_file) {
                return Err(wrong("a file"));
            }
        }
        "Directory" if !is(std::fs::FileType::is_dir) => return Err(wrong("a directory")),
        "File" if !is(std::fs::FileType::is_file) => return Err(wrong("a file")),
        "Socket" if !is(FileTypeExt::is_socket) => return Err(wrong("a socket")),
        "CharDevice" if !is(FileTypeExt::is_char_device) => return Err(wrong("a character device")),
        "BlockDevice" if !is(FileTypeExt::is_block_device) => return Err(wrong("a block device")),
        _ => {}
    }
    Ok(path)
}
