//! A container as the runtime is asked for it (upstream: kuberuntime/kuberuntime_container.go generateContainerConfig).

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::security;
use crate::environment::{ConfigError, expand};
use crate::labels;
use crate::pod::{PodExt, hash};
use crate::proto::cri as wire;
use crate::qos;
use crate::volumes::{Place, sub_path};

/// What beside the pod's own words decides a container's configuration.
pub struct Inputs<'a> {
    pub attempt: u32,
    pub environment: Vec<(String, String)>,
    pub volumes: &'a HashMap<String, Place>,
    /// The runtime's references of the images of image volumes, by the volume's name.
    pub images: &'a HashMap<String, String>,
    /// The container whose processes an ephemeral container sees.
    pub target: Option<String>,
    /// The pod's directory; hosts file and termination message are in it.
    pub directory: &'a Path,
    /// `None` leaves the container with its image's or the host's.
    pub hosts_file: Option<PathBuf>,
    /// Local seccomp profiles are below it.
    pub profiles: &'a Path,
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
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        mounts.push(mount(wanted, index, container, inputs, lookup)?);
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
            security_context: Some(security::container(pod, container, inputs.target.as_deref(), inputs.profiles)),
        }),
        ..Default::default()
    })
}

fn mount(
    wanted: &VolumeMount,
    index: usize,
    container: &Container,
    inputs: &Inputs,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<wire::Mount, ConfigError> {
    let name = &wanted.name;
    let missing =
        || ConfigError::Other(format!("cannot find volume {name:?} to mount into container {:?}", container.name));
    let place = inputs.volumes.get(name).ok_or_else(missing)?;
    let sub_path = sub_path(wanted, lookup)?;
    let target = &wanted.mount_path;
    let target = if target.starts_with('/') { target.clone() } else { format!("/{target}") };
    let read_only = wanted.read_only.unwrap_or(false);
    let (path, is_read_only) = match place {
        Place::Path { path, is_read_only } => (path, *is_read_only),
        Place::Image { .. } => {
            let image = inputs.images.get(name).ok_or_else(missing)?;
            let image = wire::ImageSpec { image: image.clone(), ..Default::default() };
            let mount = plain(&target, Path::new(""), read_only);
            return Ok(wire::Mount { image: Some(image), image_sub_path: sub_path, ..mount });
        }
    };
    let path = if sub_path.is_empty() {
        path.clone()
    } else {
        let bound = inputs.directory.join("volume-subpaths").join(name).join(&container.name).join(index.to_string());
        // The user is not told why: that would be news of the machine's file system.
        sub_path::bind(path, &sub_path, &bound).map_err(|error| {
            tracing::warn!(%error, volume = name, sub_path, container = container.name, "sub path");
            ConfigError::Other(format!(
                "failed to prepare subPath for volumeMount {name:?} of container {:?}",
                container.name
            ))
        })?;
        bound
    };
    let propagation = match wanted.mount_propagation.as_deref() {
        Some("Bidirectional") => wire::MountPropagation::PropagationBidirectional,
        Some("HostToContainer") => wire::MountPropagation::PropagationHostToContainer,
        _ => wire::MountPropagation::PropagationPrivate,
    };
    let mount = plain(&target, &path, read_only || is_read_only);
    Ok(wire::Mount { propagation: propagation as i32, ..mount })
}

fn sub_path(wanted: &VolumeMount, lookup: impl Fn(&str) -> Option<String>) -> Result<String, ConfigError> {
    let sub_path = match wanted.sub_path_expr.as_deref().filter(|expression| !expression.is_empty()) {
        Some(expression) => {
            let missing = RefCell::new(BTreeSet::new());
            let expanded = expand(expression, |name| {
                let value = lookup(name).filter(|value| !value.is_empty());
                if value.is_none() {
                    missing.borrow_mut().insert(name.to_owned());
                }
                value
            });
            let missing: Vec<String> = missing.into_inner().into_iter().collect();
            if !missing.is_empty() {
                return Err(ConfigError::Other(format!("missing value for {}", missing.join(", "))));
            }
            expanded
        }
        None => wanted.sub_path.clone().unwrap_or_default(),
    };
    if sub_path.starts_with('/') {
        return Err(ConfigError::Other(format!("error SubPath `{sub_path}` must not be an absolute path")));
    }
    if sub_path.split('/').any(|part| part == "..") {
        return Err(ConfigError::Other(format!("unable to provision SubPath `{sub_path}`: must not contain '..'")));
    }
    Ok(sub_path)
}

fn plain(target: &str, host: &Path, readonly: bool) -> wire::Mount {
    wire::Mount {
        container_path: target.to_owned(),
        host_path: host.to_string_lossy().into_owned(),
        readonly,
        ..Default::default()
    }
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
