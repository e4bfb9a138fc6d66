//! The ServiceAccount `default` in every namespace.
//!
//! Upstream: pkg/controller/serviceaccount/serviceaccounts_controller.go.

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use coracle_client::{Change, Controller, Error, Key, Next, Project};
use kube::api::{Api, PostParams};

use crate::namespace::NamespaceView;
use crate::{Scope, resources};

const NAME: &str = "default";

/// That it is there.
struct AccountView;

impl Project for AccountView {
    fn project(object: &coracle_api::Object) -> Option<Self> {
        (&*object.meta().name == NAME).then_some(AccountView)
    }
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let namespaces = scope.views.view::<NamespaceView>(&resources::namespaces());
    let accounts = scope.views.view::<AccountView>(&resources::service_accounts());
    let controller = Controller::new("serviceaccount").on(&namespaces, |change| Some(change.item().key.clone())).on(
        &accounts,
        |change| match change {
            Change::Removed(account) => Some(Key::cluster(account.key.namespace.clone())),
            _ => None,
        },
    );
    let shutdown = scope.shutdown.clone();
    let reconcile = move |key: Key| {
        let (client, namespaces, accounts) = (scope.client.clone(), namespaces.clone(), accounts.clone());
        async move {
            let alive = namespaces.get(&key).is_some_and(|namespace| !namespace.deleting);
            if !alive || accounts.get(&Key::new(key.name.clone(), NAME)).is_some() {
                return Ok(Next::Done);
            }
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            let account = ServiceAccount { metadata, ..ServiceAccount::default() };
            let api: Api<ServiceAccount> = Api::namespaced(client, &key.name);
            match api.create(&PostParams::default(), &account).await.map_err(Error::from) {
                Err(error)
                    if !(error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found()) =>
                {
                    Err(error)
                }
                _ => Ok(Next::Done),
            }
        }
    };
    async move { controller.run(&shutdown, reconcile).await }.boxed()
}
