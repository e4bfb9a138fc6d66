//! Pods and pod templates. Upstream: pkg/apis/core/validation ValidatePodSpec, ValidatePodCreate.

use super::checks::{Seen, each, unreserved};
use super::{labels, metadata, volume};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

mod annotations;
pub(super) mod container;
mod environment;
pub(super) mod handlers;
mod mounts;
mod resize;
pub(super) mod resources;
pub(super) mod scheduling;
mod security;
mod status;
mod update;

pub(super) use environment::{file_field, resource as resource_field};

pub(super) fn pod(pod: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    whole(pod, causes);
    if old.is_present() {
        annotations::changes(pod, old, causes);
        return update::pod(pod.get("spec"), old.get("spec"), causes);
    }
    let spec = pod.get("spec");
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden(causes, "cannot be set on create");
    }
    if !spec.get("nodeName").is_empty() && !spec.get("schedulingGates").is_empty() {
        spec.get("nodeName").forbidden(causes, "cannot be set until all schedulingGates have been cleared");
    }
    annotations::match_fields(pod, causes);
}

/// Writes to a subresource of a pod.
pub(super) fn subresource(pod: Node<'_, '_>, old: Node<'_, '_>, subresource: &str, causes: &mut Causes) {
    match subresource {
        "status" => {
            annotations::changes(pod, old, causes);
            status::status(pod, old, causes);
        }
        "ephemeralcontainers" => {
            whole(pod, causes);
            annotations::changes(pod, old, causes);
            update::ephemeral_containers(pod, old, causes);
        }
        "resize" => {
            whole(pod, causes);
            resize::resize(pod, old, causes);
        }
        _ => {}
    }
}

/// What holds of a pod at any time.
fn whole(pod: Node<'_, '_>, causes: &mut Causes) {
    let spec = pod.get("spec");
    annotations::rules(pod, pod.get("metadata"), causes);
    pod_spec(spec, Some(pod.get("metadata")), causes);
    if spec.get("serviceAccountName").is_empty() {
        for volume in spec.get("volumes").items() {
            let projected = volume.get("projected");
            for source in projected.get("sources").items() {
                let why = "must not be specified when serviceAccountName is not set";
                source.forbid(&["serviceAccountToken"], why, causes);
            }
        }
    }
    spec.get("terminationGracePeriodSeconds").not_negative(causes);
    for list in ["containers", "initContainers"] {
        spec.get(list).items().for_each(|container| container::trimmed_image(container, causes));
    }
}

pub(super) fn pod_template(object: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    template(object.get("template"), causes);
}

/// A `template` field.
pub(super) fn template(template: Node<'_, '_>, causes: &mut Causes) {
    let (meta, spec) = (template.get_unnamed("metadata"), template.get("spec"));
    labels::labels(meta.get("labels"), causes);
    metadata::annotations(meta.get("annotations"), causes);
    annotations::rules(template, meta, causes);
    pod_spec(spec, None, causes);
    annotations::match_fields(template, causes);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden(causes, "ephemeral containers not allowed in pod template");
    }
}

/// Every container, with init containers first.
fn visit_containers(spec: Node<'_, '_>, visit: &mut dyn FnMut(Node<'_, '_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.get(list).items().for_each(&mut *visit);
    }
}

/// `meta`: of a pod, absent in templates.
fn pod_spec(spec: Node<'_, '_>, meta: Option<Node<'_, '_>>, causes: &mut Causes) {
    if spec.get("terminationGracePeriodSeconds").is_absent() {
        spec.get("terminationGracePeriodSeconds").required(causes, "");
    }
    let volumes = spec.get("volumes");
    let valid = volume::volumes(&volumes, meta, causes);
    claims(spec, meta, causes);
    let pod = container::Pod { spec, volumes: &valid };
    container::containers(&pod, causes);
    container::init_containers(&pod, causes);
    container::ephemeral_containers(&pod, causes);
    resources::of_pod(spec, causes);
    host_network(spec, meta.is_some(), causes);
    spec.get("restartPolicy").need_one_of(&["Always", "OnFailure", "Never"], causes);
    spec.get("dnsPolicy").need_one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], causes);
    labels::labels(spec.get("nodeSelector"), causes);
    security::of_pod(spec, causes);
    let shared = spec.get("shareProcessNamespace");
    if shared.bool() && spec.get("hostPID").bool() {
        shared.invalid(causes, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    scheduling::affinity(spec.get("affinity"), causes);
    dns(spec, causes);
    for gate in spec.get("readinessGates").items() {
        gate.get("conditionType").keep(names::qualified_name, causes);
    }
    scheduling::gates(spec.get("schedulingGates"), causes);
    scheduling::spread(spec.get("topologySpreadConstraints"), causes);
    security::host_processes(spec, causes);
    security::host_users(spec, causes);
    host_name(spec, causes);
    one_account(spec, causes);
    for (field, rule) in NAMES {
        spec.get(field).keep_if_set(*rule, causes);
    }
    if spec.get("runtimeClassName").is_present() {
        spec.get("runtimeClassName").keep(names::dns_1123_subdomain, causes);
    }
    spec.get("activeDeadlineSeconds").in_range(1, i32::MAX.into(), causes);
    scheduling::tolerations(spec.get("tolerations"), causes);
    for alias in spec.get("hostAliases").items() {
        super::network::legacy_ip(alias.get("ip"), causes);
        alias.get("hostnames").items().for_each(|name| name.keep(names::dns_1123_subdomain, causes));
    }
    if spec.get("preemptionPolicy").is_present() {
        spec.get("preemptionPolicy").need_one_of(&["PreemptLowerPriority", "Never"], causes);
    }
    resources::overhead(spec, causes);
    security::of_system(spec, causes);
    visit_containers(spec, &mut |container| environment::file_volumes(container, volumes, causes));
}

const NAMES: &[(&str, super::NameRule)] = &[
    ("serviceAccountName", names::dns_1123_subdomain),
    ("nodeName", names::dns_1123_subdomain),
    ("hostname", names::dns_1123_label),
    ("subdomain", names::dns_1123_label),
    ("priorityClassName", names::dns_1123_subdomain),
];

/// The account's name stands in two fields.
fn one_account(spec: Node<'_, '_>, causes: &mut Causes) {
    let (name, old) = (spec.get("serviceAccountName").str(), spec.get("serviceAccount").str());
    if name != old {
        let why = format!("must be the same as serviceAccountName: {}", crate::quoting::quote(name));
        causes.invalid(spec.path_of("deprecatedServiceAccount"), old, why);
    }
}

fn claims(spec: Node<'_, '_>, meta: Option<Node<'_, '_>>, causes: &mut Causes) {
    let mirrors = meta.is_some_and(|meta| meta.get("annotations").key(annotations::MIRROR).is_present());
    let mut seen = Seen::new();
    for claim in spec.get("resourceClaims").items() {
        if mirrors {
            causes.forbidden("[]", "static pods do not support resource claims");
            continue;
        }
        let (name, own, template) =
            (claim.get("name"), claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        if name.need(causes) {
            if seen.insert(name.str()) {
                name.keep(names::dns_1123_label, causes);
            } else {
                name.duplicate(causes);
            }
        }
        let why = match (own.is_present(), template.is_present()) {
            (true, true) => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            (false, false) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            _ => "",
        };
        if !why.is_empty() {
            claim.invalid(causes, why);
        }
        for reference in [own, template] {
            if reference.is_present() {
                reference.keep(names::dns_1123_subdomain, causes);
            }
        }
    }
}

fn host_network(spec: Node<'_, '_>, is_pod: bool, causes: &mut Causes) {
    if !spec.get("hostNetwork").bool() {
        return;
    }
    for container in spec.get("containers").items() {
        for port in container.get("ports").items() {
            let (host, own) = (port.get("hostPort"), port.get("containerPort"));
            if (is_pod || host.number() != 0) && host.number() != own.number() {
                host.invalid_number(causes, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

const MAX_HOST_NAME: usize = 64;

fn host_name(spec: Node<'_, '_>, causes: &mut Causes) {
    let name = spec.get("hostnameOverride");
    if name.is_absent() {
        return;
    }
    if spec.get("setHostnameAsFQDN").bool() {
        name.forbidden(causes, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.get("hostNetwork").bool() {
        name.forbidden(causes, "may not be specified when hostNetwork is true");
    }
    if name.str().len() > MAX_HOST_NAME {
        name.too_long(causes, MAX_HOST_NAME);
    }
    name.keep(names::dns_1123_subdomain, causes);
}

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

fn dns(spec: Node<'_, '_>, causes: &mut Causes) {
    let config = spec.get("dnsConfig");
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.get("dnsPolicy").str() == "None" {
        if config.is_absent() {
            return config.required(causes, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            return servers.required(causes, "must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.len() > MAX_NAMESERVERS {
        servers.invalid(causes, format!("must not have more than {MAX_NAMESERVERS} nameservers"));
    }
    servers.items().for_each(|server| super::network::legacy_ip(server, causes));
    if searches.len() > MAX_SEARCHES {
        searches.invalid(causes, format!("must not have more than {MAX_SEARCHES} search paths"));
    }
    let characters: usize = searches.items().map(|search| search.str().len() + 1).sum();
    if characters.saturating_sub(1) > MAX_SEARCH_CHARACTERS {
        let why =
            format!("must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list");
        searches.invalid(causes, why);
    }
    for search in searches.items().filter(|search| search.str() != ".") {
        let name = search.str().strip_suffix('.').unwrap_or(search.str());
        for message in names::dns_1123_subdomain_with_underscore(name) {
            causes.invalid(search.path(), name, message);
        }
    }
    for option in config.get("options").items() {
        if option.get("name").is_empty() {
            option.required(causes, "must not be empty");
        }
    }
}

/// A path that a projection writes below its volume.
pub(super) fn projected_path(path: Node<'_, '_>, causes: &mut Causes) {
    each(path, unreserved(path.str()), causes);
}
