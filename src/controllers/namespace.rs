//! Namespaces: everything in a namespace that is being deleted goes, then the namespace does.
//!
//! Upstream: pkg/controller/namespace. Pods go first, so that nothing they use is pulled from under them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::{Object, Resource};
use coracle_client::{Controller, Error, Key, Next, Project, found, rest};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::pods::PodView;
use crate::{Scope, resources, time};

mod conditions;

use conditions::Remaining;

const WORKERS: usize = 3;
const FINALIZER: &str = "kubernetes";
/// What has finalizers is looked at again after this time. Pods are watched.
const FINALIZERS_TAKE: Duration = Duration::from_secs(15);

/// What controllers remember of a namespace.
pub struct NamespaceView {
    pub deleting: bool,
}

impl Project for NamespaceView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Decoded {
            metadata: Metadata,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            deletion_timestamp: Option<serde::de::IgnoredAny>,
        }
        let decoded: Decoded = object.decode().ok()?;
        Some(Self { deleting: decoded.metadata.deletion_timestamp.is_some() })
    }
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let namespaces = scope.views.view::<NamespaceView>(&resources::namespaces());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let known = namespaces.clone();
    let controller = Controller::new("namespace")
        .workers(WORKERS)
        .on(&namespaces, |change| {
            change.present().filter(|namespace| namespace.deleting).map(|namespace| namespace.key.clone())
        })
        .on(&pods, move |change| {
            let key = Key::cluster(change.item().key.namespace.clone());
            let going = known.get(&key).is_some_and(|namespace| namespace.deleting);
            (going && change.present().is_none()).then_some(key)
        });
    let shutdown = scope.shutdown.clone();
    let scope = Arc::new(scope);
    async move { controller.run(&shutdown, move |key| reconcile(scope.clone(), key)).await }.boxed()
}

async fn reconcile(scope: Arc<Scope>, key: Key) -> Result<Next, Error> {
    let api: Api<Namespace> = Api::all(scope.client.clone());
    let Some(mut namespace) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
    if namespace.metadata.deletion_timestamp.is_none() {
        return Ok(Next::Done);
    }
    if namespace.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating") {
        namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        let Some(written) = found(api.replace_status(&key.name, &PostParams::default(), &namespace).await)? else {
            return Ok(Next::Done);
        };
        namespace = written;
    }
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
    if finalizers.is_empty() {
        return Ok(Next::Done);
    }
    let remaining = empty(&scope.client, &key.name).await;
    let now = time::api_time(scope.clock.now());
    if conditions::update(namespace.status.get_or_insert_default(), &remaining, &now) {
        match found(api.replace_status(&key.name, &PostParams::default(), &namespace).await)? {
            Some(written) => namespace = written,
            None => return Ok(Next::Done),
        }
    }
    if let Some(failure) = remaining.failures.first() {
        return Err(Error::Other(failure.clone()));
    }
    if !remaining.resources.is_empty() {
        return Ok(Next::After(remaining.again.unwrap_or(FINALIZERS_TAKE)));
    }
    finalize(&scope.client, &key, namespace).await
}

/// Deletes what is in the namespace; says what is still there.
async fn empty(client: &kube::Client, namespace: &str) -> Remaining {
    let mut remaining = Remaining::default();
    let (pods, others): (Vec<_>, Vec<_>) = Resource::all()
        .filter(|resource| resource.namespaced && resource.has_verb("delete") && resource.has_verb("list"))
        .filter(|resource| resource.storage == (resource.group.clone(), resource.version.clone()))
        .partition(|resource| *resource == resources::pods());
    for resource in pods.iter().chain(&others) {
        if let Err(error) = empty_of(client, resource, namespace, &mut remaining).await {
            remaining.failures.push(format!("{}.{}: {}", resource.plural, resource.group, error.chain()));
        }
        if *resource == resources::pods() && !remaining.resources.is_empty() {
            break;
        }
    }
    remaining
}

async fn empty_of(
    client: &kube::Client,
    resource: &Resource,
    namespace: &str,
    remaining: &mut Remaining,
) -> Result<(), Error> {
    let there = rest::list_metadata(client, resource, Some(namespace)).await?;
    if there.is_empty() {
        return Ok(());
    }
    let options = json!({"propagationPolicy": "Background"});
    if resource.has_verb("deletecollection") {
        rest::delete_collection(client, resource, namespace, &options).await?;
    } else {
        for object in &there {
            let key = Key::new(namespace, object.metadata.name.as_deref().unwrap_or_default());
            found(rest::delete(client, resource, &key, &options).await)?;
        }
    }
    let left = rest::list_metadata(client, resource, Some(namespace)).await?;
    let mut finalized = false;
    for object in &left {
        for finalizer in object.metadata.finalizers.iter().flatten() {
            *remaining.finalizers.entry(finalizer.clone()).or_default() += 1;
            finalized = true;
        }
        let grace = object.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0).unsigned_abs();
        let again = Duration::from_secs(grace / 2 + 1);
        remaining.again = remaining.again.max((grace > 0).then_some(again));
    }
    if !left.is_empty() {
        remaining.resources.insert(format!("{}.{}", resource.plural, resource.group), left.len());
        if !finalized && remaining.again.is_none() {
            return Err(Error::Other(format!(
                "unexpected items still remain in namespace: {namespace} for {resource:?}"
            )));
        }
    }
    Ok(())
}

/// Takes the finalizer from the spec, which only the subresource `finalize` can; the server then removes the namespace.
async fn finalize(client: &kube::Client, key: &Key, mut namespace: Namespace) -> Result<Next, Error> {
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    let body = serde_json::to_value(&namespace)?;
    let uri = format!("/api/v1/namespaces/{}/finalize", key.name);
    let header = ("content-type", "application/json");
    found(rest::ask::<serde::de::IgnoredAny>(client, http::Method::PUT, &uri, header, Some(&body)).await)?;
    Ok(Next::Done)
}

/// How often each finalizer is left.
type Finalizers = BTreeMap<String, usize>;
