//! Probes: a task for each probe of each running container, and what they have found (upstream: pkg/kubelet/prober).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_base::task::{self, Task};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, Probe};
use tokio::sync::mpsc;

use crate::actions::Health;
use crate::pod::{PodExt, is_sidecar, period};
use crate::pod_runtime::PodRuntime;
use crate::status::Probed;
use crate::sync::Syncer;

pub(crate) mod check;
mod tls;
mod verdict;

use verdict::Verdict;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

/// Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Probes {
    shared: Arc<Shared>,
}

struct Shared {
    containers: Mutex<HashMap<Box<str>, Probing>>,
    /// UIDs of pods for which a probe has changed its mind.
    changed: mpsc::Sender<Box<str>>,
}

/// The probes of one running container.
struct Probing {
    pod: Box<str>,
    found: HashMap<Kind, bool>,
    _tasks: Vec<Task<()>>,
}

impl Probes {
    pub fn new(changed: mpsc::Sender<Box<str>>) -> Self {
        Self { shared: Arc::new(Shared { containers: Mutex::default(), changed }) }
    }

    /// What restarts are decided by.
    pub fn health(&self, id: &str) -> Health {
        let containers = self.shared.lock();
        let found = |kind| containers.get(id).and_then(|probing| probing.found.get(&kind).copied());
        Health { startup: found(Kind::Startup), liveness: found(Kind::Liveness) }
    }

    /// What the status says.
    pub fn probed(&self, id: &str) -> Probed {
        let containers = self.shared.lock();
        let found = |kind| containers.get(id).and_then(|probing| probing.found.get(&kind).copied());
        Probed { started: found(Kind::Startup), ready: found(Kind::Readiness) }
    }

    /// Probes the containers that run, and no others of the pod.
    pub fn follow(&self, pod: &Pod, runtime: &PodRuntime, syncer: &Arc<Syncer>) {
        let sidecars = pod.init_containers().iter().filter(|spec| is_sidecar(spec));
        let mut containers = self.shared.lock();
        containers.retain(|id, probing| {
            *probing.pod != *pod.uid()
                || runtime.containers.iter().any(|container| container.status.id == **id && container.is_running())
        });
        for spec in pod.spec().containers.iter().chain(sidecars) {
            let Some(container) = runtime.active(&spec.name).filter(|container| container.is_running()) else {
                continue;
            };
            let id: Box<str> = container.status.id.as_str().into();
            let probes = [
                (Kind::Startup, &spec.startup_probe),
                (Kind::Liveness, &spec.liveness_probe),
                (Kind::Readiness, &spec.readiness_probe),
            ];
            if containers.contains_key(&id) || probes.iter().all(|(_, probe)| probe.is_none()) {
                continue;
            }
            let address = runtime
                .addresses()
                .into_iter()
                .next()
                .or_else(|| syncer.node_addresses.first().cloned())
                .unwrap_or_default();
            let running = Duration::from_nanos(
                (syncer.clock.since_epoch().as_nanos() as i64 - container.status.started_at).max(0) as u64,
            );
            let tasks = probes.into_iter().filter_map(|(kind, probe)| {
                let target = Target {
                    id: id.clone(),
                    kind,
                    probe: probe.clone()?,
                    spec: spec.clone(),
                    address: address.clone(),
                    pod: pod.clone_identity(),
                    waits_for_startup: kind != Kind::Startup && spec.startup_probe.is_some(),
                    running,
                };
                Some(task::spawn(
                    "probe",
                    target.run(Arc::downgrade(&self.shared), syncer.cri.clone(), syncer.events.clone()),
                ))
            });
            let tasks = tasks.collect();
            containers.insert(id, Probing { pod: pod.uid().into(), found: HashMap::new(), _tasks: tasks });
        }
    }

    pub fn end(&self, uid: &str) {
        self.shared.lock().retain(|_, probing| *probing.pod != *uid);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Probing>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_started(&self, id: &str) -> bool {
        self.lock().get(id).is_some_and(|probing| probing.found.get(&Kind::Startup) == Some(&true))
    }

    /// Says whether this is news.
    fn found(&self, id: &str, kind: Kind, good: bool) -> bool {
        self.lock().get_mut(id).is_some_and(|probing| probing.found.insert(kind, good) != Some(good))
    }
}

struct Target {
    id: Box<str>,
    kind: Kind,
    probe: Probe,
    spec: Spec,
    address: String,
    /// Metadata only: what events name.
    pod: Pod,
    waits_for_startup: bool,
    running: Duration,
}

trait Identity {
    fn clone_identity(&self) -> Pod;
}

impl Identity for Pod {
    fn clone_identity(&self) -> Pod {
        let mut metadata = self.metadata.clone();
        metadata.managed_fields = None;
        metadata.annotations = None;
        Pod { metadata, ..Pod::default() }
    }
}

impl Target {
    async fn run(self, shared: std::sync::Weak<Shared>, cri: crate::cri::Cri, events: crate::events::Events) {
        let delay = Duration::from_secs(self.probe.initial_delay_seconds.unwrap_or(0).max(0) as u64);
        tokio::time::sleep(delay.saturating_sub(self.running)).await;
        let mut verdict = Verdict::new(&self.probe, self.kind);
        let mut ticks = tokio::time::interval(Duration::from_secs(period(&self.probe)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(shared) = shared.upgrade() else { return };
            if self.waits_for_startup && !shared.has_started(&self.id) {
                continue;
            }
            let result = check::run(&cri, &self.id, &self.probe, &self.spec, &self.address).await;
            if let Err(message) = &result {
                let kind = format!("{:?} probe failed: {message}", self.kind);
                events.warning_of(&self.pod, &self.spec.name, "Unhealthy", kind);
            }
            let Some(good) = verdict.step(result.is_ok()) else { continue };
            if shared.found(&self.id, self.kind, good) {
                let _ = shared.changed.send(self.pod.uid().into()).await;
            }
            // A container that has started is started; one that is to be killed needs no more probes.
            if self.kind == Kind::Startup || (self.kind == Kind::Liveness && !good) {
                return;
            }
        }
    }
}
