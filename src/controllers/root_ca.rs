//! The cluster's CA in every namespace, as ConfigMap `kube-root-ca.crt`: pods verify the API server with it.
//!
//! Upstream: pkg/controller/certificates/rootcacertpublisher.

use std::collections::BTreeMap;

use coracle_api::Object;
use coracle_base::crypto;
use coracle_client::{Controller, Error, Key, Next, Project};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};

use crate::namespace::NamespaceView;
use crate::{Scope, resources};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

/// The ConfigMap of that name, by a hash of what it should hold: its role may write ConfigMaps but not read them.
struct RootView {
    hash: [u8; 32],
}

impl Project for RootView {
    fn project(object: &Object) -> Option<Self> {
        if &*object.meta().name != NAME {
            return None;
        }
        let map: ConfigMap = object.decode().ok()?;
        let described = map.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DESCRIPTION.0));
        Some(RootView { hash: hash(map.data.as_ref(), described.map(String::as_str)) })
    }
}

fn hash(data: Option<&BTreeMap<String, String>>, described: Option<&str>) -> [u8; 32] {
    crypto::sha256(format!("{data:?} {described:?}").as_bytes())
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let namespaces = scope.views.view::<NamespaceView>(&resources::namespaces());
    let maps = scope.views.view::<RootView>(&resources::config_maps());
    let controller = Controller::new("root-ca")
        .on(&namespaces, |change| Some(change.item().key.clone()))
        .on(&maps, |change| Some(Key::cluster(change.item().key.namespace.clone())));
    let shutdown = scope.shutdown.clone();
    let reconcile = move |key: Key| {
        let (scope, namespaces, maps) = (scope.clone(), namespaces.clone(), maps.clone());
        async move {
            if namespaces.get(&key).is_none_or(|namespace| namespace.deleting) {
                return Ok(Next::Done);
            }
            let there = maps.get(&Key::new(key.name.clone(), NAME)).map(|map| map.hash);
            publish(&scope, &key.name, there).await
        }
    };
    async move { controller.run(&shutdown, reconcile).await }.boxed()
}

async fn publish(scope: &Scope, namespace: &str, there: Option<[u8; 32]>) -> Result<Next, Error> {
    let data = BTreeMap::from([("ca.crt".to_owned(), scope.root_ca.to_string())]);
    if there == Some(hash(Some(&data), Some(DESCRIPTION.1))) {
        return Ok(Next::Done);
    }
    let api: Api<ConfigMap> = Api::namespaced(scope.client.clone(), namespace);
    let metadata = ObjectMeta {
        name: Some(NAME.to_owned()),
        annotations: Some(BTreeMap::from([(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned())])),
        ..ObjectMeta::default()
    };
    let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
    let written = match there {
        Some(_) => api.replace(NAME, &PostParams::default(), &map).await,
        None => api.create(&PostParams::default(), &map).await,
    };
    match written.map_err(Error::from) {
        // The view follows, and with it another look.
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => {
            Ok(Next::Done)
        }
        Err(error) => Err(error),
        Ok(_) => Ok(Next::Done),
    }
}
