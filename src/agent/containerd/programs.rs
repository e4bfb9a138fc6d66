//! The runtime's three programs: a bundle's directory of them, or those that the machine has.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::ContainerdError;

/// containerd starts its shim by PATH, and the shim runc.
const NEEDED: [&str; 3] = ["containerd", "containerd-shim-runc-v2", "runc"];
/// Where distributions put programs of the system; a service's PATH may lack some.
const SYSTEM: [&str; 6] = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// Where the runtime's programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    pub containerd: PathBuf,
    /// PATH of containerd and what it starts.
    pub path: OsString,
}

impl Programs {
    /// Those of `bundle`, which must hold all of them, so that no two versions are mixed; else those on PATH.
    pub fn find(bundle: Option<&Path>) -> Result<Self, ContainerdError> {
        let own = env::var_os("PATH").unwrap_or_default();
        let system = env::split_paths(&own).chain(SYSTEM.into_iter().map(PathBuf::from));
        Self::among(bundle, system.collect())
    }

    fn among(bundle: Option<&Path>, system: Vec<PathBuf>) -> Result<Self, ContainerdError> {
        if let Some(bundle) = bundle
            && let Some(program) = NEEDED.into_iter().find(|name| !bundle.join(name).is_file())
        {
            return Err(ContainerdError::Incomplete { directory: bundle.to_owned(), program });
        }
        let directories: Vec<PathBuf> = bundle.map(Path::to_owned).into_iter().chain(system).collect();
        let find = |name: &'static str| {
            let found = directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file());
            found.ok_or(ContainerdError::Missing(name))
        };
        for name in NEEDED {
            find(name)?;
        }
        let path = env::join_paths(&directories).unwrap_or_default();
        Ok(Self { containerd: find(NEEDED[0])?, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory_of(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| std::fs::write(directory.path().join(name), "").unwrap());
        directory
    }

    #[test]
    fn a_bundle_goes_before_the_machines_programs_and_is_whole() {
        let (bundle, system) = (directory_of(&NEEDED), directory_of(&NEEDED));
        let found = Programs::among(Some(bundle.path()), vec![system.path().to_owned()]).unwrap();
        assert_eq!(found.containerd, bundle.path().join("containerd"));
        assert!(env::split_paths(&found.path).eq([bundle.path(), system.path()]));

        std::fs::remove_file(bundle.path().join("runc")).unwrap();
        let error = Programs::among(Some(bundle.path()), vec![system.path().to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} holds no runc", bundle.path().display())), "{error}");
        let alone = Programs::among(None, vec![system.path().to_owned()]).unwrap();
        assert_eq!(alone.containerd, system.path().join("containerd"));
    }

    #[test]
    fn a_machine_without_a_runtime_is_told_what_to_install() {
        let system = directory_of(&["containerd", "containerd-shim-runc-v2"]);
        let error = Programs::among(None, vec![system.path().to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("runc is not installed: install containerd and runc"), "{error}");
    }
}
