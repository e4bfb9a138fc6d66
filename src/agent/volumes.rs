//! A pod's volumes: what each becomes on the host before its containers start, and their end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_base::task;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, KeyToPath, Pod, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::downward;
use crate::environment::{ConfigError, Context};
use crate::objects::{Kind, Reference};
use crate::pod::PodExt;

pub mod atomic_writer;
pub mod tokens;

use atomic_writer::{File, Files};
use tokens::Tokens;

/// Why a volume is not there: the event FailedMount says it.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
pub struct VolumeError {
    pub volume: String,
    pub reason: String,
}

/// Where each volume stands on the host, and when to look again (tokens age).
#[derive(Debug, Default)]
pub struct Mounted {
    pub paths: HashMap<String, PathBuf>,
    pub again: Option<Duration>,
}

/// The ConfigMaps and Secrets that a pod names, in volumes and in its environment.
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
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
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
    found
}

/// Brings every volume of the pod to its present state under `directory` (the pod's own).
pub async fn mount_all(directory: &Path, context: &Context<'_>, tokens: &Tokens) -> Result<Mounted, VolumeError> {
    let mut mounted = Mounted::default();
    for volume in context.pod.spec().volumes.iter().flatten() {
        let path = mount_one(directory, volume, context, tokens, &mut mounted.again).await;
        let path = path.map_err(|reason| VolumeError { volume: volume.name.clone(), reason })?;
        mounted.paths.insert(volume.name.clone(), path);
    }
    Ok(mounted)
}

async fn mount_one(
    directory: &Path,
    volume: &Volume,
    context: &Context<'_>,
    tokens: &Tokens,
    again: &mut Option<Duration>,
) -> Result<PathBuf, String> {
    let group =
        context.pod.spec().security_context.as_ref().and_then(|security| security.fs_group).map(|group| group as u32);
    let place = |plugin: &str| directory.join("volumes").join(format!("kubernetes.io~{plugin}")).join(&volume.name);
    if let Some(source) = &volume.host_path {
        return host_path(source).map_err(|error| error.to_string());
    }
    if let Some(source) = &volume.empty_dir {
        let path = place("empty-dir");
        let limit = source.size_limit.as_ref().and_then(|size| coracle_api::quantity::Quantity::parse(&size.0).ok());
        let memory = source.medium.as_deref() == Some("Memory");
        let limit = memory.then(|| limit.map_or(0, |limit| limit.value()));
        return blocking(move || empty_dir(&path, limit, group)).await;
    }
    let (plugin, files) = files(volume, context, tokens, again).await?;
    let path = place(plugin);
    blocking(move || {
        std::fs::create_dir_all(&path)?;
        if plugin == "projected" || plugin == "secret" {
            on_memory(&path, 0)?;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        atomic_writer::write(&path, &files, group)?;
        Ok(path)
    })
    .await
}

async fn blocking(work: impl FnOnce() -> io::Result<PathBuf> + Send + 'static) -> Result<PathBuf, String> {
    task::blocking(work).await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// The files of a volume whose content comes from the API.
async fn files(
    volume: &Volume,
    context: &Context<'_>,
    tokens: &Tokens,
    again: &mut Option<Duration>,
) -> Result<(&'static str, Files), String> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(0o644);
        object(&mut files, context, Kind::ConfigMap, &source.name, source.items.as_deref(), source.optional, mode)
            .await?;
        return Ok(("configmap", files));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(0o644);
        object(&mut files, context, Kind::Secret, name, source.items.as_deref(), source.optional, mode).await?;
        return Ok(("secret", files));
    }
    if let Some(source) = &volume.downward_api {
        downward_files(&mut files, context, source.items.as_deref(), source.default_mode.unwrap_or(0o644))?;
        return Ok(("downward-api", files));
    }
    let Some(projected) = &volume.projected else {
        return Err("coracle has no support for this type of volume yet".to_owned());
    };
    let mode = projected.default_mode.unwrap_or(0o644);
    for source in projected.sources.iter().flatten() {
        if let Some(source) = &source.config_map {
            object(&mut files, context, Kind::ConfigMap, &source.name, source.items.as_deref(), source.optional, mode)
                .await?;
        } else if let Some(source) = &source.secret {
            object(&mut files, context, Kind::Secret, &source.name, source.items.as_deref(), source.optional, mode)
                .await?;
        } else if let Some(source) = &source.downward_api {
            downward_files(&mut files, context, source.items.as_deref(), mode)?;
        } else if let Some(source) = &source.service_account_token {
            let token = tokens.get(context.pod, source).await.map_err(|error| error.to_string())?;
            *again = Some(again.map_or(token.refresh_in, |present| present.min(token.refresh_in)));
            // Readable by the one user that all containers run as; else by everyone in the pod.
            let spec = context.pod.spec();
            let has_group = spec.security_context.as_ref().is_some_and(|security| security.fs_group.is_some());
            let mode = if has_group { 0o640 } else { mode };
            files.insert(source.path.clone(), File { bytes: token.token.into_bytes(), mode: mode as u32 });
        } else {
            return Err("coracle has no support for this projection yet".to_owned());
        }
    }
    Ok(("projected", files))
}

async fn object(
    files: &mut Files,
    context: &Context<'_>,
    kind: Kind,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
) -> Result<(), String> {
    let optional = optional == Some(true);
    let namespace = context.pod.namespace();
    let data = context.objects.data(kind, namespace, name).await.map_err(|error| error.to_string())?;
    let Some(mut data) = data else {
        let missing = ConfigError::Missing { kind: kind.word(), name: name.to_owned() };
        return if optional { Ok(()) } else { Err(missing.to_string()) };
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        files.extend(data.into_iter().map(|(key, bytes)| (key, File { bytes, mode: mode as u32 })));
        return Ok(());
    };
    for item in items {
        match data.remove(&item.key) {
            Some(bytes) => {
                files.insert(item.path.clone(), File { bytes, mode: item.mode.unwrap_or(mode) as u32 });
            }
            None if optional => {}
            None => return Err(format!("references non-existent {} key: {}", kind.word(), item.key)),
        }
    }
    Ok(())
}

fn downward_files(
    files: &mut Files,
    context: &Context<'_>,
    items: Option<&[k8s_openapi::api::core::v1::DownwardAPIVolumeFile]>,
    mode: i32,
) -> Result<(), String> {
    let spec = context.pod.spec();
    for item in items.unwrap_or_default() {
        let value = if let Some(field) = &item.field_ref {
            downward::field(context.pod, &field.field_path, context.pod_addresses, context.node_addresses)
        } else if let Some(field) = &item.resource_field_ref {
            let name = field.container_name.as_deref().unwrap_or_default();
            let container = spec.containers.iter().find(|container| container.name == name);
            container.and_then(|container| {
                downward::resource(container, &field.resource, field.divisor.as_ref(), context.allocatable)
            })
        } else {
            None
        };
        let value = value.ok_or_else(|| format!("unsupported field for {}", item.path))?;
        files.insert(item.path.clone(), File { bytes: value.into_bytes(), mode: item.mode.unwrap_or(mode) as u32 });
    }
    Ok(())
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
            std::os::unix::fs::chown(path, None, Some(group))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o2777))?;
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

/// Upstream: pkg/volume/hostpath.
fn host_path(source: &HostPathVolumeSource) -> io::Result<PathBuf> {
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
