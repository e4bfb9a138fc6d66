//! Claims and volumes that are in use are not deleted: a finalizer stays as long as something needs them.
//!
//! Upstream: pkg/controller/volume/pvcprotection, pkg/controller/volume/pvprotection.

use std::sync::Arc;

use coracle_api::Object;
use coracle_client::{Change, Controller, Error, Item, Key, Next, Project, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Api, PostParams};
use serde::Deserialize;

use crate::claims::{CLAIM_PROTECTION, ClaimView};
use crate::pods::PodView;
use crate::{Scope, resources};

const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

struct Claims {
    scope: Scope,
    claims: View<ClaimView>,
    pods: View<PodView>,
}

pub fn start_claims(scope: Scope) -> BoxFuture<'static, ()> {
    let claims = scope.views.view::<ClaimView>(&resources::claims());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let controller = Controller::new("pvc-protection")
        .on(&claims, |change| {
            let off = change.present().filter(|claim| claim.deleting == claim.protected);
            off.map(|claim| claim.key.clone())
        })
        .on(&pods, released);
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Claims { scope, claims, pods });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

/// The claims of a pod that ended or is gone.
fn released(change: &Change<PodView>) -> Vec<Key> {
    let pod = change.item();
    if pod.claims.is_empty() || change.present().is_some_and(|pod| !pod.finished()) {
        return Vec::new();
    }
    pod.claims.iter().map(|claim| Key::new(pod.key.namespace.clone(), &**claim)).collect()
}

impl Claims {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let Some(claim) = self.claims.get(&key) else { return Ok(Next::Done) };
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        if claim.deleting && claim.protected {
            // What the view does not show yet is asked for.
            if self.in_view(&key) || self.in_use(&key).await? {
                return Ok(Next::Done);
            }
        } else if claim.deleting || claim.protected {
            return Ok(Next::Done);
        }
        let Some(mut claim) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let deleting = claim.metadata.deletion_timestamp.is_some();
        let finalizers = claim.metadata.finalizers.get_or_insert_default();
        if switch(finalizers, CLAIM_PROTECTION, !deleting) {
            found(api.replace(&key.name, &PostParams::default(), &claim).await)?;
        }
        Ok(Next::Done)
    }

    fn in_view(&self, key: &Key) -> bool {
        self.pods.in_namespace(&key.namespace).iter().any(|pod| uses(pod, &key.name))
    }

    async fn in_use(&self, key: &Key) -> Result<bool, Error> {
        let pods: Api<Pod> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let names = |pod: &Pod| {
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let mut claims = volumes.filter_map(|volume| match &volume.ephemeral {
                Some(_) => Some(format!("{name}-{}", volume.name)),
                None => volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone()),
            });
            claims.any(|claim| claim == *key.name)
        };
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        Ok(pods.list(&Default::default()).await?.iter().any(|pod| !ended(pod) && names(pod)))
    }
}

fn uses(pod: &Item<PodView>, claim: &str) -> bool {
    !pod.finished() && pod.claims.iter().any(|name| &**name == claim)
}

/// Adds or takes away a finalizer; says whether that changed anything.
fn switch(finalizers: &mut Vec<String>, name: &str, on: bool) -> bool {
    let has = finalizers.iter().any(|finalizer| finalizer == name);
    match (has, on) {
        (false, true) => finalizers.push(name.to_owned()),
        (true, false) => finalizers.retain(|finalizer| finalizer != name),
        _ => return false,
    }
    true
}

/// What is remembered of a volume.
struct VolumeView {
    deleting: bool,
    protected: bool,
    bound: bool,
}

impl Project for VolumeView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Decoded {
            metadata: Metadata,
            #[serde(default)]
            status: Status,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            #[serde(default)]
            deletion_timestamp: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            finalizers: Vec<Box<str>>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Status {
            phase: Box<str>,
        }
        let Decoded { metadata, status } = object.decode().ok()?;
        Some(Self {
            deleting: metadata.deletion_timestamp.is_some(),
            protected: metadata.finalizers.iter().any(|finalizer| &**finalizer == VOLUME_PROTECTION),
            bound: &*status.phase == "Bound",
        })
    }
}

pub fn start_volumes(scope: Scope) -> BoxFuture<'static, ()> {
    let volumes = scope.views.view::<VolumeView>(&resources::volumes());
    let controller = Controller::new("pv-protection").on(&volumes, |change| {
        let off = |volume: &VolumeView| match volume.deleting {
            true => volume.protected && !volume.bound,
            false => !volume.protected,
        };
        change.present().filter(|volume| off(volume)).map(|volume| volume.key.clone())
    });
    let shutdown = scope.shutdown.clone();
    let reconcile = move |key: Key| {
        let api: Api<PersistentVolume> = Api::all(scope.client.clone());
        async move {
            let Some(mut volume) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
            let deleting = volume.metadata.deletion_timestamp.is_some();
            let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
            if deleting && phase == Some("Bound") {
                return Ok(Next::Done);
            }
            if switch(volume.metadata.finalizers.get_or_insert_default(), VOLUME_PROTECTION, !deleting) {
                found(api.replace(&key.name, &PostParams::default(), &volume).await)?;
            }
            Ok(Next::Done)
        }
    };
    async move { controller.run(&shutdown, reconcile).await }.boxed()
}
