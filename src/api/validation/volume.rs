//! Volumes of pods. Upstream: pkg/apis/core/validation ValidateVolumes.

use crate::causes::Causes;
use crate::names;
use crate::node::Node;

/// In the order in which a second source is refused.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "storageos",
    "portworxVolume",
    "azureDisk",
    "photonPersistentDisk",
    "vsphereVolume",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

pub(super) fn volumes(volumes: Node<'_, '_>, causes: &mut Causes) {
    let mut seen: Vec<&str> = Vec::new();
    for volume in volumes.items() {
        sources(volume, causes);
        let name = volume.get("name");
        if name.is_empty() {
            name.required(causes, "");
        } else {
            name.invalid_each(causes, names::dns_1123_label(name.str()));
        }
        if seen.contains(&name.str()) {
            name.duplicate(causes);
        }
        seen.push(name.str());
    }
}

fn sources(volume: Node<'_, '_>, causes: &mut Causes) {
    let mut found = false;
    for kind in SOURCES.iter().copied() {
        let source = volume.get(kind);
        if source.is_absent() {
            continue;
        }
        if found {
            source.forbidden(causes, "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        match kind {
            "emptyDir" => {
                let limit = source.get("sizeLimit");
                if limit.quantity().is_some_and(|limit| limit.is_ok_and(|limit| limit.is_negative())) {
                    limit.forbidden(causes, "SizeLimit field must be a valid resource quantity");
                }
            }
            "hostPath" => {
                let path = source.get("path");
                if path.is_empty() {
                    path.required(causes, "");
                } else {
                    no_backsteps(path, causes);
                }
            }
            "secret" => {
                required(source.get("secretName"), causes);
                keys(source, causes);
            }
            "configMap" => {
                required(source.get("name"), causes);
                keys(source, causes);
            }
            "persistentVolumeClaim" => required(source.get("claimName"), causes),
            "projected" => {
                mode(source.get("defaultMode"), causes);
                for projection in source.get("sources").items() {
                    for kind in ["secret", "configMap"] {
                        let part = projection.get(kind);
                        if part.is_present() {
                            required(part.get("name"), causes);
                            keys(part, causes);
                        }
                    }
                    let token = projection.get("serviceAccountToken");
                    if token.is_present() {
                        required(token.get("path"), causes);
                        let seconds = token.get("expirationSeconds");
                        if seconds.int().is_some_and(|seconds| seconds < 600) {
                            seconds.invalid(causes, "may not specify a duration less than 10 minutes");
                        }
                    }
                }
            }
            _ => {}
        }
    }
    if !found {
        volume.required(causes, "must specify a volume type");
    }
}

fn required(node: Node<'_, '_>, causes: &mut Causes) {
    if node.is_empty() {
        node.required(causes, "");
    }
}

fn keys(source: Node<'_, '_>, causes: &mut Causes) {
    mode(source.get("defaultMode"), causes);
    for item in source.get("items").items() {
        required(item.get("key"), causes);
        let path = item.get("path");
        required(path, causes);
        relative_path(path, causes);
        if path.str().starts_with("..") && !path.str().starts_with("../") {
            path.invalid(causes, "must not start with '..'");
        }
        mode(item.get("mode"), causes);
    }
}

fn mode(node: Node<'_, '_>, causes: &mut Causes) {
    if node.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        node.invalid(causes, MODE);
    }
}

pub(super) fn relative_path(path: Node<'_, '_>, causes: &mut Causes) {
    if path.str().starts_with('/') {
        path.invalid(causes, "must be a relative path");
    }
    no_backsteps(path, causes);
}

fn no_backsteps(path: Node<'_, '_>, causes: &mut Causes) {
    if path.str().split('/').any(|part| part == "..") {
        path.invalid(causes, "must not contain '..'");
    }
}
