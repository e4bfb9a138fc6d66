//! A pod's volumes: what each becomes on the host before its containers start, and their end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_base::task;
use k8s_openapi::api::core::v1::{Pod, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::environment::Context;
use crate::objects::{Kind, Reference};
use crate::pod::PodExt;

pub mod atomic_writer;
mod host_path;
mod ownership;
mod projection;
pub mod sub_path;
pub mod tokens;
mod trust_anchors;

use ownership::{READ_ONLY, READ_WRITE};
use tokens::Tokens;

/// Why a volume is not there: the event FailedMount says it.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
pub struct VolumeError {
    pub volume: String,
    pub reason: String,
}

/// What a volume is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Path {
        path: PathBuf,
        /// What comes from the API is never written by a pod.
        is_read_only: bool,
    },
    /// An image that the runtime mounts itself (KEP-4639), pulled by this policy.
    Image { reference: String, policy: Option<String> },
}

/// Where each volume stands, by its name, and when to look again (tokens age).
#[derive(Debug, Default)]
pub struct Mounted {
    pub places: HashMap<String, Place>,
    pub again: Option<Duration>,
}

/// The ConfigMaps, Secrets and trust bundles that a pod names, in volumes and in its environment.
pub fn references(pod: &Pod) -> HashSet<Reference> {
    let mut found = HashSet::new();
    let mut add = |kind, name: &str| {
        found.insert(Reference { kind, namespace: pod.namespace().into(), name: name.into() });
    };
    let spec = pod.spec();
    for volume in spec.volumes.iter().flatten() {
        if let Some(source) = &volume.config_map {
            add(Kind::ConfigMap, &source.name);
        }
        if let Some(name) = volume.secret.as_ref().and_then(|source| source.secret_name.as_ref()) {
            add(Kind::Secret, name);
        }
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            if let Some(source) = &source.config_map {
                add(Kind::ConfigMap, &source.name);
            }
            if let Some(source) = &source.secret {
                add(Kind::Secret, &source.name);
            }
        }
    }
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(Kind::Secret, &secret.name);
    }
    for container in pod.all_containers() {
        for from in container.env_from.iter().flatten() {
            if let Some(source) = &from.config_map_ref {
                add(Kind::ConfigMap, &source.name);
            }
            if let Some(source) = &from.secret_ref {
                add(Kind::Secret, &source.name);
            }
        }
        for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            if let Some(selector) = &source.config_map_key_ref {
                add(Kind::ConfigMap, &selector.name);
            }
            if let Some(selector) = &source.secret_key_ref {
                add(Kind::Secret, &selector.name);
            }
        }
    }
    let projected = spec.volumes.iter().flatten().filter_map(|volume| volume.projected.as_ref());
    let mut sources = projected.flat_map(|projected| projected.sources.iter().flatten());
    if sources.any(|source| source.cluster_trust_bundle.is_some()) {
        found.insert(Reference::trust_bundles());
    }
    found
}

/// Brings every volume of the pod to its present state under `directory` (the pod's own).
pub async fn mount_all(directory: &Path, context: &Context<'_>, tokens: &Tokens) -> Result<Mounted, VolumeError> {
    let mut mounted = Mounted::default();
    for volume in context.pod.spec().volumes.iter().flatten() {
        let place = mount_one(directory, volume, context, tokens, &mut mounted.again).await;
        let place = place.map_err(|reason| VolumeError { volume: volume.name.clone(), reason })?;
        mounted.places.insert(volume.name.clone(), place);
    }
    Ok(mounted)
}

async fn mount_one(
    directory: &Path,
    volume: &Volume,
    context: &Context<'_>,
    tokens: &Tokens,
    again: &mut Option<Duration>,
) -> Result<Place, String> {
    let group =
        context.pod.spec().security_context.as_ref().and_then(|security| security.fs_group).map(|group| group as u32);
    let place = |plugin: &str| directory.join("volumes").join(format!("kubernetes.io~{plugin}")).join(&volume.name);
    if let Some(source) = &volume.host_path {
        let path = host_path::check(source).map_err(|error| error.to_string())?;
        return Ok(Place::Path { path, is_read_only: false });
    }
    if let Some(source) = &volume.image {
        let reference = source.reference.clone().unwrap_or_default();
        return Ok(Place::Image { reference, policy: source.pull_policy.clone() });
    }
    if let Some(source) = &volume.empty_dir {
        let path = place("empty-dir");
        let limit = source.size_limit.as_ref().and_then(|size| coracle_api::quantity::Quantity::parse(&size.0).ok());
        let memory = source.medium.as_deref() == Some("Memory");
        let limit = memory.then(|| limit.map_or(0, |limit| limit.value()));
        let path = blocking(move || empty_dir(&path, limit, group)).await?;
        return Ok(Place::Path { path, is_read_only: false });
    }
    let (plugin, files) = projection::files(volume, context, tokens, again).await?;
    let path = place(plugin);
    let path = blocking(move || {
        std::fs::create_dir_all(&path)?;
        if plugin == "projected" || plugin == "secret" {
            on_memory(&path, 0)?;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        // What is written anew has its writer's group; what is the same as before has the pod's already.
        if atomic_writer::write(&path, &files)?
            && let Some(group) = group
        {
            ownership::give(&path, group, READ_ONLY)?;
        }
        Ok(path)
    })
    .await?;
    Ok(Place::Path { path, is_read_only: true })
}

async fn blocking(work: impl FnOnce() -> io::Result<PathBuf> + Send + 'static) -> Result<PathBuf, String> {
    task::blocking(work).await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

fn empty_dir(path: &Path, memory_limit: Option<i64>, group: Option<u32>) -> io::Result<PathBuf> {
    let is_new = !path.exists();
    std::fs::create_dir_all(path)?;
    if let Some(limit) = memory_limit {
        on_memory(path, limit)?;
    }
    if is_new || memory_limit.is_some() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
        if let Some(group) = group {
            ownership::give(path, group, READ_WRITE)?;
        }
    }
    Ok(path.to_owned())
}

/// A tmpfs at `path`, unless something is mounted there; without limit for 0.
fn on_memory(path: &Path, limit: i64) -> io::Result<()> {
    if is_mounted(path)? {
        return Ok(());
    }
    let options = if limit > 0 { format!("size={limit}") } else { String::new() };
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).map_err(io::Error::from)
}

fn is_mounted(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(std::fs::metadata(path)?.dev() != std::fs::metadata(parent)?.dev())
}

/// Takes everything under a pod's directory away, mounts first. Only what is mounted below it is touched.
pub fn remove_pod_directory(directory: &Path) -> io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let below: BTreeMap<usize, String> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|path| path.replace("\\040", " "))
        .filter(|path| Path::new(path).starts_with(directory))
        .enumerate()
        .collect();
    for path in below.values().rev() {
        umount2(path.as_str(), MntFlags::MNT_DETACH).map_err(io::Error::from)?;
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
