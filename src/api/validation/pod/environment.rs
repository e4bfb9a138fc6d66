//! Environment variables and the downward API. Upstream: pkg/apis/core/validation ValidateEnv, ValidateEnvFrom.

use crate::causes::Causes;
use crate::names;
use crate::node::Node;
use crate::validation::checks::{backsteps, each};

/// Field paths that a variable can have as its value.
const VARIABLE_PATHS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Field paths that a file of a volume can hold.
const FILE_PATHS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Other field paths that are known at all.
const KNOWN_PATHS: &[&str] = &["spec.restartPolicy", "spec.schedulerName", "status.phase"];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn variables(variables: Node<'_, '_>, causes: &mut Causes) {
    for variable in variables.items() {
        variable.get("name").need_name(names::environment_variable, causes);
        let source = variable.get("valueFrom");
        if source.is_absent() {
            continue;
        }
        let mut count = 0;
        for (kind, rule) in SOURCES {
            if source.get(kind).is_present() {
                count += 1;
                rule(source.get(kind), causes);
            }
        }
        let why = match (count, variable.get("value").is_empty()) {
            (0, _) => {
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            }
            (_, false) => "may not be specified when `value` is not empty",
            (2.., true) => "may not have more than one field specified at a time",
            _ => continue,
        };
        causes.invalid(source.path(), "", why);
    }
}

type Source = (&'static str, fn(Node<'_, '_>, &mut Causes));

const SOURCES: [Source; 5] = [
    ("fieldRef", |node, causes| field(node, VARIABLE_PATHS, causes)),
    ("resourceFieldRef", |node, causes| resource(node, false, causes)),
    ("configMapKeyRef", key),
    ("secretKeyRef", key),
    ("fileKeyRef", file),
];

fn key(reference: Node<'_, '_>, causes: &mut Causes) {
    reference.get("name").keep(names::dns_1123_subdomain, causes);
    reference.get("key").need_name(names::config_key, causes);
}

fn file(reference: Node<'_, '_>, causes: &mut Causes) {
    reference.get("key").need_name(names::environment_variable, causes);
    reference.get("volumeName").need_name(names::dns_1123_label, causes);
    let path = reference.get("path");
    path.need(causes);
    each(path, backsteps(path.str()), causes);
}

/// A file of a volume.
pub(in crate::validation) fn file_field(reference: Node<'_, '_>, causes: &mut Causes) {
    field(reference, FILE_PATHS, causes);
}

fn field(reference: Node<'_, '_>, supported: &[&str], causes: &mut Causes) {
    let (version, path) = (reference.get("apiVersion"), reference.get("fieldPath"));
    if !version.need(causes) || !path.need(causes) {
        return;
    }
    let mut refuse = |why: String| path.invalid(causes, format!("error converting fieldPath: {why}"));
    let text = path.str();
    if version.str() != "v1" {
        return refuse(format!("unsupported pod version: {}", version.str()));
    }
    if let Some((base, key)) = text.strip_suffix("']").and_then(|text| text.split_once("['")) {
        let messages = match base {
            "metadata.annotations" => names::qualified_name(&key.to_lowercase()),
            "metadata.labels" => names::qualified_name(key),
            _ => return refuse(format!("field label does not support subscript: {text}")),
        };
        let shown = if base == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
        for message in messages {
            causes.invalid(reference.path(), shown.clone(), message);
        }
        return;
    }
    let known = [VARIABLE_PATHS, FILE_PATHS, KNOWN_PATHS].iter().any(|paths| paths.contains(&text));
    // From times when spec.nodeName was called so.
    let converted = if text == "spec.host" { "spec.nodeName" } else { text };
    if !known && text != "spec.host" {
        return refuse(format!("field label not supported: {text}"));
    }
    if !supported.contains(&converted) {
        path.not_supported(causes, supported);
    }
}

/// `whose`: whether the container must be named.
pub(in crate::validation) fn resource(reference: Node<'_, '_>, whose: bool, causes: &mut Causes) {
    let (container, resource, divisor) =
        (reference.get("containerName"), reference.get("resource"), reference.get("divisor"));
    let name = resource.str();
    let huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if whose && container.is_empty() {
        container.required(causes, "");
    } else if resource.is_empty() {
        resource.required(causes, "");
    } else if !RESOURCES.contains(&name) && !huge {
        resource.not_supported(causes, RESOURCES);
    }
    let Some(amount) = divisor.amount().filter(|amount| !amount.is_zero()) else { return };
    let binary = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (allowed, shown, what): (&[&str], _, _) = match name.split_once('.').map_or("", |(_, what)| what) {
        "cpu" => (&["1m", "1"], "1m and 1", "cpu"),
        "memory" => (&binary, "", "memory"),
        "ephemeral-storage" => (&binary, "", "local ephemeral storage"),
        _ if huge => (&binary, "", "hugepages"),
        _ => return,
    };
    if !allowed.contains(&amount.to_string().as_str()) {
        let shown = if shown.is_empty() { binary.join(", ") } else { shown.to_owned() };
        let why = format!("only divisor's values {shown} are supported with the {what} resource");
        causes.invalid(divisor.path(), name, why);
    }
}

pub(super) fn sources(sources: Node<'_, '_>, causes: &mut Causes) {
    for source in sources.items() {
        source.get("prefix").keep_if_set(names::environment_variable, causes);
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            let reference = source.get(kind);
            if reference.is_present() {
                count += 1;
                reference.get("name").need_name(names::dns_1123_subdomain_prefix, causes);
            }
        }
        match count {
            0 => causes.invalid(sources.path(), "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => causes.invalid(sources.path(), "", "may not have more than one field specified at a time"),
        }
    }
}

/// Variables read files of emptyDir volumes only.
pub(super) fn file_volumes(container: Node<'_, '_>, volumes: Node<'_, '_>, causes: &mut Causes) {
    for variable in container.get("env").items() {
        let source = variable.get("valueFrom");
        let reference = source.get("fileKeyRef");
        let name = reference.get("volumeName");
        if reference.is_absent() {
            continue;
        }
        match volumes.find("name", name.str()) {
            None => causes.not_found(name.path(), name.str()),
            Some(volume) if volume.get("emptyDir").is_absent() => {
                name.invalid_text(causes, "referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        }
    }
}
