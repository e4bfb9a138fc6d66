//! StatefulSets: pods with a name, an order and claims of their own.
//!
//! Upstream: pkg/controller/statefulset. What to do is planned on all pods at once (`plan`), then done in that order.

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::events::Severity;
use coracle_client::{Change, Controller, Error, Key, Next, View, found};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::claims::ClaimView;
use crate::history::{self, History, RevisionView, Revisions};
use crate::pod_control::{BURST, Known, Parent, PodControl};
use crate::pods::PodView;
use crate::selector::SelectorView;
use crate::{Scope, owners, resources, time};

mod claim;
mod plan;
mod pod;
mod status;
#[cfg(test)]
mod tests;

use plan::{Situation, Step};

const WORKERS: usize = 5;
/// On pods: the name of their revision.
const REVISION: &str = "controller-revision-hash";
/// On revisions.
const HASH: &str = "controller.kubernetes.io/hash";

struct Sets {
    scope: Scope,
    control: PodControl,
    claims: View<ClaimView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let sets = scope.views.view::<SelectorView>(&resources::stateful_sets());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let claims = scope.views.view::<ClaimView>(&resources::claims());
    let revisions = scope.views.view::<RevisionView>(&resources::revisions());
    let known = sets.clone();
    let controller = Controller::new("statefulset")
        .workers(WORKERS)
        .on(&sets, |change| Some(change.item().key.clone()))
        .on(&pods, move |change| concerned(change, &known))
        .on(&claims, freed)
        .on(&revisions, |change| history::concerned(change, "StatefulSet"));
    let shutdown = scope.shutdown.clone();
    let control = PodControl::new(&scope, pods);
    let this = Arc::new(Sets { scope, control, claims });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

fn concerned(change: &Change<PodView>, sets: &View<SelectorView>) -> Vec<Key> {
    let mut keys = owners::keys_of(change, "StatefulSet");
    if let Some(pod) = change.present().filter(|pod| pod.owner.is_none() && !pod.deleting && !pod.labels.is_empty()) {
        let all = sets.in_namespace(&pod.key.namespace).into_iter();
        keys.extend(all.filter(|set| set.selector.matches(&*pod.labels)).map(|set| set.key.clone()));
    }
    keys
}

/// A claim that is gone makes room for that of a new pod.
fn freed(change: &Change<ClaimView>) -> Option<Key> {
    let claim = change.item();
    let pod = claim.owners.iter().find(|owner| &*owner.kind == "Pod").filter(|_| change.present().is_none())?;
    Some(Key::new(claim.key.namespace.clone(), pod::split(&pod.name)?.0))
}

impl Sets {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let api: Api<StatefulSet> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let Some(set) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let parent = Parent { api_version: "apps/v1", kind: "StatefulSet", meta: &set.metadata };
        let selector = serde_json::to_value(&set.spec.selector)?;
        let selector = LabelSelector::from_object(Some(&selector)).map_err(Error::Other)?;
        if selector.is_everything() {
            return Ok(Next::Done);
        }
        let revisions_api: Api<ControllerRevision> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let history = History { api: revisions_api, parent, label: HASH };
        let mut status = set.status.clone().unwrap_or_default();
        let mut collisions = status.collision_count.unwrap_or(0);
        let revisions = history.bring_up(&selector, &set.spec.template, &mut collisions).await?;
        status.collision_count = Some(collisions);
        let current = current(&revisions, &status).clone();

        let pods = self.members(parent, &selector).await?;
        let now = time::seconds(self.scope.clock.now());
        let names = (history::name(&current), history::name(&revisions.current));
        let situation = Situation::new(&set, &pods, names, now);
        let steps = if parent.deleting() { Vec::new() } else { situation.steps() };
        let done = self.carry_out(parent, &set, &current, &revisions.current, steps).await;

        let pods = self.members(parent, &selector).await?;
        let situation = Situation::new(&set, &pods, names, now);
        let wanted = status::calculate(&situation, status);
        self.write_status(&api, &set, wanted).await?;
        done?;
        self.prune(&history, &set, &revisions, &current, &pods).await?;
        Ok(status::next_check(&situation).map_or(Next::Done, Next::After))
    }

    async fn members(&self, parent: Parent<'_>, selector: &LabelSelector) -> Result<Vec<Known>, Error> {
        let member = |name: &str| pod::split(name).is_some_and(|(set, _)| set == parent.name());
        let mut pods = self.control.claim(parent, selector, false, |pod| member(&pod.key.name)).await?;
        pods.retain(|pod| member(&pod.key.name));
        Ok(pods)
    }

    /// Ordered sets have one step that makes or deletes at a time; for others all are taken at once.
    async fn carry_out(
        &self,
        parent: Parent<'_>,
        set: &StatefulSet,
        current: &ControllerRevision,
        update: &ControllerRevision,
        steps: Vec<Step>,
    ) -> Result<(), Error> {
        let steps = steps.into_iter().take(BURST);
        let done = steps.map(|step| async move {
            match step {
                Step::Create { ordinal, updated } => {
                    let revision = if updated { update } else { current };
                    self.create(parent, set, revision, ordinal).await
                }
                Step::Delete(pod) => self.delete(parent, &pod).await,
                Step::Claims(pod) => {
                    let ordinal = pod::split(&pod.key.name).map_or(0, |(_, ordinal)| ordinal);
                    self.make_claims(parent, set, ordinal, &pod.key.name).await?;
                    self.own_claims(parent, set, &pod).await
                }
                Step::Own(pod) => self.own_claims(parent, set, &pod).await,
                Step::Name(pod) => self.name(parent, &pod).await,
            }
        });
        join_all(done).await.into_iter().collect()
    }

    async fn create(
        &self,
        parent: Parent<'_>,
        set: &StatefulSet,
        revision: &ControllerRevision,
        ordinal: i32,
    ) -> Result<(), Error> {
        let name = pod::name(parent.name(), ordinal);
        if self.awaits_claims(set, ordinal, &name) {
            return Ok(());
        }
        let pod = pod::make(parent, set, &history::template(revision)?, history::name(revision), ordinal);
        let made = match self.make_claims(parent, set, ordinal, &name).await {
            Ok(()) => self.control.make(&pod).await,
            Err(error) => Err(error),
        };
        match &made {
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) if error.is_already_exists() => {}
            _ => self.report(parent, "Create", &name, made.as_ref().err()),
        }
        let known = Key::new(parent.namespace(), name.as_str());
        made?;
        match self.control.known(&known) {
            Some(pod) => self.own_claims(parent, set, &pod).await,
            None => Ok(()),
        }
    }

    async fn delete(&self, parent: Parent<'_>, pod: &Known) -> Result<(), Error> {
        let removed = self.control.remove(pod).await;
        self.report(parent, "Delete", &pod.key.name, removed.as_ref().err());
        removed
    }

    /// Gives a pod the labels that say which it is.
    async fn name(&self, parent: Parent<'_>, pod: &Known) -> Result<(), Error> {
        let ordinal = pod::split(&pod.key.name).map_or(0, |(_, ordinal)| ordinal);
        let labels = json!({pod::NAME: *pod.key.name, pod::INDEX: ordinal.to_string()});
        let named = self.control.patch(pod, json!({"metadata": {"uid": pod.uid, "labels": labels}})).await;
        self.report(parent, "Update", &pod.key.name, named.as_ref().err());
        named.map(drop)
    }

    fn report(&self, parent: Parent<'_>, verb: &str, pod: &str, error: Option<&Error>) {
        let what = format!("{verb} Pod {pod} in StatefulSet {}", parent.name());
        self.say(parent, verb, &what, "successful", error);
    }

    fn say(&self, parent: Parent<'_>, verb: &str, what: &str, good: &str, error: Option<&Error>) {
        let (severity, reason, message) = match (error, verb) {
            (None, "Create") => (Severity::Normal, "SuccessfulCreate", format!("{what} {good}")),
            (None, "Delete") => (Severity::Normal, "SuccessfulDelete", format!("{what} {good}")),
            (None, _) => (Severity::Normal, "SuccessfulUpdate", format!("{what} {good}")),
            (Some(error), "Create") => {
                (Severity::Warning, "FailedCreate", format!("{what} failed error: {}", error.chain()))
            }
            (Some(error), "Delete") => {
                (Severity::Warning, "FailedDelete", format!("{what} failed error: {}", error.chain()))
            }
            (Some(error), _) => (Severity::Warning, "FailedUpdate", format!("{what} failed error: {}", error.chain())),
        };
        self.control.report(parent, severity, reason, message);
    }

    async fn write_status(
        &self,
        api: &Api<StatefulSet>,
        set: &StatefulSet,
        wanted: StatefulSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let set = StatefulSet { status: Some(wanted), ..set.clone() };
        found(api.replace_status(name, &PostParams::default(), &set).await)?;
        Ok(())
    }

    /// Deletes the oldest revisions that nothing is of, beyond those that are to be kept.
    async fn prune(
        &self,
        history: &History<'_>,
        set: &StatefulSet,
        all: &Revisions,
        current: &ControllerRevision,
        pods: &[Known],
    ) -> Result<(), Error> {
        let live =
            |name: &str| name == history::name(current) || pods.iter().any(|pod| plan::revision(pod) == Some(name));
        let dead: Vec<&ControllerRevision> =
            all.old.iter().chain(&all.doubles).filter(|it| !live(history::name(it))).collect();
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        let surplus = if limit < 0 { 0 } else { dead.len().saturating_sub(limit as usize) };
        history.delete(&dead[..surplus]).await
    }
}

/// The revision that pods were last all of.
fn current<'a>(revisions: &'a Revisions, status: &StatefulSetStatus) -> &'a ControllerRevision {
    let mut all = revisions.old.iter().chain(&revisions.doubles);
    let named = all.find(|it| it.metadata.name.is_some() && it.metadata.name == status.current_revision);
    named.unwrap_or(&revisions.current)
}
