//! What a container sees of volumes. Upstream: pkg/apis/core/validation ValidateVolumeMounts, ValidateVolumeDevices.

use crate::causes::Causes;
use crate::node::Node;
use crate::validation::checks::{Seen, backsteps, descending};

/// `volumes` are those that are valid themselves.
pub(super) fn mounts(container: Node<'_, '_>, volumes: &[Node<'_, '_>], causes: &mut Causes) {
    let (mounts, devices) = (container.get("volumeMounts"), container.get("volumeDevices"));
    let mut paths = Seen::new();
    for mount in mounts.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        name.need(causes);
        if find(volumes, name.str()).is_none() {
            causes.not_found(name.path(), name.str());
        }
        path.need(causes);
        if !paths.insert(path.str()) {
            path.invalid_text(causes, "must be unique");
        }
        if devices.find("name", name.str()).is_some() {
            name.invalid_text(causes, "must not already exist in volumeDevices");
        }
        if devices.find("devicePath", path.str()).is_some() {
            path.invalid_text(causes, "must not already exist as a path in volumeDevices");
        }
        let (sub, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
        if !expression.is_empty() && !sub.is_empty() {
            expression.invalid_text(causes, "subPathExpr and subPath are mutually exclusive");
        }
        // Upstream forgets the index in these paths.
        for (field, node) in [("subPath", sub), ("subPathExpr", expression)] {
            for message in descending(node.str()) {
                causes.invalid(mounts.path_of(field), node.str(), message);
            }
        }
        propagation(container, mounts, mount, causes);
    }
}

fn propagation(container: Node<'_, '_>, mounts: Node<'_, '_>, mount: Node<'_, '_>, causes: &mut Causes) {
    let (mode, recursive) = (mount.get("mountPropagation"), mount.get("recursiveReadOnly"));
    if mode.is_present() {
        let path = mounts.path_of("mountPropagation");
        if !["Bidirectional", "HostToContainer", "None"].contains(&mode.str()) {
            causes.not_supported(&*path, mode.str(), &["Bidirectional", "HostToContainer", "None"]);
        }
        if mode.str() == "Bidirectional" && !container.get("securityContext").get("privileged").bool() {
            causes.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
        }
    }
    let path = mounts.path_of("recursiveReadOnly");
    match recursive.str() {
        "Enabled" | "IfPossible" => {
            if !mount.get("readOnly").bool() {
                causes.forbidden(&*path, "may only be specified when readOnly is true");
            }
            if mode.is_present() && mode.str() != "None" {
                causes.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        "Disabled" => {}
        other if recursive.is_present() => {
            causes.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]);
        }
        _ => {}
    }
}

pub(super) fn devices(container: Node<'_, '_>, volumes: &[Node<'_, '_>], causes: &mut Causes) {
    let (mounts, devices) = (container.get("volumeMounts"), container.get("volumeDevices"));
    let (mut names, mut paths) = (Seen::new(), Seen::new());
    for device in devices.items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        name.need(causes);
        if !name.is_empty() && !names.insert(name.str()) {
            name.invalid_text(causes, "must be unique");
        }
        match find(volumes, name.str()) {
            None => causes.not_found(name.path(), name.str()),
            Some(volume) if volume.get("persistentVolumeClaim").is_absent() && volume.get("ephemeral").is_absent() => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                name.invalid_text(causes, why);
            }
            Some(_) => {}
        }
        path.need(causes);
        if paths.contains(path.str()) {
            path.invalid_text(causes, "must be unique");
        }
        if backsteps(path.str()).is_some() {
            path.invalid_text(causes, "can not contain backsteps ('..')");
        } else {
            paths.insert(path.str());
        }
        if mounts.find("name", name.str()).is_some() {
            name.invalid_text(causes, "must not already exist in volumeMounts");
        }
        if mounts.find("mountPath", path.str()).is_some() {
            path.invalid_text(causes, "must not already exist as a path in volumeMounts");
        }
    }
}

fn find<'a, 'v, 'p>(volumes: &'a [Node<'v, 'p>], name: &str) -> Option<&'a Node<'v, 'p>> {
    volumes.iter().find(|volume| volume.get("name").str() == name)
}
