//! The scheduler as a client of the API: views feed it, its decisions become bindings, events and conditions.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::{Object, Resource};
use coracle_base::backoff::Shape;
use coracle_base::clock::Clock;
use coracle_base::queue::Queue;
use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use coracle_client::events::{Recorder, Report, Reporter, Severity, Subject};
use coracle_client::placement::Labels;
use coracle_client::{Change, Error, Item, Key, ObjectSource, Project, View, Views, found, rest};
use http::Method;
use k8s_openapi::jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::budgets::BudgetView;
use crate::cycle::Refusal;
use crate::node::NodeView;
use crate::plugins;
use crate::pod::PodView;
use crate::preemption::Preemption;
use crate::scheduler::{Decision, Scheduler};

/// What the scheduler is given; source and client act as `system:kube-scheduler`.
pub struct Context {
    pub source: Arc<dyn ObjectSource>,
    pub client: kube::Client,
    pub clock: Clock,
    pub shutdown: Shutdown,
    /// The machine's name, for the reports.
    pub host: String,
}

/// Bindings and reports under way at most.
const CONCURRENT: usize = 64;
const COMPONENT: &str = "default-scheduler";

/// The labels of a namespace, by which terms select it.
struct NamespaceLabels(Box<Labels>);

impl Project for NamespaceLabels {
    fn project(object: &Object) -> Option<Self> {
        Some(Self(object.meta().labels.clone()))
    }
}

/// Something to look at again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Changed {
    Pod(Key),
    Node(Key),
    Namespace(Key),
}

struct Bound {
    key: Key,
    uid: Box<str>,
    worked: bool,
}

struct Service {
    client: kube::Client,
    clock: Clock,
    events: Recorder,
    pods: View<PodView>,
    nodes: View<NodeView>,
    budgets: View<BudgetView>,
    namespaces: View<NamespaceLabels>,
    changed: Queue<Changed>,
    permits: Arc<Semaphore>,
    results: mpsc::Sender<Bound>,
}

/// Schedules until shutdown begins.
pub async fn run(context: Context) {
    let row = |plural: &str| Resource::find("", "v1", plural).expect("the catalog holds pods and nodes");
    let views = Views::new(context.source);
    let (pods, nodes) = (views.view::<PodView>(&row("pods")), views.view::<NodeView>(&row("nodes")));
    let budgets = Resource::find("policy", "v1", "poddisruptionbudgets").expect("the catalog holds budgets");
    let budgets = views.view::<BudgetView>(&budgets);
    let namespaces = views.view::<NamespaceLabels>(&row("namespaces"));
    let changed = Queue::new(Shape::doubling(Duration::ZERO, Duration::ZERO));
    let (pod_changed, node_changed, namespace_changed) = (changed.clone(), changed.clone(), changed.clone());
    pods.subscribe(move |change: &Change<PodView>| pod_changed.add(Changed::Pod(change.item().key.clone())));
    nodes.subscribe(move |change: &Change<NodeView>| node_changed.add(Changed::Node(change.item().key.clone())));
    namespaces.subscribe(move |change: &Change<NamespaceLabels>| {
        namespace_changed.add(Changed::Namespace(change.item().key.clone()));
    });
    views.start();
    let (results, bound) = mpsc::channel(CONCURRENT);
    let reporter = Reporter { component: COMPONENT.to_owned(), host: context.host };
    let service = Arc::new(Service {
        events: Recorder::series(context.client.clone(), reporter, context.clock.clone()),
        client: context.client,
        clock: context.clock,
        pods,
        nodes,
        budgets,
        namespaces,
        changed,
        permits: Arc::new(Semaphore::new(CONCURRENT)),
        results,
    });
    context.shutdown.bound(service.work(bound)).await;
}

impl Service {
    async fn work(self: Arc<Self>, mut bound: mpsc::Receiver<Bound>) {
        // A pod must not be put on the first node that happens to be known.
        self.nodes.synced().await;
        self.pods.synced().await;
        self.budgets.synced().await;
        self.namespaces.synced().await;
        let budgets = self.budgets.clone();
        let mut scheduler = Scheduler::new(plugins::all(), Box::new(move || budgets.list()));
        loop {
            // What is known comes before what is decided on it.
            while !self.changed.is_empty() {
                if let Some(item) = self.changed.next().await {
                    self.take(&mut scheduler, item.key());
                }
            }
            if let Some(decision) = scheduler.next(Instant::now()) {
                let outranked = match &decision {
                    Decision::Refuse { pod, refusal } => refusal.preemption.as_ref().map(|it| (pod.priority, it)),
                    Decision::Bind { .. } => None,
                };
                let outranked = outranked.map_or(Vec::new(), |(priority, it)| scheduler.outranked(&it.node, priority));
                self.carry_out(decision, outranked).await;
                while let Ok(result) = bound.try_recv() {
                    scheduler.bound(&result.key, &result.uid, result.worked, Instant::now());
                }
                continue;
            }
            let wake = scheduler.next_wake();
            let until_wake = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                item = self.changed.next() => match item {
                    Some(item) => self.take(&mut scheduler, item.key()),
                    None => return,
                },
                Some(result) = bound.recv() => {
                    scheduler.bound(&result.key, &result.uid, result.worked, Instant::now());
                }
                () = until_wake => {}
            }
        }
    }

    fn take(&self, scheduler: &mut Scheduler, changed: &Changed) {
        match changed {
            Changed::Pod(key) => scheduler.pod_changed(key, self.pods.get(key), Instant::now()),
            Changed::Namespace(key) => {
                let labels = self.namespaces.get(key).map(|namespace| namespace.0.clone());
                scheduler.namespace_changed(&key.name, labels);
            }
            Changed::Node(key) => scheduler.node_changed(&key.name, self.nodes.get(key), Instant::now()),
        }
    }

    async fn carry_out(self: &Arc<Self>, decision: Decision, outranked: Vec<Arc<Item<PodView>>>) {
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let this = self.clone();
        let work = async move {
            match decision {
                Decision::Bind { pod, node } => this.bind(&pod, &node).await,
                Decision::Refuse { pod, refusal } => {
                    this.refuse(&pod, &refusal).await;
                    if let Some(preemption) = &refusal.preemption {
                        this.preempt(&pod, preemption, &outranked).await;
                    }
                }
            }
            drop(permit);
        };
        task::spawn("bind", work).detach();
    }

    async fn bind(&self, pod: &Item<PodView>, node: &str) {
        let Key { namespace, name } = &pod.key;
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": namespace, "name": name, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
        let header = ("content-type", "application/json");
        let result = rest::ask::<IgnoredAny>(&self.client, Method::POST, &uri, header, Some(&body)).await;
        match &result {
            Ok(_) => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.report(pod, Severity::Normal, "Scheduled", "Binding", message);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                tracing::warn!(pod = %pod.key, node, error = error.chain(), "binding failed");
                let message = format!("binding rejected: {}", error.chain());
                self.report(pod, Severity::Warning, "FailedScheduling", "Scheduling", message);
            }
        }
        let bound = Bound { key: pod.key.clone(), uid: pod.uid.clone(), worked: result.is_ok() };
        // The receiver is gone only when the scheduler has stopped.
        let _ = self.results.send(bound).await;
    }

    async fn refuse(&self, pod: &Item<PodView>, refusal: &Refusal) {
        tracing::debug!(pod = %pod.key, plugins = ?refusal.plugins, "no node");
        self.report(pod, Severity::Warning, "FailedScheduling", "Scheduling", refusal.message.clone());
        let said = pod.condition.as_ref();
        let told = said.is_some_and(|(reason, message)| &**reason == "Unschedulable" && **message == *refusal.message);
        let node = refusal.preemption.as_ref().map(|preemption| &*preemption.node);
        if told && node.is_none_or(|node| *node == *pod.nominated) {
            return;
        }
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": refusal.message,
        });
        if pod.condition.is_none() {
            condition["lastTransitionTime"] = self.now().into();
        }
        let mut status = json!({"conditions": [condition]});
        if let Some(node) = node {
            status["nominatedNodeName"] = node.into();
        }
        if let Err(error) = self.patch_status(pod, status).await {
            tracing::warn!(pod = %pod.key, error = error.chain(), "condition not written");
        }
    }

    /// Makes place for a pod: those that stand in its way go, and those that were to come have to look again.
    async fn preempt(&self, pod: &Item<PodView>, preemption: &Preemption, outranked: &[Arc<Item<PodView>>]) {
        for other in outranked {
            if let Err(error) = self.patch_status(other, json!({"nominatedNodeName": null})).await {
                tracing::warn!(pod = %other.key, error = error.chain(), "nomination not taken back");
            }
        }
        for victim in preemption.victims.iter().filter(|victim| !victim.deleting) {
            match self.evict(victim).await {
                Ok(true) => {
                    let message = format!("Preempted by pod {} on node {}", pod.uid, preemption.node);
                    self.report(victim, Severity::Normal, "Preempted", "Preempting", message);
                }
                Ok(false) => {}
                // It is looked for again when the pod is tried next.
                Err(error) => tracing::warn!(pod = %victim.key, error = error.chain(), "not preempted"),
            }
        }
    }

    /// Says whether the pod was there.
    async fn evict(&self, victim: &Item<PodView>) -> Result<bool, Error> {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{COMPONENT}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": self.now(),
        });
        self.patch_status(victim, json!({"conditions": [condition]})).await?;
        let pods = Resource::find("", "v1", "pods").expect("the catalog holds pods");
        let options = json!({"preconditions": {"uid": victim.uid}});
        Ok(found(rest::delete(&self.client, &pods, &victim.key, &options).await)?.is_some())
    }

    async fn patch_status(&self, pod: &Item<PodView>, status: Value) -> Result<(), Error> {
        let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
        let uri = format!("/api/v1/namespaces/{}/pods/{}/status", pod.key.namespace, pod.key.name);
        let header = ("content-type", rest::STRATEGIC_PATCH);
        let asked = rest::ask::<IgnoredAny>(&self.client, Method::PATCH, &uri, header, Some(&patch)).await;
        match found(asked) {
            // Another pod of the name.
            Err(error) if error.is_conflict() => Ok(()),
            result => result.map(drop),
        }
    }

    fn now(&self) -> String {
        Timestamp::try_from(self.clock.now()).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn report(
        &self,
        pod: &Item<PodView>,
        severity: Severity,
        reason: &'static str,
        action: &'static str,
        message: String,
    ) {
        let subject = Subject::new("v1", "Pod", &pod.key, &pod.uid);
        self.events.report(Report { subject, severity, reason, action, message });
    }
}
