//! Containers of pods. Upstream: pkg/apis/core/validation validateContainers, validateInitContainers, validateEphemeralContainers.

use super::{environment, handlers, mounts, resources, security};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;
use crate::validation::PROTOCOLS;
use crate::validation::checks::Seen;

/// What containers of one pod share.
pub(super) struct Pod<'a, 'v, 'p> {
    pub spec: Node<'v, 'p>,
    /// Those that are valid themselves.
    pub volumes: &'a [Node<'v, 'a>],
}

impl Pod<'_, '_, '_> {
    fn grace(&self) -> Option<i64> {
        self.spec.get("terminationGracePeriodSeconds").int()
    }
}

pub(super) fn containers(pod: &Pod<'_, '_, '_>, causes: &mut Causes) {
    let containers = pod.spec.get("containers");
    containers.need(causes);
    let mut names = Seen::new();
    for container in containers.items() {
        shared(pod, container, causes);
        if !names.insert(container.get("name").str()) {
            container.get("name").duplicate(causes);
        }
        handlers::hooks(container, pod.grace(), causes);
        handlers::probes(container, pod.grace(), causes);
        restart(container, causes);
    }
    host_ports(&mut containers.items(), causes);
}

pub(super) fn init_containers(pod: &Pod<'_, '_, '_>, causes: &mut Causes) {
    let (containers, inits) = (pod.spec.get("containers"), pod.spec.get("initContainers"));
    let mut names = Seen::new();
    for container in containers.items() {
        names.insert(container.get("name").str());
    }
    for container in inits.items() {
        shared(pod, container, causes);
        let (policy, name) = (container.get("restartPolicy"), container.get("name"));
        restart(container, causes);
        if names.contains(name.str()) {
            name.duplicate(causes);
        } else if !name.is_empty() {
            names.insert(name.str());
        }
        host_ports(&mut std::iter::once(container), causes);
        if policy.str() == "Always" {
            handlers::hooks(container, pod.grace(), causes);
            handlers::probes(container, pod.grace(), causes);
            continue;
        }
        let why = "may not be set for init containers without restartPolicy=Always";
        container.forbid(&["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"], why, causes);
        for resize in container.get("resizePolicy").items() {
            if resize.get("restartPolicy").str() == "RestartContainer" {
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                resize.get("restartPolicy").invalid(causes, why);
            }
        }
    }
}

/// Fields of containers that one added to a running pod cannot have.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

pub(super) fn ephemeral_containers(pod: &Pod<'_, '_, '_>, causes: &mut Causes) {
    let why = "cannot be set for an Ephemeral Container";
    let lists = [pod.spec.get("containers"), pod.spec.get("initContainers")];
    let mut names = Seen::new();
    for container in lists.iter().flat_map(Node::items) {
        names.insert(container.get("name").str());
    }
    for container in pod.spec.get("ephemeralContainers").items() {
        let (name, target) = (container.get("name"), container.get("targetContainerName"));
        shared(pod, container, causes);
        trimmed_image(container, causes);
        if !names.insert(name.str()) {
            name.duplicate(causes);
        }
        if !target.is_empty() && !lists.iter().any(|list| list.find("name", target.str()).is_some()) {
            target.not_found(causes);
        }
        for field in NOT_EPHEMERAL {
            if !container.get(field).is_empty() {
                container.get(field).forbidden(causes, why);
            }
        }
        for mount in container.get("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.get(field).is_empty() {
                    mount.get(field).forbidden(causes, why);
                }
            }
        }
    }
}

fn shared(pod: &Pod<'_, '_, '_>, container: Node<'_, '_>, causes: &mut Causes) {
    container.get("name").need_name(names::dns_1123_label, causes);
    container.get("image").need(causes);
    container.get("terminationMessagePolicy").need_one_of(&["File", "FallbackToLogsOnError"], causes);
    ports(container.get("ports"), causes);
    environment::variables(container.get("env"), causes);
    environment::sources(container.get("envFrom"), causes);
    mounts::mounts(container, pod.volumes, causes);
    mounts::devices(container, pod.volumes, causes);
    pull_policy(container.get("imagePullPolicy"), causes);
    resources::of_container(container.get("resources"), pod.spec.get("resourceClaims"), causes);
    resources::resize_policies(container, pod.spec.get("restartPolicy").str(), causes);
    let shares_users = pod.spec.get("hostUsers").value() != Some(&false.into());
    security::of_container(container, shares_users, causes);
}

pub(in crate::validation) fn pull_policy(policy: Node<'_, '_>, causes: &mut Causes) {
    policy.need_one_of(&["Always", "IfNotPresent", "Never"], causes);
}

/// What only pods, not templates, are refused.
pub(super) fn trimmed_image(container: Node<'_, '_>, causes: &mut Causes) {
    let image = container.get("image");
    if image.str().trim() != image.str() {
        image.invalid(causes, "must not have leading or trailing whitespace");
    }
}

fn ports(ports: Node<'_, '_>, causes: &mut Causes) {
    let mut seen = Seen::new();
    for port in ports.items() {
        let (name, number, host) = (port.get("name"), port.get("containerPort"), port.get("hostPort"));
        if !name.is_empty() {
            let messages = names::port_name(name.str());
            if messages.is_empty() && !seen.insert(name.str()) {
                name.duplicate(causes);
            }
            name.invalid_each(causes, messages);
        }
        if number.need(causes) {
            number.in_range(1, 65535, causes);
        }
        if host.number() != 0 {
            host.in_range(1, 65535, causes);
        }
        port.get("protocol").need_one_of(PROTOCOLS, causes);
    }
}

fn host_ports<'v, 'n>(containers: &mut dyn Iterator<Item = Node<'v, 'n>>, causes: &mut Causes) {
    let mut seen: Vec<String> = Vec::new();
    for container in containers {
        for port in container.get("ports").items() {
            let number = port.get("hostPort");
            if number.number() == 0 {
                continue;
            }
            let key = format!("{}/{}/{}", port.get("protocol").str(), port.get("hostIP").str(), number.number());
            if seen.contains(&key) {
                causes.duplicate(number.path(), key);
            } else {
                seen.push(key);
            }
        }
    }
}

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;

fn restart(container: Node<'_, '_>, causes: &mut Causes) {
    let (policy, rules) = (container.get("restartPolicy"), container.get("restartPolicyRules"));
    policy.one_of_if_present(&["Always", "Never", "OnFailure"], causes);
    if policy.is_absent() && !rules.is_empty() {
        policy.required(causes, "must specify restartPolicy when restart rules are used");
    }
    if rules.len() > MAX_RULES {
        causes.too_many(rules.path(), rules.len(), MAX_RULES);
    }
    for rule in rules.items() {
        rule.get("action").one_of(&["Restart", "RestartAllContainers"], causes);
        let codes = rule.get("exitCodes");
        if codes.is_absent() {
            codes.required(causes, "must be specified");
            continue;
        }
        codes.get("operator").one_of(&["In", "NotIn"], causes);
        let values = codes.get("values");
        if values.len() > MAX_EXIT_CODES {
            causes.too_many(values.path(), values.len(), MAX_EXIT_CODES);
        }
    }
}
