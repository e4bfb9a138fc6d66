//! The pods of a StatefulSet: their names and what they are made from.
//!
//! Upstream: pkg/controller/statefulset/stateful_set_utils.go.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};

use super::{REVISION, claim};
use crate::pod_control::Parent;

pub(super) const NAME: &str = "statefulset.kubernetes.io/pod-name";
pub(super) const INDEX: &str = "apps.kubernetes.io/pod-index";

pub(super) fn name(set: &str, ordinal: i32) -> String {
    format!("{set}-{ordinal}")
}

/// The set and the ordinal in a pod's name.
pub(super) fn split(name: &str) -> Option<(&str, i32)> {
    let (set, ordinal) = name.rsplit_once('-')?;
    let digits = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    Some((set, ordinal.parse().ok().filter(|_| digits)?))
}

pub(super) fn make(
    parent: Parent<'_>,
    set: &StatefulSet,
    template: &PodTemplateSpec,
    revision: &str,
    ordinal: i32,
) -> Pod {
    let mut pod = parent.pod(template);
    let name = name(parent.name(), ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME.to_owned(), name.clone());
    labels.insert(INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION.to_owned(), revision.to_owned());
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone();
    let claims = claim::templates(set);
    let named = |volume: &Volume| claims.iter().any(|claim| claim.metadata.name.as_deref() == Some(&volume.name));
    let others: Vec<Volume> = spec.volumes.take().unwrap_or_default().into_iter().filter(|it| !named(it)).collect();
    let own = claims.iter().map(|template| Volume {
        name: template.metadata.name.clone().unwrap_or_default(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim::name(template, parent.name(), ordinal),
            read_only: None,
        }),
        ..Volume::default()
    });
    let volumes: Vec<Volume> = own.chain(others).collect();
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    pod
}
