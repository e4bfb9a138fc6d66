//! Containers of pods. Upstream: pkg/apis/core/validation validateContainers and what it calls.

use super::{PROTOCOLS, not_negative, one_of};
use crate::causes::Causes;
use crate::int_or_string::IntOrString;
use crate::names;
use crate::node::Node;
use crate::quantity::Quantity;

pub(super) fn containers(spec: Node<'_, '_>, causes: &mut Causes) {
    let (containers, inits, volumes) = (spec.get("containers"), spec.get("initContainers"), spec.get("volumes"));
    let mut seen: Vec<&str> = Vec::new();
    if containers.is_empty() {
        containers.required(causes, "");
    }
    for container in containers.items() {
        shared(container, volumes, causes);
        unique_name(container, &mut seen, causes);
        lifecycle(container, causes);
    }
    host_ports(containers, causes);
    for container in inits.items() {
        shared(container, volumes, causes);
        unique_name(container, &mut seen, causes);
        if container.get("restartPolicy").str() == "Always" {
            lifecycle(container, causes);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            let node = container.get(field);
            if node.is_present() {
                node.forbidden(causes, "may not be set for init containers without restartPolicy=Always");
            }
        }
    }
}

fn unique_name<'v>(container: Node<'v, '_>, seen: &mut Vec<&'v str>, causes: &mut Causes) {
    let name = container.get("name");
    if seen.contains(&name.str()) {
        name.duplicate(causes);
    } else if !name.is_empty() {
        seen.push(name.str());
    }
}

fn shared(container: Node<'_, '_>, volumes: Node<'_, '_>, causes: &mut Causes) {
    let (name, image) = (container.get("name"), container.get("image"));
    if name.is_empty() {
        name.required(causes, "");
    } else {
        name.invalid_each(causes, names::dns_1123_label(name.str()));
    }
    if image.is_empty() {
        image.required(causes, "");
    }
    one_of(container.get("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"], causes);
    ports(container.get("ports"), causes);
    environment(container.get("env"), causes);
    environment_sources(container.get("envFrom"), causes);
    mounts(container.get("volumeMounts"), volumes, causes);
    one_of(container.get("imagePullPolicy"), &["Always", "IfNotPresent", "Never"], causes);
    resources(container.get("resources"), causes);
}

fn ports(ports: Node<'_, '_>, causes: &mut Causes) {
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let (name, number, host) = (port.get("name"), port.get("containerPort"), port.get("hostPort"));
        if !name.is_empty() {
            let messages = names::port_name(name.str());
            if messages.is_empty() && seen.contains(&name.str()) {
                name.duplicate(causes);
            }
            name.invalid_each(causes, messages);
            seen.push(name.str());
        }
        match number.int() {
            None | Some(0) => number.required(causes, ""),
            Some(port) => number.invalid_each(causes, names::port_number(port)),
        }
        if let Some(port) = host.int().filter(|port| *port != 0) {
            host.invalid_each(causes, names::port_number(port));
        }
        one_of(port.get("protocol"), PROTOCOLS, causes);
    }
}

fn host_ports(containers: Node<'_, '_>, causes: &mut Causes) {
    let mut seen: Vec<String> = Vec::new();
    for container in containers.items() {
        for port in container.get("ports").items() {
            let number = port.get("hostPort");
            let Some(host) = number.int().filter(|port| *port != 0) else { continue };
            let key = format!("{}/{}/{host}", port.get("protocol").str(), port.get("hostIP").str());
            if seen.contains(&key) {
                causes.duplicate(number.path(), key);
            } else {
                seen.push(key);
            }
        }
    }
}

const FIELD_PATHS: &[&str] = &[
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

fn environment(variables: Node<'_, '_>, causes: &mut Causes) {
    for variable in variables.items() {
        let (name, source) = (variable.get("name"), variable.get("valueFrom"));
        if name.is_empty() {
            name.required(causes, "");
        } else {
            name.invalid_each(causes, names::environment_variable(name.str()));
        }
        if source.is_absent() {
            continue;
        }
        let kinds = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
        let count = kinds.iter().filter(|kind| source.get(kind).is_present()).count();
        for kind in ["configMapKeyRef", "secretKeyRef"] {
            let reference = source.get(kind);
            if reference.is_present() {
                let (name, key) = (reference.get("name"), reference.get("key"));
                for message in names::dns_1123_subdomain(name.str()) {
                    causes.invalid(name.path(), name.str(), message);
                }
                if key.is_empty() {
                    key.required(causes, "");
                } else {
                    key.invalid_each(causes, names::config_key(key.str()));
                }
            }
        }
        let path = source.get("fieldRef");
        let path = path.get("fieldPath");
        if source.get("fieldRef").is_present() {
            if path.is_empty() {
                path.required(causes, "");
            } else if !path.str().contains('[') && !FIELD_PATHS.contains(&path.str()) {
                let known = ["metadata.labels", "metadata.annotations"].contains(&path.str());
                if known {
                    path.not_supported(causes, FIELD_PATHS);
                } else {
                    let why = format!("error converting fieldPath: field label not supported: {}", path.str());
                    path.invalid(causes, why);
                }
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

fn environment_sources(sources: Node<'_, '_>, causes: &mut Causes) {
    for source in sources.items() {
        let prefix = source.get("prefix");
        if !prefix.is_empty() {
            prefix.invalid_each(causes, names::environment_variable(prefix.str()));
        }
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            let reference = source.get(kind);
            if reference.is_present() {
                count += 1;
                if reference.get("name").is_empty() {
                    reference.get("name").required(causes, "");
                }
            }
        }
        match count {
            0 => causes.invalid(sources.path(), "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => causes.invalid(sources.path(), "", "may not have more than one field specified at a time"),
        }
    }
}

fn mounts(mounts: Node<'_, '_>, volumes: Node<'_, '_>, causes: &mut Causes) {
    let mut seen: Vec<&str> = Vec::new();
    for mount in mounts.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        if name.is_empty() {
            name.required(causes, "");
        }
        if volumes.find("name", name.str()).is_none() {
            causes.not_found(name.path(), name.str());
        }
        if path.is_empty() {
            path.required(causes, "");
        }
        if seen.contains(&path.str()) {
            path.invalid(causes, "must be unique");
        }
        seen.push(path.str());
        for field in ["subPath", "subPathExpr"] {
            let node = mount.get(field);
            if !node.is_empty() {
                super::volume::relative_path(node, causes);
            }
        }
    }
}

const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// Standard names that containers cannot ask for.
const QUOTA_ONLY: &[&str] = &[
    "storage",
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

pub(super) fn resources(resources: Node<'_, '_>, causes: &mut Causes) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    for list in [limits, requests] {
        for (name, amount) in list.entries() {
            for message in names::qualified_name(name) {
                causes.invalid(amount.path(), name, message);
            }
            if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
                if !QUOTA_ONLY.contains(&name) && !name.starts_with("requests.") && !name.starts_with("limits.") {
                    causes.invalid(amount.path(), name, "must be a standard resource type or fully qualified");
                }
                causes.invalid(amount.path(), name, "must be a standard resource for containers");
            }
            if amount.quantity().is_some_and(|amount| amount.is_ok_and(|amount| amount.is_negative())) {
                amount.invalid(causes, "must be greater than or equal to 0");
            }
        }
    }
    for (name, request) in requests.entries() {
        let limit = limits.key(name);
        let overcommits = STANDARD.contains(&name) || name.contains("kubernetes.io/");
        let read = |node: Node<'_, '_>| node.quantity().and_then(Result::ok);
        match (read(request), read(limit)) {
            (Some(request), Some(limit)) if !overcommits && request != limit => {
                refuse(requests, request, format!("must be equal to {name} limit of {limit}"), causes);
            }
            (Some(request), Some(limit)) if request > limit => {
                refuse(requests, request, format!("must be less than or equal to {name} limit of {limit}"), causes);
            }
            (Some(_), None) if !overcommits => {
                limits.required(causes, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
}

fn refuse(requests: Node<'_, '_>, request: Quantity, why: String, causes: &mut Causes) {
    causes.invalid(requests.path(), request.to_string(), why);
}

fn lifecycle(container: Node<'_, '_>, causes: &mut Causes) {
    let hooks = container.get("lifecycle");
    for name in ["postStart", "preStop"] {
        let hook = hooks.get(name);
        if hook.is_present() {
            handler(hook, &["exec", "httpGet", "tcpSocket", "sleep"], causes);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(name);
        if probe.is_absent() {
            continue;
        }
        handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], causes);
        for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            not_negative(probe.get(field), causes);
        }
        let grace = probe.get("terminationGracePeriodSeconds");
        if grace.int().is_some_and(|seconds| seconds <= 0) {
            grace.invalid(causes, "must be greater than 0");
        }
        let successes = probe.get("successThreshold");
        if name == "readinessProbe" {
            if grace.is_present() {
                grace.invalid(causes, "must not be set for readinessProbes");
            }
        } else if successes.int() != Some(1) {
            successes.invalid(causes, "must be 1");
        }
    }
}

fn handler(handler: Node<'_, '_>, kinds: &[&str], causes: &mut Causes) {
    let mut found = false;
    for kind in kinds.iter().copied() {
        let action = handler.get(kind);
        if action.is_absent() {
            continue;
        }
        if std::mem::replace(&mut found, true) {
            action.forbidden(causes, "may not specify more than 1 handler type");
            continue;
        }
        match kind {
            "exec" if action.get("command").is_empty() => action.get("command").required(causes, ""),
            "httpGet" => {
                if action.get("path").is_empty() {
                    action.get("path").required(causes, "");
                }
                port_or_name(action.get("port"), causes);
                let scheme = action.get("scheme");
                if !["HTTP", "HTTPS"].contains(&scheme.str()) {
                    scheme.not_supported(causes, &["HTTP", "HTTPS"]);
                }
                for header in action.get("httpHeaders").items() {
                    let name = header.get("name").str();
                    for message in names::http_header_name(name) {
                        causes.invalid(action.get("httpHeaders").path(), name, message);
                    }
                }
            }
            "tcpSocket" | "grpc" => port_or_name(action.get("port"), causes),
            _ => {}
        }
    }
    if !found {
        handler.required(causes, "must specify a handler type");
    }
}

pub(super) fn port_or_name(port: Node<'_, '_>, causes: &mut Causes) {
    match port.int_or_string() {
        Some(IntOrString::Int(number)) => port.invalid_each(causes, names::port_number(number)),
        Some(IntOrString::Text(name)) => port.invalid_each(causes, names::port_name(name)),
        None => {
            for message in names::port_number(0) {
                causes.invalid(port.path(), 0, message);
            }
        }
    }
}
