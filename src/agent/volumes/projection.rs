//! The files of volumes whose content comes from the API: configMap, secret, downwardAPI, projected, tokens, trust bundles
//! (upstream: pkg/volume/{configmap,secret,downwardapi,projected}).

use std::time::Duration;

use k8s_openapi::api::core::v1::{KeyToPath, PodSpec, Volume};

use super::atomic_writer::{File, Files};
use super::tokens::Tokens;
use super::trust_anchors;
use crate::downward;
use crate::environment::{ConfigError, Context};
use crate::objects::Kind;
use crate::pod::PodExt;

/// The files of a volume whose content comes from the API.
pub(super) async fn files(
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
            files.insert(source.path.clone(), owned(context, source.user, token.token.into_bytes(), mode));
        } else if let Some(source) = &source.cluster_trust_bundle {
            let anchors = trust_anchors::read(context.objects, source).await?;
            files.insert(source.path.clone(), owned(context, None, anchors, mode));
        } else {
            return Err("coracle has no support for this projection yet".to_owned());
        }
    }
    Ok(("projected", files))
}

/// A file that is its owner's alone, where there is one; fsGroup opens it to the group.
fn owned(context: &Context<'_>, user: Option<i64>, bytes: Vec<u8>, mode: i32) -> File {
    let spec = context.pod.spec();
    let has_group = spec.security_context.as_ref().is_some_and(|security| security.fs_group.is_some());
    let owner = user.or_else(|| only_user(spec)).map(|user| user as u32);
    File { bytes, mode: if owner.is_some() || has_group { 0o600 } else { mode as u32 }, owner }
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
        files.extend(data.into_iter().map(|(key, bytes)| (key, File::new(bytes, mode))));
        return Ok(());
    };
    for item in items {
        match data.remove(&item.key) {
            Some(bytes) => {
                files.insert(item.path.clone(), File::new(bytes, item.mode.unwrap_or(mode)));
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
        files.insert(item.path.clone(), File::new(value.into_bytes(), item.mode.unwrap_or(mode)));
    }
    Ok(())
}

/// The user as whom every container runs, where that is one and the same (upstream: pkg/volume/util FsUserFrom).
fn only_user(spec: &PodSpec) -> Option<i64> {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let own = |container: &k8s_openapi::api::core::v1::Container| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod)
    };
    let mut users = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(own);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}
