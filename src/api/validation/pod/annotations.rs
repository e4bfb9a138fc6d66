//! Annotations of pods that have a meaning. Upstream: pkg/apis/core/validation ValidatePodSpecificAnnotations,
//! validateSeccompAnnotationsAndFields, validateAppArmorAnnotationsAndFieldsMatchOnCreate.

use crate::causes::Causes;
use crate::node::Node;
use crate::validation::checks::descending;

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

pub(super) fn rules(object: Node<'_, '_>, meta: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    let annotations = meta.get("annotations");
    for (key, value) in annotations.entries() {
        let text = value.str();
        if key == MIRROR && spec.get("nodeName").is_empty() {
            value.invalid(causes, "must set spec.nodeName if mirror pod annotation is set");
        } else if key == DELETION_COST && !is_cost(text) {
            value.invalid(causes, "must be a 32bit integer");
        } else if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            for message in seccomp(text) {
                causes.invalid(annotations.path_of(key), text.strip_prefix("localhost/").unwrap_or(text), message);
            }
        } else if let Some(container) = key.strip_prefix(ARMOR) {
            if !has_container(spec, container) {
                causes.invalid(value.path(), container, "container not found");
            }
            if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with("localhost/") {
                value.invalid(causes, format!("invalid AppArmor profile name: {}", crate::quoting::quote(text)));
            }
        }
    }
}

/// A 32-bit integer without a plus or leading zeros.
fn is_cost(text: &str) -> bool {
    let first = text.bytes().next().unwrap_or_default();
    let well_begun = first == b'-' || text == "0" || matches!(first, b'1'..=b'9');
    well_begun && text.parse::<i32>().is_ok()
}

fn seccomp(profile: &str) -> Vec<&'static str> {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => Vec::new(),
        _ => match profile.strip_prefix("localhost/") {
            Some(path) => descending(path),
            None => vec!["must be a valid seccomp profile"],
        },
    }
}

fn has_container(spec: Node<'_, '_>, name: &str) -> bool {
    let mut found = false;
    super::visit_containers(spec, &mut |container| found |= container.get("name").str() == name);
    found
}

/// Annotations that an update can neither add, change nor remove.
pub(super) fn changes(pod: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (now, before) = (pod.get("metadata"), old.get("metadata"));
    let (now, before) = (now.get("annotations"), before.get("annotations"));
    let what = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        _ => key.starts_with(ARMOR).then_some("AppArmor annotations"),
    };
    for (key, value) in before.entries() {
        if let Some(what) = what(key).filter(|_| now.key(key).value() != value.value()) {
            now.key(key).forbidden(causes, format!("may not remove or update {what}"));
        }
    }
    for (key, value) in now.entries() {
        if let Some(what) = what(key).filter(|_| before.key(key).is_absent()) {
            value.forbidden(causes, format!("may not add {what}"));
        }
    }
}

/// What annotations and fields say of the same profile, they say alike.
pub(super) fn match_fields(pod: Node<'_, '_>, causes: &mut Causes) {
    match_seccomp(pod, causes);
    let (meta, spec) = (pod.get("metadata"), pod.get("spec"));
    if spec.get("os").get("name").str() == "windows" {
        return;
    }
    let annotations = meta.get("annotations");
    super::visit_containers(spec, &mut |container| {
        let (own, whole) = (container.get("securityContext"), spec.get("securityContext"));
        let profile = if own.get("appArmorProfile").is_present() { own } else { whole };
        let key = format!("{ARMOR}{}", container.get("name").str());
        let annotation = annotations.key(&key);
        if annotation.is_present() && profile.get("appArmorProfile").is_present() {
            let path = container.path_of("securityContext.appArmorProfile");
            same("apparmor", annotation.str(), profile.get("appArmorProfile"), &path, causes);
        }
    });
}

fn match_seccomp(object: Node<'_, '_>, causes: &mut Causes) {
    let (meta, spec) = (object.get("metadata"), object.get("spec"));
    let annotations = meta.get("annotations");
    let mut check = |key: &str, context: Node<'_, '_>| {
        let (annotation, profile) = (annotations.key(key), context.get("seccompProfile"));
        if annotation.is_present() && profile.is_present() {
            same("seccomp", annotation.str(), profile, &profile.path(), causes);
        }
    };
    check(SECCOMP_POD, spec.get("securityContext"));
    super::visit_containers(spec, &mut |container| {
        check(&format!("{SECCOMP_CONTAINER}{}", container.get("name").str()), container.get("securityContext"));
    });
}

fn same(what: &str, annotation: &str, profile: Node<'_, '_>, path: &str, causes: &mut Causes) {
    let local = annotation.strip_prefix("localhost/");
    let same_type = match profile.get("type").str() {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == "runtime/default" || what == "seccomp" && annotation == "docker/default",
        "Localhost" => local.is_some(),
        _ => true,
    };
    if !same_type {
        causes.forbidden(format!("{path}.type"), format!("{what} type in annotation and field must match"));
    } else if profile.get("type").str() == "Localhost" && local != Some(profile.get("localhostProfile").str()) {
        let why = format!("{what} profile in annotation and field must match");
        causes.forbidden(format!("{path}.localhostProfile"), why);
    }
}
