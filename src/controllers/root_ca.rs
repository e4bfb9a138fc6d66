//! The cluster's CA in every namespace, as ConfigMap `kube-root-ca.crt`: pods verify the API server with it.
//!
//! Upstream: pkg/controller/certificates/rootcacertpublisher.

use std::collections::BTreeMap;

use coracle_api::Object;
use coracle_client::{Controller, Error, Key, Next, Project, found};
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

/// That one of the name is there.
struct RootView;

impl Project for RootView {
    fn project(object: &Object) -> Option<Self> {
        (&*object.meta().name == NAME).then_some(RootView)
    }
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let namespaces = scope.views.view::<NamespaceView>(&resources::namespaces());
    let maps = scope.views.view::<RootView>(&resources::config_maps());
    let controller = Controller::new("root-ca")
        .on(&namespaces, |change| Some(change.item().key.clone()))
        .on(&maps, |change| Some(Key::cluster(change.item().key.namespace.clone())));
    let shutdown = scope.shutdown.clone();
    let reconcile = move |key: Key| {
        let (scope, namespaces) = (scope.clone(), namespaces.clone());
        async move {
            if namespaces.get(&key).is_none_or(|namespace| namespace.deleting) {
                return Ok(Next::Done);
            }
            publish(&scope, &key.name).await
        }
    };
    async move { controller.run(&shutdown, reconcile).await }.boxed()
}

async fn publish(scope: &Scope, namespace: &str) -> Result<Next, Error> {
    let api: Api<ConfigMap> = Api::namespaced(scope.client.clone(), namespace);
    let data = BTreeMap::from([("ca.crt".to_owned(), scope.root_ca.to_string())]);
    let Some(mut there) = found(api.get(NAME).await)? else {
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            annotations: Some(BTreeMap::from([(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned())])),
            ..ObjectMeta::default()
        };
        let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        return match api.create(&PostParams::default(), &map).await.map_err(Error::from) {
            Err(error) if !(error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found()) => {
                Err(error)
            }
            _ => Ok(Next::Done),
        };
    };
    let annotations = there.metadata.annotations.get_or_insert_default();
    let described = annotations.insert(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned());
    if there.data.as_ref() == Some(&data) && described.as_deref() == Some(DESCRIPTION.1) {
        return Ok(Next::Done);
    }
    there.data = Some(data);
    api.replace(NAME, &PostParams::default(), &there).await?;
    Ok(Next::Done)
}
