//! PodDisruptionBudgets: how many pods may be evicted just now, which the eviction subresource then takes off.
//!
//! Upstream: pkg/controller/disruption.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_api::Resource;
use coracle_api::selector::LabelSelector;
use coracle_client::events::Severity;
use coracle_client::{Change, Controller, Error, Item, Key, Next, View, found, path, rest};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::json;

use crate::owners::Owner;
use crate::percent::scaled;
use crate::pod_control::{Known, Parent, report};
use crate::pods::PodView;
use crate::selector::SelectorView;
use crate::{Scope, resources, time};

/// An evicted pod that is not deleted within this time counts again; seconds.
const DELETION_TIMEOUT: i64 = 120;
const ALLOWED: &str = "DisruptionAllowed";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Budget(Key),
    /// A pod that was to be disrupted and was not.
    Pod(Key),
}

struct Budgets {
    scope: Scope,
    pods: View<PodView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let budgets = scope.views.view::<SelectorView>(&resources::budgets());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let known = budgets.clone();
    let controller = Controller::new("disruption")
        .on(&budgets, |change| Some(Work::Budget(change.item().key.clone())))
        .on(&pods, move |change| concerned(change, &known));
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Budgets { scope, pods });
    async move { controller.run(&shutdown, move |work| this.clone().reconcile(work)).await }.boxed()
}

fn concerned(change: &Change<PodView>, budgets: &View<SelectorView>) -> Vec<Work> {
    let (old, new) = (change.former(), change.present());
    let facts = |pod: &Arc<Item<PodView>>| (pod.labels.clone(), pod.ready, pod.deleting, pod.owner.clone());
    let mut work = Vec::new();
    if old.map(facts) != new.map(facts) && !budgets.is_empty() {
        let pods = || [old, new].into_iter().flatten();
        let all = budgets.in_namespace(&change.item().key.namespace).into_iter();
        let selecting = all.filter(|budget| pods().any(|pod| budget.selector.matches(&*pod.labels)));
        work.extend(selecting.map(|budget| Work::Budget(budget.key.clone())));
    }
    let stale = new.filter(|pod| pod.disrupted.is_some() && pod.active());
    work.extend(stale.map(|pod| Work::Pod(pod.key.clone())));
    work
}

/// What a budget's pods come to.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    expected: i32,
    desired: i32,
    healthy: i32,
    /// Evicted, and not seen to be deleted yet.
    disrupted: BTreeMap<String, Time>,
    /// When the first of them counts again; seconds since the epoch.
    again: Option<i64>,
}

impl Budgets {
    async fn reconcile(self: Arc<Self>, work: Work) -> Result<Next, Error> {
        match work {
            Work::Budget(key) => self.budget(&key).await,
            Work::Pod(key) => self.clear(&key).await,
        }
    }

    async fn budget(&self, key: &Key) -> Result<Next, Error> {
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let Some(budget) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let spec = budget.spec.clone().unwrap_or_default();
        let selector = spec.selector.as_ref().map(serde_json::to_value).transpose()?;
        let selector = LabelSelector::from_object(selector.as_ref()).map_err(Error::Other)?;
        let pods: Vec<Known> =
            self.pods.in_namespace(&key.namespace).into_iter().filter(|pod| selector.matches(&*pod.labels)).collect();
        let parent = Parent { api_version: "policy/v1", kind: "PodDisruptionBudget", meta: &budget.metadata };
        if pods.is_empty() {
            self.report(parent, Severity::Normal, "NoPods", "No matching pods found".to_owned());
        }
        let before = budget.status.clone().unwrap_or_default();
        let now = self.scope.clock.now();
        let (status, again) = match self.scale(parent, &spec, &pods).await {
            Ok(scale) => {
                let counts = count(&spec, &before, &pods, scale, time::seconds(now));
                let again = counts.again;
                (status(&budget, before, counts, time::api_time(now)), again)
            }
            Err(error) => {
                let text = format!("Failed to calculate the number of expected pods: {}", error.chain());
                self.report(parent, Severity::Warning, "CalculateExpectedPodCountFailed", text);
                (failed(before, error.chain(), time::api_time(now)), None)
            }
        };
        if budget.status.as_ref() != Some(&status) {
            let budget = PodDisruptionBudget { status: Some(status), ..budget.clone() };
            found(api.replace_status(&key.name, &PostParams::default(), &budget).await)?;
        }
        Ok(again.map_or(Next::Done, |at| Next::After(time::until(at, now) + Duration::from_millis(1))))
    }

    /// How many pods the owners of these pods want, where the budget is a share of that.
    async fn scale(&self, parent: Parent<'_>, spec: &PodDisruptionBudgetSpec, pods: &[Known]) -> Result<i32, Error> {
        if spec.max_unavailable.is_none() && !matches!(spec.min_available, Some(IntOrString::String(_))) {
            return Ok(pods.len() as i32);
        }
        let mut unmanaged = false;
        let mut owners: BTreeMap<&str, (&Owner, &Known)> = BTreeMap::new();
        for pod in pods {
            match &pod.owner {
                Some(owner) => drop(owners.insert(&owner.uid, (owner, pod))),
                None => unmanaged = true,
            }
        }
        if unmanaged {
            let selector = serde_json::to_string(&spec.selector)?;
            let text = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, \
                 the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account \
                 for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            self.report(parent, Severity::Warning, "UnmanagedPods", text);
        }
        let mut total = 0;
        let mut counted = BTreeSet::new();
        for (owner, pod) in owners.into_values() {
            let (uid, replicas) = self.scale_of(&pod.key.namespace, owner, &pod.key.name).await?;
            if counted.insert(uid) {
                total += replicas;
            }
        }
        Ok(total)
    }

    /// The scale of an owner, or of the Deployment above a ReplicaSet; with the UID of what was asked.
    async fn scale_of(&self, namespace: &str, owner: &Owner, pod: &str) -> Result<(Box<str>, i32), Error> {
        let unknown = || Error::Other(format!("found no controllers for pod {pod:?}"));
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let resource = Resource::of_kind(group, version, &owner.kind).ok_or_else(unknown)?;
        let key = Key::new(namespace, &*owner.name);
        let meta = found(rest::metadata(&self.scope.client, &resource, &key).await)?.ok_or_else(unknown)?.metadata;
        if meta.uid.as_deref() != Some(&*owner.uid) {
            return Err(unknown());
        }
        let above = meta.owner_references.into_iter().flatten().find(|above| above.controller == Some(true));
        if let Some(above) = above.filter(|above| &*owner.kind == "ReplicaSet" && above.kind == "Deployment") {
            let above: Owner = serde_json::from_value(serde_json::to_value(above)?)?;
            return Box::pin(self.scale_of(namespace, &above, pod)).await;
        }
        #[derive(Deserialize)]
        struct Scale {
            #[serde(default)]
            spec: ScaleSpec,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct ScaleSpec {
            replicas: i32,
        }
        let uri = format!("{}/scale", path::object(&resource, namespace, &owner.name));
        let accept = ("accept", "application/json");
        let scale: Option<Scale> = found(rest::ask(&self.scope.client, Method::GET, &uri, accept, None).await)?;
        let no_scale = || Error::Other(format!("{}.{group} does not implement the scale subresource", resource.plural));
        Ok((owner.uid.clone(), scale.ok_or_else(no_scale)?.spec.replicas))
    }

    /// Takes back the condition of a pod that was to be disrupted and lives on.
    async fn clear(&self, key: &Key) -> Result<Next, Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| pod.active()) else { return Ok(Next::Done) };
        let Some(since) = pod.disrupted else { return Ok(Next::Done) };
        let left = time::until(since + DELETION_TIMEOUT, self.scope.clock.now());
        if !left.is_zero() {
            return Ok(Next::After(left));
        }
        let api: Api<Pod> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let time = time::api_time(self.scope.clock.now());
        let condition = json!({
            "type": "DisruptionTarget", "status": "False", "reason": "", "message": "", "lastTransitionTime": time,
        });
        let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}});
        found(api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await)?;
        Ok(Next::Done)
    }

    fn report(&self, parent: Parent<'_>, severity: Severity, reason: &'static str, message: String) {
        report(&self.scope.events, parent, severity, reason, message);
    }
}

/// `scale` is how many pods there should be; `now` seconds since the epoch.
fn count(
    spec: &PodDisruptionBudgetSpec,
    before: &PodDisruptionBudgetStatus,
    pods: &[Known],
    scale: i32,
    now: i64,
) -> Counts {
    let mut counts = Counts { expected: scale, ..Counts::default() };
    counts.desired = match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => (scale - scaled(Some(unavailable), scale, true)).max(0),
        (None, available) => scaled(available.as_ref(), scale, true),
    };
    for pod in pods.iter().filter(|pod| !pod.deleting) {
        let evicted = before.disrupted_pods.as_ref().and_then(|pods| pods.get(&*pod.key.name));
        let until = evicted.map(|time| time::seconds_of(time) + DELETION_TIMEOUT).filter(|until| *until >= now);
        if let (Some(until), Some(time)) = (until, evicted) {
            counts.again = Some(counts.again.map_or(until, |again| again.min(until)));
            counts.disrupted.insert(pod.key.name.to_string(), time.clone());
        } else if pod.ready {
            counts.healthy += 1;
        }
    }
    counts
}

fn status(
    budget: &PodDisruptionBudget,
    before: PodDisruptionBudgetStatus,
    counts: Counts,
    now: Time,
) -> PodDisruptionBudgetStatus {
    let allowed = if counts.expected <= 0 { 0 } else { (counts.healthy - counts.desired).max(0) };
    let generation = budget.metadata.generation;
    let (value, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    PodDisruptionBudgetStatus {
        conditions: Some(with(before.conditions, value, reason, String::new(), generation, now)),
        current_healthy: Some(counts.healthy),
        desired_healthy: Some(counts.desired),
        disrupted_pods: (!counts.disrupted.is_empty()).then_some(counts.disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(counts.expected),
        observed_generation: generation,
    }
}

/// Nothing may be evicted while nobody knows how many pods there should be.
fn failed(mut status: PodDisruptionBudgetStatus, why: String, now: Time) -> PodDisruptionBudgetStatus {
    let generation = status.observed_generation;
    status.conditions = Some(with(status.conditions.take(), "False", "SyncFailed", why, generation, now));
    status.disruptions_allowed = Some(0);
    status
}

fn with(
    conditions: Option<Vec<Condition>>,
    status: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Time,
) -> Vec<Condition> {
    let mut conditions = conditions.unwrap_or_default();
    let known = conditions.iter_mut().find(|it| it.type_ == ALLOWED);
    let since = known.as_ref().filter(|it| it.status == status).map_or(now, |it| it.last_transition_time.clone());
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since,
    };
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
    conditions
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn pod(name: &str, ready: bool, deleting: bool) -> Known {
        let value = PodView { ready, deleting, ..PodView::default() };
        Arc::new(Item { key: Key::new("a", name), uid: name.into(), revision: 1, value })
    }

    #[test]
    fn what_is_healthy_above_what_is_needed_may_go() {
        let pods = [pod("a", true, false), pod("b", true, false), pod("c", false, false), pod("d", true, true)];
        let evicted = json!({"disruptedPods": {"a": "1970-01-01T00:01:00Z", "gone": "1970-01-01T00:01:00Z"}});
        type Case = (Value, Value, i64, (i32, i32, Option<i64>));
        let cases: [Case; 7] = [
            (json!({"minAvailable": 1}), json!({}), 100, (1, 2, None)),
            (json!({"minAvailable": 3}), json!({}), 100, (3, 2, None)),
            (json!({"minAvailable": "50%"}), json!({}), 100, (2, 2, None)),
            (json!({"maxUnavailable": 1}), json!({}), 100, (3, 2, None)),
            (json!({"maxUnavailable": "100%"}), json!({}), 100, (0, 2, None)),
            (json!({"minAvailable": 1}), evicted.clone(), 100, (1, 1, Some(180))),
            (json!({"minAvailable": 1}), evicted, 181, (1, 2, None)),
        ];
        for (spec, before, now, expected) in cases {
            let spec_of: PodDisruptionBudgetSpec = serde_json::from_value(spec.clone()).unwrap();
            let counts = count(&spec_of, &serde_json::from_value(before).unwrap(), &pods, 4, now);
            assert_eq!((counts.desired, counts.healthy, counts.again), expected, "{spec}");
        }
    }
}
