//! ClusterRoles that are made of others: the rules of every role that one of the selectors selects.
//!
//! Upstream: pkg/controller/clusterroleaggregation.

use std::sync::Arc;

use coracle_api::Object;
use coracle_api::selector::LabelSelector;
use coracle_client::{Change, Controller, Error, Key, Next, Project, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Api, PostParams};

use crate::{Scope, resources};

/// What is remembered of a ClusterRole.
struct RoleView {
    labels: Box<[(Box<str>, Box<str>)]>,
    /// Of the roles that it is made of; empty for all others.
    selectors: Box<[LabelSelector]>,
}

impl Project for RoleView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Decoded {
            #[serde(default)]
            aggregation_rule: Rule,
        }
        #[derive(serde::Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Rule {
            cluster_role_selectors: Vec<serde_json::Value>,
        }
        let decoded: Decoded = object.decode().ok()?;
        let selectors = decoded.aggregation_rule.cluster_role_selectors;
        let selectors = selectors.iter().filter_map(|selector| LabelSelector::from_object(Some(selector)).ok());
        Some(Self { labels: object.meta().labels.clone(), selectors: selectors.collect() })
    }
}

struct Roles {
    scope: Scope,
    roles: View<RoleView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let roles = scope.views.view::<RoleView>(&resources::cluster_roles());
    let known = roles.clone();
    let controller = Controller::new("clusterrole-aggregation").on(&roles, move |change| concerned(change, &known));
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Roles { scope, roles });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

/// The role itself, and those that it is part of or was.
fn concerned(change: &Change<RoleView>, roles: &View<RoleView>) -> Vec<Key> {
    let forms = || [change.former(), change.present()].into_iter().flatten();
    let mut keys: Vec<Key> =
        change.present().filter(|role| !role.selectors.is_empty()).map(|role| role.key.clone()).into_iter().collect();
    let labelled = forms().any(|role| !role.labels.is_empty());
    let all = if labelled { roles.list() } else { Vec::new() };
    let gathers =
        |role: &RoleView| role.selectors.iter().any(|selector| forms().any(|form| selector.matches(&*form.labels)));
    keys.extend(all.into_iter().filter(|role| gathers(role)).map(|role| role.key.clone()));
    keys
}

impl Roles {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let Some(view) = self.roles.get(&key).filter(|role| !role.selectors.is_empty()) else {
            return Ok(Next::Done);
        };
        let api: Api<ClusterRole> = Api::all(self.scope.client.clone());
        let Some(role) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let mut rules: Vec<PolicyRule> = Vec::new();
        for selector in &view.selectors {
            let parts = self.roles.list().into_iter();
            for part in parts.filter(|part| part.key != key && selector.matches(&*part.labels)) {
                let part = found(api.get(&part.key.name).await)?;
                for rule in part.and_then(|part| part.rules).unwrap_or_default() {
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
            }
        }
        if role.rules.as_deref().unwrap_or_default() != rules {
            let role = ClusterRole { rules: Some(rules), ..role };
            api.replace(&key.name, &PostParams::default(), &role).await?;
        }
        Ok(Next::Done)
    }
}
