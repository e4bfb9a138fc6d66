//! Warnings of pods and templates of pods. Upstream: pkg/api/pod/warnings.go.

use super::{address, deprecated_label, fraction, fractions_of_claim, say};
use crate::node::Node;

/// Volumes of plugins that are gone.
const VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

pub(super) fn pod(pod: Node<'_, '_>, said: &mut Vec<String>) {
    rules(pod, false, said);
}

pub(super) fn template(template: Node<'_, '_>, said: &mut Vec<String>) {
    if template.is_present() {
        rules(template, true, said);
    }
}

fn rules(object: Node<'_, '_>, is_template: bool, said: &mut Vec<String>) {
    let (meta, spec) = (object.get("metadata"), object.get("spec"));
    let annotations = meta.get("annotations");
    selectors(spec, said);
    for (key, why) in ANNOTATIONS {
        if annotations.key(key).is_present() {
            say(annotations.key(key), why, said);
        }
    }
    for volume in spec.get("volumes").items() {
        for (source, why) in VOLUMES {
            if volume.get(source).is_present() {
                // Upstream's path has the name of its own field there.
                let shown = if *source == "storageos" { "storageOS" } else { *source };
                say(volume.get_as(source, shown), why, said);
            }
        }
        let ephemeral = volume.get("ephemeral");
        fractions_of_claim(ephemeral.get("volumeClaimTemplate").get("spec"), said);
    }
    repeated(spec.get("hostAliases"), "ip", said);
    let secrets = spec.get("imagePullSecrets");
    repeated(secrets, "name", said);
    for secret in secrets.items().filter(|secret| secret.get("name").is_empty()) {
        say(secret.get("name"), "invalid empty name \"\"", said);
    }
    for name in ["memory", "ephemeral-storage"] {
        fraction(spec.get("overhead").key(name), said);
    }
    let context = spec.get("securityContext");
    if context.get("seccompProfile").is_absent() && annotations.key(SECCOMP_POD).is_present() {
        say(annotations.key(SECCOMP_POD), SECCOMP, said);
    }
    visit(spec, &mut |container| self::container(container, annotations, context, is_template, said));
    ports(spec, said);
    let affinity = spec.get("affinity");
    for field in ["podAffinity", "podAntiAffinity"] {
        let terms = affinity.get(field);
        terms.get("requiredDuringSchedulingIgnoredDuringExecution").items().for_each(|term| no_selector(term, said));
        let preferred = terms.get("preferredDuringSchedulingIgnoredDuringExecution");
        preferred.items().for_each(|term| no_selector(term.get("podAffinityTerm"), said));
    }
    spec.get("dnsConfig").get("nameservers").items().for_each(|server| address(server, said));
    spec.get("hostAliases").items().for_each(|alias| address(alias.get("ip"), said));
}

fn visit(spec: Node<'_, '_>, visit: &mut dyn FnMut(Node<'_, '_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.get(list).items().for_each(&mut *visit);
    }
}

fn no_selector(term: Node<'_, '_>, said: &mut Vec<String>) {
    if term.get("labelSelector").is_absent() {
        say(term.get("labelSelector"), "a null labelSelector results in matching no pod", said);
    }
}

/// Labels of nodes that are deprecated, and selectors that select nothing.
fn selectors(spec: Node<'_, '_>, said: &mut Vec<String>) {
    for (key, value) in spec.get("nodeSelector").entries() {
        if let Some((_, why)) = deprecated_label(key) {
            say(value, why, said);
        }
    }
    let affinity = spec.get("affinity");
    let affinity = affinity.get("nodeAffinity");
    let required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
    let named = |key: Node<'_, '_>, said: &mut Vec<String>| {
        if let Some((name, why)) = deprecated_label(key.str()) {
            say(key, format!("{name} is {why}"), said);
        }
    };
    let term = |term: Node<'_, '_>, said: &mut Vec<String>| {
        term.get("matchExpressions").items().for_each(|expression| named(expression.get("key"), said));
    };
    required.get("nodeSelectorTerms").items().for_each(|of| term(of, said));
    let preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution");
    preferred.items().for_each(|of| term(of.get("preference"), said));
    for constraint in spec.get("topologySpreadConstraints").items() {
        named(constraint.get("topologyKey"), said);
        no_selector(constraint, said);
    }
}

fn repeated(list: Node<'_, '_>, field: &str, said: &mut Vec<String>) {
    for (index, item) in list.items().enumerate() {
        let text = item.get(field).str();
        if list.items().take(index).any(|earlier| earlier.get(field).str() == text) {
            say(item.get(field), format!("duplicate {field} \"{text}\""), said);
        }
    }
}

fn container(
    container: Node<'_, '_>,
    annotations: Node<'_, '_>,
    whole: Node<'_, '_>,
    is_template: bool,
    said: &mut Vec<String>,
) {
    let (context, name, resources) =
        (container.get("securityContext"), container.get("name").str(), container.get("resources"));
    let seccomp = format!("{SECCOMP_CONTAINER}{name}");
    if context.get("seccompProfile").is_absent() && annotations.key(&seccomp).is_present() {
        say(annotations.key(&seccomp), SECCOMP, said);
    }
    let armor = format!("{ARMOR}{name}");
    let annotation = annotations.key(&armor);
    if is_template
        && annotation.is_present()
        && context.get("appArmorProfile").is_absent()
        && !same_profile(annotation.str(), whole.get("appArmorProfile"))
    {
        say(annotation, "deprecated since v1.30; use the \"appArmorProfile\" field instead", said);
    }
    for amount in ["memory", "ephemeral-storage"] {
        for list in ["limits", "requests"] {
            fraction(resources.get(list).key(amount), said);
        }
    }
    let env = container.get("env");
    for (index, variable) in env.items().enumerate() {
        let name = variable.get("name").str();
        if !env.items().take(index).any(|earlier| earlier.get("name").str() == name) {
            continue;
        }
        let (value, reference) = (variable.get("value").str(), format!("$({name})"));
        if variable.get("valueFrom").is_present() || value == reference || !value.contains(&reference) {
            let why = format!("hides previous definition of \"{name}\", which may be dropped when using apply");
            say(variable, why, said);
        }
    }
}

fn same_profile(annotation: &str, profile: Node<'_, '_>) -> bool {
    match profile.get("type").str() {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == "runtime/default",
        "Localhost" => annotation.strip_prefix("localhost/") == Some(profile.get("localhostProfile").str()),
        _ => false,
    }
}

/// A port that was seen, and where.
struct Port {
    path: String,
    number: (i64, String),
    host_ip: String,
    host: i64,
    name: String,
}

fn ports(spec: Node<'_, '_>, said: &mut Vec<String>) {
    let mut seen: Vec<Port> = Vec::new();
    visit(spec, &mut |container| {
        for port in container.get("ports").items() {
            let text = |field: &str| port.get(field).str().to_owned();
            let number = |field: &str| port.get(field).int().unwrap_or_default();
            let own = Port {
                path: port.path(),
                number: (number("containerPort"), text("protocol")),
                host_ip: text("hostIP"),
                host: number("hostPort"),
                name: text("name"),
            };
            if !own.host_ip.is_empty() && own.host == 0 {
                let (name, (container, protocol), ip) = (&own.name, &own.number, &own.host_ip);
                let shown =
                    format!("{{Name:{name} HostPort:0 ContainerPort:{container} Protocol:{protocol} HostIP:{ip}}}");
                said.push(format!("{}: hostIP set without hostPort: {shown}", own.path));
            }
            for other in seen.iter().filter(|other| other.number == own.number) {
                let what = if own.host_ip == other.host_ip && own.host == other.host {
                    "duplicate"
                } else if own.host == 0 || other.host == 0 {
                    "overlapping"
                } else if own.host == other.host && own.host_ip.is_empty() != other.host_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                said.push(format!("{}: {what} port definition with {}", own.path, other.path));
            }
            seen.push(own);
        }
    });
    for (index, port) in seen.iter().enumerate().filter(|(_, port)| !port.name.is_empty()) {
        if let Some(Port { path, .. }) = seen[..index].iter().find(|other| other.name == port.name) {
            let why = format!("duplicate port name \"{}\" with {path}", port.name);
            said.push(format!("{}: {why}, services and probes that select ports by name will use {path}", port.path));
        }
    }
}
