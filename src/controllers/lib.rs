//! The controllers: ordinary API clients that move what is towards what is asked for.
//!
//! Invariants: one list (`CONTROLLERS`) names them all with their identities; a controller remembers views only, reads
//! what it is about to change live, and writes as itself; every reconcile of a key is idempotent and can be cut off
//! anywhere; decisions are pure functions over small facts, tested without a server. Upstream: pkg/controller.

use std::sync::Arc;

use coracle_base::clock::Clock;
use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use coracle_client::events::{Recorder, Reporter};
use coracle_client::{ObjectSource, Views};
use futures::future::BoxFuture;

pub mod certificates;
pub mod claims;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod garbage;
pub mod hash;
pub mod history;
pub mod job;
pub mod namespace;
pub mod node;
pub mod node_ranges;
pub mod owners;
pub mod percent;
pub mod pod_control;
pub mod pod_gc;
pub mod pods;
pub mod protection;
pub mod quota;
pub mod replicaset;
pub mod resources;
pub mod role_aggregation;
pub mod root_ca;
pub mod selector;
pub mod service_account;
pub mod statefulset;
pub mod time;

/// What the controllers are given.
pub struct Context {
    /// Reads for the shared views, as `system:kube-controller-manager`.
    pub source: Arc<dyn ObjectSource>,
    /// A client that acts as the user of that name (`system:serviceaccount:kube-system:deployment-controller`).
    pub client: Arc<dyn Fn(&str) -> kube::Client + Send + Sync>,
    pub clock: Clock,
    pub shutdown: Shutdown,
    /// The cluster's CA certificates, PEM: what pods verify the API server with.
    pub root_ca: String,
    /// Signs for certificate requests.
    pub authority: Arc<dyn certificates::Authority>,
    /// The cluster's pod addresses, by family.
    pub pod_ranges: Vec<node_ranges::Range>,
}

/// What one controller is given.
#[derive(Clone)]
pub struct Scope {
    pub views: Arc<Views>,
    /// Acts as the controller itself.
    pub client: kube::Client,
    pub events: Recorder,
    pub clock: Clock,
    pub shutdown: Shutdown,
    pub root_ca: Arc<str>,
    pub authority: Arc<dyn certificates::Authority>,
    pub pod_ranges: Arc<[node_ranges::Range]>,
}

/// A row of the list of controllers.
pub struct Row {
    /// As upstream's, in logs and as the source of events.
    pub name: &'static str,
    /// The service account in kube-system whose rights it has (upstream's `system:controller:` roles).
    pub account: &'static str,
    /// Makes views and triggers at once; the future works until shutdown.
    start: fn(Scope) -> BoxFuture<'static, ()>,
}

pub static CONTROLLERS: [Row; 25] = [
    Row { name: "deployment-controller", account: "deployment-controller", start: deployment::start },
    Row { name: "replicaset-controller", account: "replicaset-controller", start: replicaset::start },
    Row {
        name: "replicationcontroller-controller",
        account: "replication-controller",
        start: replicaset::start_replication,
    },
    Row { name: "daemonset-controller", account: "daemon-set-controller", start: daemonset::start },
    Row { name: "statefulset-controller", account: "statefulset-controller", start: statefulset::start },
    Row { name: "job-controller", account: "job-controller", start: job::start },
    Row { name: "cronjob-controller", account: "cronjob-controller", start: cronjob::start },
    Row { name: "ttl-after-finished-controller", account: "ttl-after-finished-controller", start: job::ttl::start },
    Row { name: "disruption-controller", account: "disruption-controller", start: disruption::start },
    Row { name: "endpoint-slice-controller", account: "endpointslice-controller", start: endpointslice::start },
    Row { name: "endpoints-controller", account: "endpoint-controller", start: endpoints::start },
    Row {
        name: "endpoint-slice-mirroring-controller",
        account: "endpointslicemirroring-controller",
        start: endpoints::mirror::start,
    },
    Row {
        name: "persistentvolumeclaim-protection-controller",
        account: "pvc-protection-controller",
        start: protection::start_claims,
    },
    Row {
        name: "persistentvolume-protection-controller",
        account: "pv-protection-controller",
        start: protection::start_volumes,
    },
    Row {
        name: "clusterrole-aggregation-controller",
        account: "clusterrole-aggregation-controller",
        start: role_aggregation::start,
    },
    Row { name: "resourcequota-controller", account: "resourcequota-controller", start: quota::start },
    Row { name: "namespace-controller", account: "namespace-controller", start: namespace::start },
    Row { name: "garbage-collector-controller", account: "generic-garbage-collector", start: garbage::start },
    Row { name: "node-controller", account: "node-controller", start: node::start },
    Row { name: "node-ipam-controller", account: "node-controller", start: node_ranges::start },
    Row { name: "certificate-controller", account: "certificate-controller", start: certificates::start },
    Row { name: "taint-eviction-controller", account: "node-controller", start: node::eviction::start },
    Row { name: "pod-garbage-collector-controller", account: "pod-garbage-collector", start: pod_gc::start },
    Row { name: "service-account-controller", account: "service-account-controller", start: service_account::start },
    Row { name: "root-ca-certificate-publisher", account: "root-ca-cert-publisher", start: root_ca::start },
];

/// Runs every controller until shutdown has begun and all of them have stopped.
pub async fn run_all(context: Context) {
    let views = Arc::new(Views::new(context.source));
    let root_ca: Arc<str> = context.root_ca.into();
    let pod_ranges: Arc<[_]> = context.pod_ranges.into();
    let running: Vec<_> = CONTROLLERS
        .iter()
        .map(|row| {
            let client = (context.client)(&format!("system:serviceaccount:kube-system:{}", row.account));
            let reporter = Reporter { component: row.name.to_owned(), host: String::new() };
            let scope = Scope {
                views: views.clone(),
                events: Recorder::counted(client.clone(), reporter, context.clock.clone()),
                client,
                clock: context.clock.clone(),
                shutdown: context.shutdown.clone(),
                root_ca: root_ca.clone(),
                authority: context.authority.clone(),
                pod_ranges: pod_ranges.clone(),
            };
            task::spawn(row.name, (row.start)(scope))
        })
        .collect();
    // Every controller has named its views, so each resource is listed once.
    views.start();
    for task in running {
        if let Err(error) = task.await {
            tracing::error!(%error, "a controller ended before shutdown");
        }
    }
}
