//! The claims of a StatefulSet's pods: made with them, and deleted with them or the set where the policy says so.
//!
//! Upstream: stateful_pod_control.go and isClaimOwnerUpToDate in pkg/controller/statefulset.

use coracle_client::{Error, Key, found};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, PostParams};

use super::{Sets, pod};
use crate::owners::Owner;
use crate::pod_control::{Known, Parent};

pub(super) fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.volume_claim_templates.as_deref().unwrap_or_default()
}

pub(super) fn name(template: &PersistentVolumeClaim, set: &str, ordinal: i32) -> String {
    format!("{}-{set}-{ordinal}", template.metadata.name.as_deref().unwrap_or_default())
}

/// Who owns the claims of a pod, by the retention policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) set: bool,
    pub(super) pod: bool,
    /// Nothing is to be deleted with anything.
    retain: bool,
}

/// `scaled_down`: the pod is beyond the set's size.
pub(super) fn wanted(set: &StatefulSet, scaled_down: bool) -> Wanted {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    let scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    Wanted { set: deleted && !(scaled && scaled_down), pod: scaled && scaled_down, retain: !scaled && !deleted }
}

impl Sets {
    /// Makes the claims that a pod lacks.
    pub(super) async fn make_claims(
        &self,
        parent: Parent<'_>,
        set: &StatefulSet,
        ordinal: i32,
        pod: &str,
    ) -> Result<(), Error> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.scope.client.clone(), parent.namespace());
        for template in templates(set) {
            let name = name(template, parent.name(), ordinal);
            match self.claims.get(&Key::new(parent.namespace(), name.as_str())) {
                Some(claim) if claim.deleting => return Err(Error::Other(format!("pvc {name} is being deleted"))),
                Some(_) => continue,
                None => {}
            }
            let mut claim = template.clone();
            claim.metadata.name = Some(name.clone());
            claim.metadata.namespace = set.metadata.namespace.clone();
            let selected = set.spec.selector.match_labels.clone().unwrap_or_default();
            claim.metadata.labels.get_or_insert_default().extend(selected);
            claim.status = None;
            let made = api.create(&PostParams::default(), &claim).await.map(drop).map_err(Error::from);
            if made.as_ref().is_err_and(Error::is_already_exists) {
                continue;
            }
            let what = match &made {
                Ok(()) => format!("Create Claim {name} Pod {pod} in StatefulSet {}", parent.name()),
                Err(_) => format!("Create Claim {name} for Pod {pod} in StatefulSet {}", parent.name()),
            };
            self.say(parent, "Create", &what, "success", made.as_ref().err());
            made.map_err(|error| Error::Other(format!("failed to create PVC {name}: {}", error.chain())))?;
        }
        Ok(())
    }

    /// Whether claims of an earlier pod of the name are still to go with it.
    pub(super) fn awaits_claims(&self, set: &StatefulSet, ordinal: i32, pod: &str) -> bool {
        if !wanted(set, true).pod {
            return false;
        }
        let (namespace, set_name) = (&set.metadata.namespace, set.metadata.name.as_deref().unwrap_or_default());
        templates(set).iter().any(|template| {
            let name = name(template, set_name, ordinal);
            let claim = self.claims.get(&Key::new(namespace.as_deref().unwrap_or_default(), name));
            claim.is_some_and(|claim| claim.owners.iter().any(|owner| is(owner, "Pod", pod)))
        })
    }

    /// Makes the set or the pod the owner of the pod's claims, or neither.
    pub(super) async fn own_claims(&self, parent: Parent<'_>, set: &StatefulSet, pod: &Known) -> Result<(), Error> {
        let Some((_, ordinal)) = pod::split(&pod.key.name) else { return Ok(()) };
        let start = set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
        let in_range = ordinal >= start && ordinal < start.saturating_add(set.spec.replicas.unwrap_or(1));
        let wanted = wanted(set, !in_range);
        for template in templates(set) {
            let name = name(template, parent.name(), ordinal);
            let Some(claim) = self.claims.get(&Key::new(parent.namespace(), name.as_str())) else { continue };
            if !up_to_date(&claim.owners, parent, pod, wanted) {
                self.rewrite(parent, &name, pod, wanted).await?;
            }
        }
        Ok(())
    }

    async fn rewrite(&self, parent: Parent<'_>, name: &str, pod: &Known, wanted: Wanted) -> Result<(), Error> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.scope.client.clone(), parent.namespace());
        let Some(mut claim) = found(api.get(name).await)? else { return Ok(()) };
        let references = claim.metadata.owner_references.take().unwrap_or_default();
        let owners: Vec<Owner> = references
            .iter()
            .filter_map(|it| serde_json::to_value(it).ok())
            .filter_map(|it| serde_json::from_value(it).ok())
            .collect();
        if up_to_date(&owners, parent, pod, wanted) {
            return Ok(());
        }
        let other = |it: &OwnerReference| {
            !(it.kind == "StatefulSet" && it.name == parent.name() || it.kind == "Pod" && it.name == *pod.key.name)
        };
        let mut references: Vec<OwnerReference> = references.into_iter().filter(other).collect();
        if !unexpected(&owners, parent, pod, wanted) {
            if wanted.set {
                references.push(parent.reference());
            }
            if wanted.pod {
                references.push(OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Pod".to_owned(),
                    name: pod.key.name.to_string(),
                    uid: pod.uid.to_string(),
                    controller: Some(true),
                    block_owner_deletion: Some(true),
                });
            }
        }
        claim.metadata.owner_references = (!references.is_empty()).then_some(references);
        api.replace(name, &PostParams::default(), &claim).await?;
        Ok(())
    }
}

fn is(owner: &Owner, kind: &str, name: &str) -> bool {
    &*owner.kind == kind && *owner.name == *name
}

/// Whether somebody else controls the claim.
fn unexpected(owners: &[Owner], parent: Parent<'_>, pod: &Known, wanted: Wanted) -> bool {
    let foreign = |owner: &Owner| {
        if is(owner, "StatefulSet", parent.name()) {
            *owner.uid != *parent.uid()
        } else if is(owner, "Pod", &pod.key.name) {
            owner.uid != pod.uid
        } else {
            owner.controller
        }
    };
    !wanted.retain && owners.iter().any(foreign)
}

pub(super) fn up_to_date(owners: &[Owner], parent: Parent<'_>, pod: &Known, wanted: Wanted) -> bool {
    let ours = |owner: &&Owner| is(owner, "StatefulSet", parent.name()) || is(owner, "Pod", &pod.key.name);
    let own = |owner: &Owner| *owner.uid == *parent.uid() || owner.uid == pod.uid;
    // An earlier set or pod of the name: the collector takes the claim.
    if owners.iter().filter(ours).any(|owner| !own(owner)) {
        return true;
    }
    let (set, of_pod) =
        (owners.iter().any(|owner| *owner.uid == *parent.uid()), owners.iter().any(|owner| owner.uid == pod.uid));
    if unexpected(owners, parent, pod, wanted) {
        return !set && !of_pod;
    }
    owners.iter().filter(|owner| own(owner)).all(|owner| owner.controller) && (set, of_pod) == (wanted.set, wanted.pod)
}
