//! Volumes, of pods and as objects of their own. Upstream: pkg/apis/core/validation validateVolumeSource, ValidatePersistentVolumeSpec.

use std::sync::LazyLock;

use regex::Regex;

use super::checks::{Seen, backsteps, descending, each};
use super::{certificates, claim, labels, pod};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

/// A kind of source: its field, its fields that are required, and its other rules.
struct Source {
    field: &'static str,
    required: &'static [&'static str],
    rule: fn(Node<'_, '_>, &mut Causes),
}

fn nothing(_: Node<'_, '_>, _: &mut Causes) {}

const fn source(field: &'static str, required: &'static [&'static str], rule: fn(Node<'_, '_>, &mut Causes)) -> Source {
    Source { field, required, rule }
}

const SOURCES: &[Source] = &[
    source("emptyDir", &[], |node, causes| {
        if node.get("sizeLimit").amount().is_some_and(|limit| limit.is_negative()) {
            node.get("sizeLimit").forbidden(causes, "SizeLimit field must be a valid resource quantity");
        }
    }),
    source("hostPath", &["path"], host_path),
    source("gitRepo", &["repository"], |node, causes| {
        each(node.get("directory"), descending(node.get("directory").str()), causes);
    }),
    source("gcePersistentDisk", &["pdName"], partition),
    source("awsElasticBlockStore", &["volumeID"], partition),
    source("secret", &["secretName"], keys),
    source("nfs", &["server", "path"], |node, causes| {
        if !node.get("path").str().starts_with('/') {
            node.get("path").invalid_text(causes, "must be an absolute path");
        }
    }),
    source("iscsi", &["targetPortal", "iqn"], iscsi),
    source("glusterfs", &["endpoints", "path"], nothing),
    source("flocker", &[], flocker),
    source("persistentVolumeClaim", &["claimName"], nothing),
    source("rbd", &["monitors", "image"], nothing),
    source("cinder", &["volumeID"], secret_name),
    source("cephfs", &["monitors"], nothing),
    source("quobyte", &["volume"], quobyte),
    source("downwardAPI", &[], |node, causes| {
        mode(node.get("defaultMode"), causes);
        // Upstream names the volume, not the file.
        node.get("items").items().for_each(|file| downward_file(node, file, causes));
    }),
    source("fc", &[], fibre_channel),
    source("flexVolume", &["driver"], flex_options),
    source("configMap", &["name"], keys),
    source("azureFile", &["secretName", "shareName"], nothing),
    source("vsphereVolume", &["volumePath"], nothing),
    source("photonPersistentDisk", &["pdID"], nothing),
    source("portworxVolume", &["volumeID"], nothing),
    source("azureDisk", &["diskName", "diskURI"], azure_disk),
    source("storageos", &[], storage_os),
    source("projected", &[], projected),
    source("scaleIO", &["gateway", "system", "volumeName"], nothing),
    source("csi", &[], |node, causes| csi_driver_name(node.get("driver"), causes)),
    source("ephemeral", &[], |node, causes| {
        let template = node.get("volumeClaimTemplate");
        if template.is_absent() {
            template.required(causes, "");
        } else {
            claim::template(template, causes);
        }
    }),
    source("image", &["reference"], |node, causes| pod::container::pull_policy(node.get("pullPolicy"), causes)),
    source("local", &["path"], |node, causes| each(node.get("path"), backsteps(node.get("path").str()), causes)),
];

/// In the order in which a second source is refused.
const OF_VOLUMES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// The one source of a volume; others are refused. `extra` follows the source's own rules.
fn one_source<'v>(
    volume: Node<'v, '_>,
    sources: impl Iterator<Item = &'static Source>,
    causes: &mut Causes,
    extra: &mut dyn FnMut(&'static str, Node<'_, '_>, &mut Causes),
) {
    let mut found = false;
    for source in sources {
        let node = volume.get(source.field);
        if node.is_absent() {
            continue;
        }
        if found && source.field != "flexVolume" {
            let shown = match source.field {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                field => field,
            };
            causes.forbidden(volume.path_of(shown), "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        let shown = if source.field == "gcePersistentDisk" { "persistentDisk" } else { source.field };
        let node = volume.get_as(source.field, shown);
        let complete = source.required.iter().filter(|field| !node.get(field).need(causes)).count() == 0;
        // Of these two, an empty path is all that is said.
        if complete || !matches!(source.field, "hostPath" | "local") {
            (source.rule)(node, causes);
        }
        extra(source.field, node, causes);
    }
    if !found {
        volume.required(causes, "must specify a volume type");
    }
}

/// The volumes of a pod (`meta`) or a template; gives those that are valid.
pub(super) fn volumes<'v, 'n>(
    volumes: &'n Node<'v, '_>,
    meta: Option<Node<'_, '_>>,
    causes: &mut Causes,
) -> Vec<Node<'v, 'n>> {
    let mut names = Seen::new();
    let mut valid = Vec::new();
    let pod = meta.map_or("", |meta| meta.get("name").str());
    let created: Vec<String> = volumes
        .items()
        .filter(|volume| !pod.is_empty() && volume.get("ephemeral").is_present())
        .map(|volume| format!("{pod}-{}", volume.get("name").str()))
        .collect();
    for volume in volumes.items() {
        let before = causes.len();
        let name = volume.get("name");
        let sources = SOURCES.iter().filter(|source| source.field != "local");
        one_source(volume, sources, causes, &mut |field, node, causes| of_pod(volume, pod, field, node, causes));
        name.need_name(names::dns_1123_label, causes);
        if names.contains(name.str()) {
            name.duplicate(causes);
        }
        if causes.len() == before {
            names.insert(name.str());
            valid.push(volume);
        }
        let claim = volume.get("persistentVolumeClaim");
        let claim = claim.get("claimName");
        if created.iter().any(|created| created == claim.str()) {
            claim.invalid(causes, "must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    valid
}

/// Rules of sources that need the volume's or the pod's name.
fn of_pod(volume: Node<'_, '_>, pod: &str, field: &str, node: Node<'_, '_>, causes: &mut Causes) {
    let name = volume.get("name");
    match field {
        "iscsi"
            if node.get("initiatorName").is_present()
                && name.str().len() + 1 + node.get("targetPortal").str().len() > MAX_PORTAL =>
        {
            name.invalid_text(causes, PORTAL_TOO_LONG);
        }
        "ephemeral" if !pod.is_empty() && !name.is_empty() => {
            let claim = format!("{pod}-{}", name.str());
            for message in names::dns_1123_subdomain(&claim) {
                name.invalid(causes, format!("PVC name {}: {message}", crate::quoting::quote(&claim)));
            }
        }
        "csi" => {
            let reference = node.get("nodePublishSecretRef");
            if reference.is_present() && reference.get("name").need(causes) {
                let secret = reference.get("name").str();
                for message in names::dns_1123_subdomain(secret) {
                    causes.invalid(node.path_of("name"), secret, message);
                }
            }
        }
        "storageos" => secret_name(node, causes),
        _ => {}
    }
}

/// Rules of sources that volumes as objects of their own have.
fn of_volume(name: &str, field: &str, node: Node<'_, '_>, causes: &mut Causes) {
    match field {
        "glusterfs" => {
            let namespace = node.get("endpointsNamespace");
            if namespace.is_present() && namespace.is_empty() {
                namespace.invalid(causes, "if the endpointnamespace is set, it must be a valid namespace name");
            } else {
                namespace.keep_if_set(names::dns_1123_label, causes);
            }
        }
        "iscsi" => {
            let portal = node.get("targetPortal");
            if node.get("initiatorName").is_present() && name.len() + 1 + portal.str().len() > MAX_PORTAL {
                causes.invalid(node.path_of("targetportal"), portal.str(), PORTAL_TOO_LONG);
            }
            secret_name(node, causes);
        }
        "cinder" | "storageos" => {
            let secret = node.get("secretRef");
            if secret.is_present() {
                if field == "storageos" {
                    secret.get("name").need(causes);
                }
                secret.get("namespace").need(causes);
            }
        }
        "azureFile" => {
            let namespace = node.get("secretNamespace");
            if namespace.is_present() {
                namespace.need(causes);
            }
        }
        "csi" => {
            node.get("volumeHandle").need(causes);
            for field in [
                "controllerPublishSecretRef",
                "controllerExpandSecretRef",
                "nodePublishSecretRef",
                "nodeExpandSecretRef",
            ] {
                let secret = node.get(field);
                if secret.is_present() {
                    secret.get("name").need_name(names::dns_1123_subdomain, causes);
                    secret.get("namespace").need_name(names::dns_1123_label, causes);
                }
            }
        }
        _ => {}
    }
}

fn host_path(node: Node<'_, '_>, causes: &mut Causes) {
    each(node.get("path"), backsteps(node.get("path").str()), causes);
    let kinds = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    node.get("type").one_of_if_present(&kinds, causes);
}

fn partition(node: Node<'_, '_>, causes: &mut Causes) {
    let partition = node.get("partition");
    if !(0..=255).contains(&partition.number()) {
        partition.invalid(causes, "must be between 1 and 255, inclusive");
    }
}

const MAX_PORTAL: usize = 64;
const PORTAL_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                               iscsi.initiatorName is specified.";

fn iscsi(node: Node<'_, '_>, causes: &mut Causes) {
    // Volumes of pods say which prefixes there are.
    let of_pod = node.path().contains("volumes[");
    let unknown = if of_pod { "must be valid format starting with iqn, eui, or naa" } else { "must be valid format" };
    let check = |name: &str| {
        if !["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix)) {
            return Some(unknown);
        }
        (!is_iscsi_name(name)).then_some("must be valid format")
    };
    let (name, lun, initiator) = (node.get("iqn"), node.get("lun"), node.get("initiatorName"));
    if let Some(why) = check(name.str()).filter(|_| !name.is_empty()) {
        name.invalid(causes, why);
    }
    if !(0..=255).contains(&lun.number()) {
        lun.invalid(causes, "must be between 0 and 255, inclusive");
    }
    if (node.get("chapAuthDiscovery").bool() || node.get("chapAuthSession").bool()) && node.get("secretRef").is_absent()
    {
        node.get("secretRef").required(causes, "");
    }
    if let Some(why) = check(initiator.str()).filter(|_| initiator.is_present()) {
        causes.invalid(node.path_of("initiatorname"), initiator.str(), why);
    }
}

/// `iqn.YYYY-MM.reversed.domain:rest`, `eui.` and 16, `naa.` and 32 letters or digits.
fn is_iscsi_name(name: &str) -> bool {
    static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
        let pattern =
            r"iqn\.[0-9]{4}-[0-9]{2}\.([[:alnum:]\-.]+)(:[^,;*&$|\s]+)$|^eui.[[:alnum:]]{16}$|^naa.[[:alnum:]]{32}$";
        Regex::new(pattern).expect("the pattern is constant")
    });
    GRAMMAR.is_match(name)
}

fn flocker(node: Node<'_, '_>, causes: &mut Causes) {
    let (name, id) = (node.get("datasetName"), node.get("datasetUUID"));
    match (name.is_empty(), id.is_empty()) {
        (true, true) => node.required(causes, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            causes.invalid(node.path(), "resource", why);
        }
        _ => {}
    }
    if name.str().contains('/') {
        name.invalid(causes, "must not contain '/'");
    }
}

fn secret_name(node: Node<'_, '_>, causes: &mut Causes) {
    let secret = node.get("secretRef");
    if secret.is_present() {
        secret.get("name").need(causes);
    }
}

const MAX_TENANT: usize = 64;

fn quobyte(node: Node<'_, '_>, causes: &mut Causes) {
    let (registry, tenant) = (node.get("registry"), node.get("tenant"));
    let pairs = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        registry.required(causes, pairs);
    } else if tenant.str().len() > MAX_TENANT {
        tenant.required(causes, "must be a UUID and may not exceed a length of 64 characters");
    } else {
        for pair in registry.str().split(',') {
            let split = pair.rsplit_once(':');
            if split.is_none_or(|(host, _)| host.contains(':') && !(host.starts_with('[') && host.ends_with(']'))) {
                registry.invalid(causes, pairs);
            }
        }
    }
}

fn fibre_channel(node: Node<'_, '_>, causes: &mut Causes) {
    let (names, ids, lun) = (node.get("targetWWNs"), node.get("wwids"), node.get("lun"));
    match (names.is_empty(), ids.is_empty()) {
        (true, true) => names.required(causes, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => names.invalid(causes, "targetWWNs and wwids can not be specified simultaneously"),
        _ => {}
    }
    if !names.is_empty() {
        if lun.is_absent() {
            lun.required(causes, "lun is required if targetWWNs is specified");
        }
        lun.in_range(0, 255, causes);
    }
}

fn flex_options(node: Node<'_, '_>, causes: &mut Causes) {
    for (key, value) in node.get("options").entries() {
        let domain = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            causes.invalid(value.path(), key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

fn azure_disk(node: Node<'_, '_>, causes: &mut Causes) {
    let (kind, uri) = (node.get("kind"), node.get("diskURI"));
    node.get("cachingMode").one_of_if_present(&["None", "ReadOnly", "ReadWrite"], causes);
    kind.one_of_if_present(&["Dedicated", "Managed", "Shared"], causes);
    let managed = kind.str() == "Managed";
    let (prefix, example) = if managed {
        let example = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        ("/subscriptions/", example)
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if kind.is_present() && !uri.str().starts_with(prefix) {
        causes.not_supported(uri.path(), uri.str(), &[example]);
    }
}

fn storage_os(node: Node<'_, '_>, causes: &mut Causes) {
    node.get("volumeName").need_name(names::dns_1123_label, causes);
    node.get("volumeNamespace").keep_if_set(names::dns_1123_label, causes);
}

const MAX_DRIVER: usize = 63;

/// Also of CSI objects.
pub(super) fn csi_driver_name(name: Node<'_, '_>, causes: &mut Causes) {
    if !name.need(causes) {
        return;
    }
    if name.str().len() > MAX_DRIVER {
        name.too_long(causes, MAX_DRIVER);
    }
    for message in names::dns_1123_subdomain(&name.str().to_lowercase()) {
        name.invalid_text(causes, message);
    }
}

fn mode(node: Node<'_, '_>, causes: &mut Causes) {
    if node.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        node.invalid(causes, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn keys(source: Node<'_, '_>, causes: &mut Causes) {
    mode(source.get("defaultMode"), causes);
    source.get("items").items().for_each(|item| key_to_path(item, causes));
}

fn key_to_path(item: Node<'_, '_>, causes: &mut Causes) {
    item.get("key").need(causes);
    item.get("path").need(causes);
    pod::projected_path(item.get("path"), causes);
    mode(item.get("mode"), causes);
}

/// `shown` stands for the file in paths.
fn downward_file(shown: Node<'_, '_>, file: Node<'_, '_>, causes: &mut Causes) {
    let mut found = Causes::new();
    let (field, resource) = (file.get("fieldRef"), file.get("resourceFieldRef"));
    file.get("path").need(&mut found);
    pod::projected_path(file.get("path"), &mut found);
    match (field.is_present(), resource.is_present()) {
        (true, both) => {
            pod::file_field(field, &mut found);
            if both {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                found.invalid(file.path(), "resource", why);
            }
        }
        (false, true) => pod::resource_field(resource, true, &mut found),
        (false, false) => found.required(file.path(), "one of fieldRef and resourceFieldRef is required"),
    }
    mode(file.get("mode"), &mut found);
    let (own, shown) = (file.path(), shown.path());
    for mut error in found.into_errors() {
        error.field = error.field.replacen(&own, &shown, 1);
        causes.push(error);
    }
}

const MIN_TOKEN_SECONDS: i64 = 600;

fn projected(volume: Node<'_, '_>, causes: &mut Causes) {
    mode(volume.get("defaultMode"), causes);
    let mut paths = Seen::new();
    for source in volume.get("sources").items() {
        let kinds =
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        let count = kinds.iter().filter(|kind| source.get(kind).is_present()).count();
        for kind in ["secret", "configMap"] {
            let part = source.get(kind);
            if part.is_absent() {
                continue;
            }
            part.get("name").need(causes);
            for item in part.get("items").items() {
                key_to_path(item, causes);
                once(volume, item.get("path").str(), part.get("name").str(), &mut paths, causes);
            }
        }
        let part = source.get("downwardAPI");
        for file in part.get("items").items() {
            downward_file(part, file, causes);
            let path = file.get("path").str();
            once(volume, path, path, &mut paths, causes);
        }
        token(volume, source.get("serviceAccountToken"), causes);
        if source.get("clusterTrustBundle").is_present() {
            trust_bundle(source.get("clusterTrustBundle"), causes);
            let path = source.get("clusterTrustBundle").get("path").str();
            if !paths.insert(path) {
                causes.invalid(volume.path(), path, "conflicting duplicate paths");
            }
        }
        if source.get("podCertificate").is_present() {
            let part = source.get("podCertificate");
            certificates::pod_certificate(part, causes);
            let fields = ["credentialBundlePath", "keyPath", "certificateChainPath"];
            for field in fields {
                let path = part.get(field);
                pod::projected_path(path, causes);
                once(volume, path.str(), path.str(), &mut paths, causes);
            }
            if fields.iter().all(|field| part.get(field).is_empty()) {
                let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                part.required(causes, why);
            }
        }
        if count > 1 {
            source.forbidden(causes, "may not specify more than 1 volume type per source");
        }
    }
}

fn once<'v>(volume: Node<'_, '_>, path: &'v str, shown: &str, paths: &mut Seen<'v>, causes: &mut Causes) {
    if !path.is_empty() && !paths.insert(path) {
        causes.invalid(volume.path(), shown, "conflicting duplicate paths");
    }
}

fn token(volume: Node<'_, '_>, token: Node<'_, '_>, causes: &mut Causes) {
    if token.is_absent() {
        return;
    }
    let (seconds, path) = (token.get("expirationSeconds"), token.get("path"));
    match seconds.int() {
        None => seconds.required(causes, ""),
        Some(number) if number < MIN_TOKEN_SECONDS => {
            seconds.invalid(causes, "may not specify a duration less than 10 minutes");
        }
        Some(number) if number > 1 << 32 => {
            seconds.invalid(causes, "may not specify a duration larger than 2^32 seconds");
        }
        _ => {}
    }
    // Upstream names the volume's path, not the source's.
    if path.is_empty() {
        causes.required(volume.path_of("path"), "");
    }
    for message in super::checks::unreserved(path.str()) {
        causes.invalid(volume.path_of("path"), path.str(), message);
    }
}

fn trust_bundle(part: Node<'_, '_>, causes: &mut Causes) {
    let (name, signer, selector) = (part.get("name"), part.get("signerName"), part.get("labelSelector"));
    match (name.is_present(), signer.is_present()) {
        (true, true) => part.invalid(causes, "only one of name and signerName may be used"),
        (true, false) => {
            if name.is_empty() {
                name.required(causes, "must be a valid object name");
            }
            for message in certificates::bundle_name(name.str(), certificates::signer_of(name.str())) {
                name.invalid(causes, format!("not a valid clustertrustbundlename: {message}"));
            }
            if selector.is_present() {
                selector.invalid(causes, "labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            if signer.is_empty() {
                signer.required(causes, "must be a valid signer name");
            }
            certificates::signer_name(signer, causes);
            labels::label_selector(selector, causes);
        }
        (false, false) => part.required(causes, "either name or signerName must be specified"),
    }
    part.get("path").need(causes);
    pod::projected_path(part.get("path"), causes);
}

pub(super) const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub(super) const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// Access modes of volumes and claims.
pub(super) fn access_modes(spec: Node<'_, '_>, why_required: &str, causes: &mut Causes) {
    let modes = spec.get("accessModes");
    if modes.is_empty() {
        modes.required(causes, why_required);
    }
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.str()) {
            causes.not_supported(modes.path(), mode.str(), ACCESS_MODES);
        }
    }
    let pod = |mode: &Node<'_, '_>| mode.str() == "ReadWriteOncePod";
    let other = |mode: Node<'_, '_>| !pod(&mode) && ACCESS_MODES.contains(&mode.str());
    if modes.items().any(|mode| pod(&mode)) && modes.items().any(other) {
        modes.forbidden(causes, "may not use ReadWriteOncePod with other access modes");
    }
}

pub(super) fn persistent_volume(volume: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, meta) = (volume.get("spec"), volume.get("metadata"));
    volume_spec(spec, meta.get("name").str(), causes);
    if old.is_present() {
        volume_changes(spec, old.get("spec"), causes);
    }
}

/// A volume's spec within an attachment.
pub(super) fn inline(spec: Node<'_, '_>, causes: &mut Causes) {
    let context = "in the context of inline volumes";
    let not = format!("may not be specified {context}");
    spec.forbid(&["claimRef", "nodeAffinity"], &not, causes);
    if !spec.get("capacity").is_empty() {
        spec.get("capacity").forbidden(causes, &not);
    }
    if spec.get("csi").is_absent() {
        spec.get("csi").required(causes, format!("has to be specified {context}"));
    }
    access_modes(spec, "", causes);
    let (policy, mode) = (spec.get("persistentVolumeReclaimPolicy"), spec.get("volumeMode"));
    if !policy.is_empty() && policy.str() != "Retain" {
        policy.forbidden(causes, format!("may only be Retain {context}"));
    }
    let sources = OF_VOLUMES.iter().filter_map(|field| SOURCES.iter().find(|source| source.field == *field));
    one_source(spec, sources, causes, &mut |field, node, causes| of_volume("", field, node, causes));
    if !spec.get("storageClassName").is_empty() {
        spec.get("storageClassName").forbidden(causes, &not);
    }
    if mode.is_present() && mode.str() != "Filesystem" {
        mode.forbidden(causes, format!("may not specify volumeMode other than Filesystem {context}"));
    }
}

fn volume_spec(spec: Node<'_, '_>, name: &str, causes: &mut Causes) {
    access_modes(spec, "", causes);
    let capacity = spec.get("capacity");
    capacity.need(causes);
    if capacity.key("storage").is_absent() || capacity.len() > 1 {
        let shown = capacity.value().cloned().unwrap_or_default();
        causes.not_supported(capacity.path(), shown, &["storage"]);
    }
    for (_, amount) in capacity.entries() {
        if let Some(held) = amount.amount().filter(|held| held.value() <= 0) {
            if held.value() < 0 {
                causes.invalid(amount.path(), held.value(), "must be a valid resource quantity");
            }
            amount.invalid(causes, "must be greater than zero");
        }
    }
    let (policy, class, affinity) =
        (spec.get("persistentVolumeReclaimPolicy"), spec.get("volumeAttributesClassName"), spec.get("nodeAffinity"));
    if !policy.is_empty() {
        policy.one_of(&["Delete", "Recycle", "Retain"], causes);
    }
    if affinity.is_present() {
        if affinity.get("required").is_present() {
            pod::scheduling::node_selector(affinity.get("required"), causes);
        } else {
            affinity.get("required").required(causes, "must specify required node constraints");
        }
    }
    let sources = OF_VOLUMES.iter().filter_map(|field| SOURCES.iter().find(|source| source.field == *field));
    one_source(spec, sources, causes, &mut |field, node, causes| {
        of_volume(name, field, node, causes);
        if field == "local" && affinity.is_absent() {
            affinity.required(causes, "Local volume requires node affinity");
        }
    });
    let host = spec.get("hostPath");
    let host = host.get("path").str();
    if !host.is_empty() && host.bytes().all(|byte| byte == b'/') && policy.str() == "Recycle" {
        policy.forbidden(causes, "may not be 'recycle' for a hostPath mount of '/'");
    }
    spec.get("storageClassName").keep_if_set(names::dns_1123_subdomain, causes);
    spec.get("volumeMode").one_of_if_present(VOLUME_MODES, causes);
    if class.is_present() {
        if class.is_empty() {
            class.required(causes, "an empty string is disallowed");
        } else {
            class.keep(names::dns_1123_subdomain, causes);
        }
        if spec.get("csi").is_absent() {
            spec.get("csi").required(causes, "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn volume_changes(spec: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let differs = OF_VOLUMES.iter().any(|field| {
        let (now, before) = (spec.get(field), old.get(field));
        if *field != "csi" || before.is_absent() || before.get("controllerExpandSecretRef").is_present() {
            return now.value() != before.value();
        }
        // That secret may be added.
        let mut kept = now.value().cloned().unwrap_or_default();
        if let Some(fields) = kept.as_object_mut() {
            fields.remove("controllerExpandSecretRef");
        }
        Some(&kept) != before.value()
    });
    if differs {
        causes.forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation\n");
    }
    let (mode, before) = (spec.get("volumeMode"), old.get("volumeMode"));
    if mode.value() != before.value() {
        let shown = mode.value().cloned().unwrap_or_default();
        causes.invalid("volumeMode", shown, super::checks::IMMUTABLE);
    }
    let (affinity, before) = (spec.get("nodeAffinity"), old.get("nodeAffinity"));
    if before.is_present() && affinity.value() != before.value() {
        let shown = affinity.value().cloned().unwrap_or_default();
        causes.invalid("nodeAffinity", shown, "field is immutable, except for updating from beta label to GA");
    }
    let (class, before) = (spec.get("volumeAttributesClassName"), old.get("volumeAttributesClassName"));
    if before.is_present() && class.is_absent() {
        class.forbidden(causes, "update from non-nil value to nil is forbidden");
    }
}
