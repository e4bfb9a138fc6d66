//! A container as the runtime is asked for it (upstream: kuberuntime/kuberuntime_container.go generateContainerConfig).

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::security;
use crate::environment::{ConfigError, expand};
use crate::labels;
use crate::pod::{PodExt, hash};
use crate::proto::cri as wire;
use crate::qos;

/// What beside the pod's own words decides a container's configuration.
pub struct Inputs<'a> {
    pub attempt: u32,
    pub environment: Vec<(String, String)>,
    pub volumes: &'a HashMap<String, PathBuf>,
    /// The pod's directory; hosts file and termination message are in it.
    pub directory: &'a Path,
    /// `None` leaves the container with its image's or the host's.
    pub hosts_file: Option<PathBuf>,
    pub node_memory: i64,
}

const MESSAGE_PATH: &str = "/dev/termination-log";

/// Makes the files that are mounted into the container too.
pub fn config(pod: &Pod, container: &Container, inputs: &Inputs) -> Result<wire::ContainerConfig, ConfigError> {
    let lookup = |name: &str| inputs.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let expanded = |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, lookup)).collect();
    let message_path =
        container.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(MESSAGE_PATH);
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        mounts.push(mount(wanted, inputs.volumes, lookup)?);
    }
    let has = |mounts: &[wire::Mount], path: &str| mounts.iter().any(|mount| mount.container_path == path);
    if let Some(hosts) = inputs.hosts_file.as_ref().filter(|_| !has(&mounts, "/etc/hosts")) {
        mounts.push(plain("/etc/hosts", hosts, false));
    }
    let message = message_file(inputs.directory, &container.name, inputs.attempt).map_err(io_error)?;
    mounts.push(plain(message_path, &message, false));
    let annotations = [
        (labels::CONTAINER_HASH, hash(container)),
        (labels::RESTART_COUNT, inputs.attempt.to_string()),
        (labels::TERMINATION_MESSAGE_PATH, message_path.to_owned()),
        (labels::TERMINATION_MESSAGE_POLICY, policy.to_owned()),
        (labels::POD_GRACE_PERIOD, pod.spec().termination_grace_period_seconds.unwrap_or(30).to_string()),
    ];
    let names = [
        (labels::CONTAINER_NAME, container.name.as_str()),
        (labels::POD_NAME, pod.name()),
        (labels::POD_NAMESPACE, pod.namespace()),
        (labels::POD_UID, pod.uid()),
    ];
    let image = container.image.clone().unwrap_or_default();
    Ok(wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata { name: container.name.clone(), attempt: inputs.attempt }),
        image: Some(wire::ImageSpec { image: image.clone(), user_specified_image: image, ..Default::default() }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs
            .environment
            .iter()
            .map(|(key, value)| wire::KeyValue { key: key.clone(), value: value.clone().into_bytes() })
            .collect(),
        mounts,
        labels: names.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
        log_path: format!("{}/{}.log", container.name, inputs.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(wire::LinuxContainerConfig {
            resources: Some(qos::resources(pod.spec(), container, inputs.node_memory)),
            security_context: Some(security::container(pod, container)),
        }),
        ..Default::default()
    })
}

fn mount(
    wanted: &VolumeMount,
    volumes: &HashMap<String, PathBuf>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<wire::Mount, ConfigError> {
    let missing = || ConfigError::Other(format!("cannot find volume {:?} to mount into container", wanted.name));
    let mut path = volumes.get(&wanted.name).ok_or_else(missing)?.clone();
    let sub_path = match &wanted.sub_path_expr {
        Some(expression) if !expression.is_empty() => expand(expression, lookup),
        _ => wanted.sub_path.clone().unwrap_or_default(),
    };
    if !sub_path.is_empty() {
        path = inside(&path, &sub_path).map_err(|error| {
            ConfigError::Other(format!(
                "failed to prepare subPath for volumeMount {:?} of container: {error}",
                wanted.name
            ))
        })?;
    }
    let propagation = match wanted.mount_propagation.as_deref() {
        Some("Bidirectional") => wire::MountPropagation::PropagationBidirectional,
        Some("HostToContainer") => wire::MountPropagation::PropagationHostToContainer,
        _ => wire::MountPropagation::PropagationPrivate,
    };
    let target = &wanted.mount_path;
    let target = if target.starts_with('/') { target.clone() } else { format!("/{target}") };
    Ok(wire::Mount { propagation: propagation as i32, ..plain(&target, &path, wanted.read_only.unwrap_or(false)) })
}

fn plain(target: &str, host: &Path, readonly: bool) -> wire::Mount {
    wire::Mount {
        container_path: target.to_owned(),
        host_path: host.to_string_lossy().into_owned(),
        readonly,
        ..Default::default()
    }
}

/// The directory or file of that name in the volume, made a directory when it is not there. A pod writes its volumes, so a link
/// in them may point anywhere: what it leads to must still be inside.
fn inside(volume: &Path, sub_path: &str) -> io::Result<PathBuf> {
    let outside = || io::Error::new(io::ErrorKind::InvalidInput, format!("{sub_path:?} leaves the volume"));
    if Path::new(sub_path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(outside());
    }
    let root = volume.canonicalize()?;
    let mut path = root.clone();
    for part in Path::new(sub_path).components() {
        let next = path.join(part);
        if std::fs::symlink_metadata(&next).is_err() {
            std::fs::create_dir(&next)?;
        }
        path = next.canonicalize()?;
        if !path.starts_with(&root) {
            return Err(outside());
        }
    }
    Ok(path)
}

fn message_file(directory: &Path, container: &str, attempt: u32) -> io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join("containers").join(container);
    std::fs::create_dir_all(&path)?;
    let file = path.join(format!("message-{attempt}"));
    std::fs::write(&file, "")?;
    // Whoever the container runs as may write it.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666))?;
    Ok(file)
}

fn io_error(error: io::Error) -> ConfigError {
    ConfigError::Other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_does_not_lead_out_of_the_volume() {
        let volume = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", volume.path().join("link")).unwrap();
        assert!(inside(volume.path(), "link").is_err());
        assert!(inside(volume.path(), "../x").is_err());
        assert!(inside(volume.path(), "a/b").unwrap().ends_with("a/b"));
    }
}
