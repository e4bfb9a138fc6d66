//! Probes and lifecycle hooks. Upstream: pkg/apis/core/validation validateProbe, validateLifecycle, validateHandler.

use crate::causes::Causes;
use crate::int_or_string::IntOrString;
use crate::names;
use crate::node::Node;

const PROBE: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];

/// `grace`: the pod's, in seconds.
pub(super) fn hooks(container: Node<'_, '_>, grace: Option<i64>, causes: &mut Causes) {
    let hooks = container.get("lifecycle");
    for name in ["postStart", "preStop"] {
        if hooks.get(name).is_present() {
            handler(hooks.get(name), HOOK, grace, causes);
        }
    }
}

pub(super) fn probes(container: Node<'_, '_>, grace: Option<i64>, causes: &mut Causes) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(name);
        if probe.is_absent() {
            continue;
        }
        handler(probe, PROBE, grace, causes);
        for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            probe.get(field).not_negative(causes);
        }
        let (own, successes) = (probe.get("terminationGracePeriodSeconds"), probe.get("successThreshold"));
        if own.int().is_some_and(|seconds| seconds <= 0) {
            own.invalid(causes, "must be greater than 0");
        }
        if name != "readinessProbe" {
            if successes.number() != 1 {
                successes.invalid_number(causes, "must be 1");
            }
        } else if own.is_present() {
            own.invalid(causes, "must not be set for readinessProbes");
        }
    }
}

fn handler(handler: Node<'_, '_>, kinds: &[&str], grace: Option<i64>, causes: &mut Causes) {
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
            "exec" => {
                action.get("command").need(causes);
            }
            "httpGet" => http(action, causes),
            "sleep" => sleep(action, grace, causes),
            _ => port_or_name(action.get("port"), causes),
        }
    }
    if !found {
        handler.required(causes, "must specify a handler type");
    }
}

fn http(action: Node<'_, '_>, causes: &mut Causes) {
    action.get("path").need(causes);
    port_or_name(action.get("port"), causes);
    action.get("scheme").one_of(&["HTTP", "HTTPS"], causes);
    let headers = action.get("httpHeaders");
    for header in headers.items() {
        let name = header.get("name").str();
        for message in names::http_header_name(name) {
            causes.invalid(headers.path(), name, message);
        }
    }
}

fn sleep(action: Node<'_, '_>, grace: Option<i64>, causes: &mut Causes) {
    let seconds = action.get("seconds").number();
    if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        causes.invalid(action.path(), seconds, why);
    }
}

/// A port's number, or the name of a container's port.
pub(in crate::validation) fn port_or_name(port: Node<'_, '_>, causes: &mut Causes) {
    match port.int_or_string() {
        Some(IntOrString::Text(name)) => port.invalid_each(causes, names::port_name(name)),
        _ => {
            for message in names::port_number(port.number()) {
                port.invalid_number(causes, message);
            }
        }
    }
}
