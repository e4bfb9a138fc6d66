//! Pods and pod templates. Upstream: pkg/apis/core/v1/defaults.go.

use serde_json::json;

use super::draft::Draft;
use crate::quantity::Quantity;

pub(super) fn pod(pod: &mut Draft<'_>) {
    if let Some(mut spec) = pod.get("spec") {
        if spec
            .value("terminationGracePeriodSeconds")
            .and_then(|period| period.as_i64())
            .is_some_and(|period| period < 0)
        {
            spec.set("terminationGracePeriodSeconds", 1);
        }
        for list in ["containers", "initContainers"] {
            for mut container in spec.items(list) {
                if let Some(mut resources) = container.get("resources") {
                    resources.fill_map("requests", "limits");
                }
            }
        }
        spec.default("enableServiceLinks", true);
        if spec.bool("hostNetwork") {
            for list in ["containers", "initContainers"] {
                for mut container in spec.items(list) {
                    for mut port in container.items("ports") {
                        if let Some(number) = port.value("containerPort").cloned() {
                            port.default_zero("hostPort", number);
                        }
                    }
                }
            }
        }
        pod_spec(&mut spec);
    }
    if let Some(mut status) = pod.get("status") {
        pod_status(&mut status);
    }
}

pub(super) fn pod_template(object: &mut Draft<'_>) {
    if let Some(mut template) = object.get("template") {
        template_spec(&mut template);
    }
}

/// A `template` field of a workload.
pub(super) fn template_spec(template: &mut Draft<'_>) {
    if let Some(mut spec) = template.get("spec") {
        pod_spec(&mut spec);
    }
}

/// Keeps the single address and the list in step; the single one wins.
fn pod_status(status: &mut Draft<'_>) {
    let single = status.str("podIP").to_owned();
    let first = status.items("podIPs").next().map(|address| address.str("ip").to_owned());
    match (single.is_empty(), first) {
        (true, Some(first)) => status.set("podIP", first),
        (false, first) if first.as_deref() != Some(&single) => status.set("podIPs", json!([{"ip": single}])),
        _ => {}
    }
}

fn pod_spec(spec: &mut Draft<'_>) {
    if spec.is_zero("serviceAccountName") && !spec.is_zero("serviceAccount") {
        let name = spec.str("serviceAccount").to_owned();
        spec.set("serviceAccountName", name);
    }
    if !spec.is_zero("serviceAccountName") {
        let name = spec.str("serviceAccountName").to_owned();
        spec.set("serviceAccount", name);
    }
    spec.default_zero("dnsPolicy", "ClusterFirst");
    spec.default_zero("restartPolicy", "Always");
    spec.make("securityContext");
    spec.default("terminationGracePeriodSeconds", 30);
    spec.default_zero("schedulerName", "default-scheduler");
    spec.items("volumes").for_each(|mut volume| volume_source(&mut volume));
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.items(list).for_each(|mut container| container_defaults(&mut container));
    }
    if let Some(mut overhead) = spec.get("overhead") {
        resource_list(&mut overhead);
    }
    if let Some(mut resources) = spec.get("resources") {
        resource_requirements(&mut resources);
    }
}

fn container_defaults(container: &mut Draft<'_>) {
    if container.is_zero("imagePullPolicy") {
        let policy = pull_policy(container.str("image"));
        container.set("imagePullPolicy", policy);
    }
    container.default_zero("terminationMessagePath", "/dev/termination-log");
    container.default_zero("terminationMessagePolicy", "File");
    for mut port in container.items("ports") {
        port.default_zero("protocol", "TCP");
    }
    for mut variable in container.items("env") {
        if let Some(mut source) = variable.get("valueFrom")
            && let Some(mut reference) = source.get("fieldRef")
        {
            reference.default_zero("apiVersion", "v1");
        }
    }
    if let Some(mut resources) = container.get("resources") {
        resource_requirements(&mut resources);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(mut probe) = container.get(name) {
            probe.default_zero("timeoutSeconds", 1);
            probe.default_zero("periodSeconds", 10);
            probe.default_zero("successThreshold", 1);
            probe.default_zero("failureThreshold", 3);
            handler(&mut probe);
        }
    }
    if let Some(mut lifecycle) = container.get("lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(mut hook) = lifecycle.get(name) {
                handler(&mut hook);
            }
        }
    }
}

fn handler(handler: &mut Draft<'_>) {
    if let Some(mut get) = handler.get("httpGet") {
        get.default_zero("path", "/");
        get.default_zero("scheme", "HTTP");
    }
    if let Some(mut grpc) = handler.get("grpc") {
        grpc.default("service", "");
    }
}

/// Images whose tag is `latest`, said or meant, are pulled always.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, ""), |(name, digest)| (name, digest));
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    match tag {
        Some("latest") => "Always",
        None if digest.is_empty() && !image.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

pub(super) fn resource_requirements(resources: &mut Draft<'_>) {
    for name in ["limits", "requests"] {
        if let Some(mut list) = resources.get(name) {
            resource_list(&mut list);
        }
    }
}

/// Nothing below thousandths is kept.
pub(super) fn resource_list(list: &mut Draft<'_>) {
    for value in list.values() {
        let Some(text) = value.as_str() else { continue };
        if text.ends_with(['n', 'u'])
            && let Ok(quantity) = Quantity::parse(text)
        {
            *value = quantity.rounded_up_to_milli().to_string().into();
        }
    }
}

const SOURCES: [&str; 30] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
];

fn volume_source(volume: &mut Draft<'_>) {
    if SOURCES.iter().all(|source| volume.is_absent(source)) {
        volume.make("emptyDir");
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(mut source) = volume.get(source) {
            source.default("defaultMode", 0o644);
        }
    }
    if let Some(mut source) = volume.get("hostPath") {
        source.default("type", "");
    }
    if let Some(mut source) = volume.get("downwardAPI") {
        downward_items(&mut source);
    }
    if let Some(mut source) = volume.get("projected") {
        for mut projection in source.items("sources") {
            if let Some(mut downward) = projection.get("downwardAPI") {
                downward_items(&mut downward);
            }
            if let Some(mut token) = projection.get("serviceAccountToken") {
                token.default("expirationSeconds", 3600);
            }
        }
    }
    if let Some(mut source) = volume.get("image")
        && source.is_zero("pullPolicy")
    {
        let policy = pull_policy(source.str("reference"));
        source.set("pullPolicy", policy);
    }
    if let Some(mut source) = volume.get("ephemeral")
        && let Some(mut template) = source.get("volumeClaimTemplate")
        && let Some(mut spec) = template.get("spec")
    {
        claim_spec(&mut spec);
    }
}

fn downward_items(source: &mut Draft<'_>) {
    for mut item in source.items("items") {
        if let Some(mut reference) = item.get("fieldRef") {
            reference.default_zero("apiVersion", "v1");
        }
    }
}

pub(super) fn claim_spec(spec: &mut Draft<'_>) {
    spec.default("volumeMode", "Filesystem");
    if let Some(mut resources) = spec.get("resources") {
        resource_requirements(&mut resources);
    }
}
