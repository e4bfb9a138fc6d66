//! A container's environment: values, references, Services, and `$(NAME)` in them
//! (upstream: pkg/kubelet/kubelet_pods.go makeEnvironmentVariables, third_party/forked/golang/expansion).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, ResourceFieldSelector};

use crate::downward;
use crate::objects::{Kind, Objects};
use crate::pod::PodExt;
use crate::services::Services;

/// Why a container cannot be configured: `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{kind} \"{name}\" not found")]
    Missing { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key { key: String, kind: &'static str, namespace: String, name: String },
    #[error("{0}")]
    Other(String),
}

/// What references are resolved with.
pub struct Context<'a> {
    pub pod: &'a Pod,
    pub objects: &'a Objects,
    pub services: &'a Services,
    pub pod_addresses: &'a [String],
    pub node_addresses: &'a [String],
    pub allocatable: &'a downward::Allocatable,
}

/// Names and values in the order they were first set.
pub async fn environment(container: &Container, context: &Context<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let pod = context.pod;
    let namespace = pod.namespace();
    let services = context.services.variables(namespace, pod.spec().enable_service_links.unwrap_or(true));
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(source), _) => (Kind::ConfigMap, &source.name, source.optional),
            (None, Some(source)) => (Kind::Secret, &source.name, source.optional),
            (None, None) => continue,
        };
        let Some(data) = context.objects.data(kind, namespace, name).await? else {
            if optional == Some(true) {
                continue;
            }
            return Err(ConfigError::Missing { kind: kind.word(), name: name.clone() });
        };
        values.extend(data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), text(value))));
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => match reference(source, container, context).await? {
                Some(value) => value,
                None => continue,
            },
            None => {
                let lookup = |name: &str| values.get(name).or_else(|| services.get(name)).cloned();
                expand(variable.value.as_deref().unwrap_or_default(), lookup)
            }
        };
        values.insert(variable.name.clone(), value);
    }
    for (name, value) in services {
        values.entry(name).or_insert(value);
    }
    Ok(values.into_iter().collect())
}

/// `None` for an optional reference to what is not there.
async fn reference(
    source: &EnvVarSource,
    container: &Container,
    context: &Context<'_>,
) -> Result<Option<String>, ConfigError> {
    if let Some(field) = &source.field_ref {
        return downward::field(context.pod, &field.field_path, context.pod_addresses, context.node_addresses)
            .map(Some)
            .ok_or_else(|| ConfigError::Other(format!("unsupported fieldPath: {}", field.field_path)));
    }
    if let Some(field) = &source.resource_field_ref {
        return resource(field, container, context).map(Some);
    }
    let (kind, name, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(selector), _) => (Kind::ConfigMap, &selector.name, &selector.key, selector.optional),
        (None, Some(selector)) => (Kind::Secret, &selector.name, &selector.key, selector.optional),
        (None, None) => return Err(ConfigError::Other("unknown source of a value".to_owned())),
    };
    let namespace = context.pod.namespace();
    let optional = optional == Some(true);
    let Some(mut data) = context.objects.data(kind, namespace, name).await? else {
        return if optional { Ok(None) } else { Err(ConfigError::Missing { kind: kind.word(), name: name.clone() }) };
    };
    match data.remove(key) {
        Some(value) => Ok(Some(text(value))),
        None if optional => Ok(None),
        None => Err(ConfigError::Key {
            key: key.clone(),
            kind: kind.title(),
            namespace: namespace.to_owned(),
            name: name.clone(),
        }),
    }
}

fn resource(
    field: &ResourceFieldSelector,
    container: &Container,
    context: &Context<'_>,
) -> Result<String, ConfigError> {
    let named = field.container_name.as_deref().filter(|name| !name.is_empty());
    let spec = context.pod.spec();
    let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let container = named.map_or(Some(container), |name| all().find(|container| container.name == name));
    let container =
        container.ok_or_else(|| ConfigError::Other(format!("container {} not found", named.unwrap_or_default())))?;
    downward::resource(container, &field.resource, field.divisor.as_ref(), context.allocatable)
        .ok_or_else(|| ConfigError::Other(format!("unsupported container resource : {}", field.resource)))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Replaces `$(NAME)`; `$$` is a dollar, and a reference to nothing stays as it is.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        result.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => result.push_str(&value),
                None => result.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$$(A)", "$$(A)"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }
}
