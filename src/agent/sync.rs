//! Does what a pod needs: the IO around `actions` and `status` (upstream: kubelet.go SyncPod, SyncTerminatingPod, SyncTerminatedPod).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use coracle_api::Object;
use coracle_base::clock::Clock;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::api::node::v1::RuntimeClass;

use crate::actions::{self, Actions, Kill, ProbeKind};
use crate::admission::{self, Node, Rejection};
use crate::cgroups::Cgroups;
use crate::config::dns::ClusterDns;
use crate::config::sandbox;
use crate::cri::{Cri, RuntimeError};
use crate::downward::Allocatable;
use crate::environment::Context;
use crate::events::Events;
use crate::images::ensure::Puller;
use crate::logs::Logs;
use crate::objects::Objects;
use crate::pod::{PodExt, as_container, is_sidecar};
use crate::pod_runtime::{Container, PodRuntime};
use crate::pod_workers::{Outcome, Work};
use crate::pods::PodStore;
use crate::probes::Probes;
use crate::proto::cri::{ContainerState, PodSandboxConfig};
use crate::qos;
use crate::resize::{self, Pending};
use crate::services::Services;
use crate::status::{self, Waiting, writer};
use crate::volumes::tokens::Tokens;
use crate::volumes::{self, Mounted};

mod hooks;
mod mirror;
mod start;

/// Crash back-off by pod UID and container: the present delay and when it was last lengthened.
type Backoffs = HashMap<(Box<str>, Box<str>), (Duration, SystemTime)>;

/// Everything that work on pods is done with.
pub(crate) struct Syncer {
    pub cri: Cri,
    pub client: kube::Client,
    pub pods: PodStore,
    pub objects: Objects,
    pub services: Services,
    pub tokens: Tokens,
    pub puller: Puller,
    pub probes: Probes,
    pub cgroups: Cgroups,
    pub events: Events,
    pub clock: Clock,
    pub node_addresses: Vec<String>,
    pub cluster_dns: ClusterDns,
    pub allocatable: Allocatable,
    pub max_pods: usize,
    pub has_app_armor: bool,
    /// `pods/<uid>` below it is a pod's own directory.
    pub directory: PathBuf,
    pub log_directory: PathBuf,
    pub logs: Logs,
    /// Why containers wait, by pod UID: known from the last attempt to start them.
    pub waiting: Mutex<HashMap<Box<str>, Waiting>>,
    pub backoffs: Mutex<Backoffs>,
}

/// What of a pod's work its status must tell beside what runs.
#[derive(Default)]
struct State {
    is_terminal: bool,
    pending: Option<Pending>,
    resized: HashSet<String>,
}

/// A resize that waits for others to need less is looked at again after this.
const RETRY_RESIZE: Duration = Duration::from_secs(180);
/// Upstream: backOffPeriod, and what a runtime that is away costs.
const RETRY: Duration = Duration::from_secs(10);
const RETRY_RUNTIME: Duration = Duration::from_secs(1);
/// What a container that must go at once is given.
const DEFAULT_GRACE: i64 = 30;

/// Why work could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Api(#[from] coracle_client::Error),
    #[error(transparent)]
    Volume(#[from] volumes::VolumeError),
    #[error("{0}: {1}")]
    Files(&'static str, #[source] std::io::Error),
    #[error("network is not ready: {0}")]
    Network(String),
    #[error(transparent)]
    Task(#[from] coracle_base::task::TaskError),
}

impl Syncer {
    /// One piece of work on one pod; may be dropped at any await and begun anew.
    pub async fn work(self: Arc<Self>, uid: Box<str>, work: Work) -> Outcome {
        let Some(object) = self.pods.get(&uid) else { return Outcome::CleanedUp };
        let pod = match object.decode::<Pod>() {
            Ok(pod) => self.with_mirrored_status(pod),
            Err(error) => {
                tracing::error!(%uid, %error, "a pod cannot be decoded");
                return Outcome::Failed { retry: Duration::from_secs(300) };
            }
        };
        let result = match work {
            Work::Sync => self.sync(&object, &pod).await,
            Work::Terminate { grace } => self.terminate(&object, &pod, grace).await,
            Work::CleanUp => self.clean_up(&object, &pod).await,
        };
        result.unwrap_or_else(|error| {
            let unavailable = match &error {
                SyncError::Network(_) => true,
                SyncError::Runtime(error) => error.is_unavailable(),
                _ => false,
            };
            let error = chain(&error);
            tracing::warn!(ns = pod.namespace(), name = pod.name(), ?work, error, "pod work failed");
            Outcome::Failed { retry: if unavailable { RETRY_RUNTIME } else { RETRY } }
        })
    }

    async fn sync(self: &Arc<Self>, object: &Object, pod: &Pod) -> Result<Outcome, SyncError> {
        if let Some(rejection) = self.rejection(pod) {
            self.events.warning(pod, rejection.reason, rejection.message.clone());
            self.write(object, pod, &admission::rejected(pod, &rejection)).await?;
            return Ok(Outcome::Completed);
        }
        let mut runtime = self.read(pod).await?;
        self.objects.need(pod.uid(), volumes::references(pod));
        let mut state = State { pending: self.resize_pending(pod), ..State::default() };
        if self.publish(object, pod, &runtime, &state).await? {
            return Ok(Outcome::Completed);
        }
        let pod = &*match state.pending {
            Some(_) => Cow::Owned(resize::keep_present(pod)),
            None => Cow::Borrowed(pod),
        };
        let actions = actions::compute(pod, &runtime, |id| self.probes.health(id));
        if actions.kill_pod && actions.create_sandbox.is_none() {
            self.kill_all(pod, &runtime, DEFAULT_GRACE).await?;
        }
        let mounted = self.prepare(pod, &runtime).await?;
        let now = jiff::Timestamp::from_second(self.clock.since_epoch().as_secs() as i64).unwrap_or_default();
        let deferred = state.pending.as_ref().map(|_| RETRY_RESIZE);
        let mut again = mounted.again.into_iter().chain(pod.time_left(now)).chain(deferred).min();
        if actions != Actions::default() {
            state.resized = self.resize(pod, &runtime, &actions.resize).await;
            runtime = self.apply(pod, runtime, &actions, &mounted, &mut again).await?;
        }
        self.cgroups.settle(pod).map_err(|error| SyncError::Files("pod cgroup", error))?;
        self.probes.follow(pod, &runtime, self);
        self.logs.follow(pod, &runtime);
        let object = self.pods.get(pod.uid()).unwrap_or_else(|| object.clone());
        let pod = self.with_mirrored_status(object.decode().map_err(coracle_client::Error::from)?);
        let is_unmirrored = pod.is_static() && self.pods.mirror(pod.namespace(), pod.name()).is_none();
        again = again.into_iter().chain(is_unmirrored.then_some(RETRY)).min();
        if self.publish(&object, &pod, &runtime, &state).await? {
            return Ok(Outcome::Completed);
        }
        Ok(Outcome::Synced { again })
    }

    /// A pod that has not begun here is looked at before it does. Static pods are the administrator's word.
    fn rejection(&self, pod: &Pod) -> Option<Rejection> {
        let has_begun = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if has_begun || pod.is_static() {
            return None;
        }
        let others = self.others(pod, |other| other.status.as_ref().is_some_and(|status| status.start_time.is_some()));
        let node = Node { allocatable: &self.allocatable, max_pods: self.max_pods, has_app_armor: self.has_app_armor };
        admission::rejection(pod, &others, &node)
    }

    /// Whether a resize must wait; other pods are looked at only where something is to change.
    fn resize_pending(&self, pod: &Pod) -> Option<Pending> {
        let is_changed = resize::is_wanted(pod);
        is_changed.then(|| resize::pending(pod, &self.others(pod, |_| true), &self.allocatable)).flatten()
    }

    /// The node's other pods that have not ended.
    fn others(&self, pod: &Pod, wanted: impl Fn(&Pod) -> bool) -> Vec<Pod> {
        let others = self.pods.all().into_iter().filter(|other| *other.meta().uid != *pod.uid());
        let is_active = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            !matches!(phase, Some("Failed" | "Succeeded"))
        };
        others.filter_map(|other| other.decode().ok()).filter(|pod| is_active(pod) && wanted(pod)).collect()
    }

    /// Gives running containers the resources that are wanted; answers with the names of those that have them now.
    async fn resize(&self, pod: &Pod, runtime: &PodRuntime, names: &[String]) -> HashSet<String> {
        let mut resized = HashSet::new();
        for name in names {
            let spec = pod.spec().containers.iter().chain(pod.init_containers()).find(|spec| spec.name == *name);
            let (Some(spec), Some(container)) = (spec, runtime.container(name)) else { continue };
            let resources = qos::resources(pod.spec(), spec, self.allocatable.memory);
            match self.cri.update_container(&container.status.id, resources).await {
                Ok(()) => drop(resized.insert(name.clone())),
                Err(error) => self.events.warning_of(pod, name, "ResizeError", error.to_string()),
            }
        }
        resized
    }

    /// The pod's cgroup, directory and volumes.
    async fn prepare(&self, pod: &Pod, runtime: &PodRuntime) -> Result<Mounted, SyncError> {
        self.cgroups.ensure(pod).map_err(|error| SyncError::Files("pod cgroup", error))?;
        let directory = self.pod_directory(pod.uid());
        std::fs::create_dir_all(&directory).map_err(|error| SyncError::Files("pod directory", error))?;
        let addresses = runtime.addresses();
        volumes::mount_all(&directory, &self.context(pod, &addresses), &self.tokens).await.map_err(|error| {
            self.events.warning(pod, "FailedMount", error.to_string());
            error.into()
        })
    }

    async fn apply(
        self: &Arc<Self>,
        pod: &Pod,
        mut runtime: PodRuntime,
        actions: &Actions,
        mounted: &Mounted,
        again: &mut Option<Duration>,
    ) -> Result<PodRuntime, SyncError> {
        if actions.kill_pod {
            self.kill_all(pod, &runtime, DEFAULT_GRACE).await?;
        }
        for kill in &actions.kill {
            let Some(container) = runtime.containers.iter().find(|container| container.status.id == kill.id) else {
                continue;
            };
            self.kill(pod, container, &kill.message, grace_of(pod, kill)).await?;
        }
        let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let attempt =
            actions.create_sandbox.or_else(|| Some(runtime.sandboxes.first()?.metadata.as_ref()?.attempt)).unwrap_or(0);
        let config =
            sandbox::config(pod, attempt, &self.cluster_dns, &resolv, &self.log_directory, self.cgroups.pod_path(pod));
        if actions.create_sandbox.is_some() {
            std::fs::create_dir_all(&config.log_directory).map_err(|error| SyncError::Files("log directory", error))?;
            self.check_network(pod).await?;
            self.run_sandbox(pod, config.clone()).await.inspect_err(|error| {
                self.events.warning(pod, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"));
            })?;
            runtime = self.read(pod).await?;
        } else if !actions.kill.is_empty() {
            runtime = self.read(pod).await?;
        }
        let Some(sandbox) = runtime.ready_sandbox().map(|sandbox| sandbox.id.clone()) else { return Ok(runtime) };
        let mut waiting = Waiting::new();
        let start = start::Start { pod, runtime: &runtime, sandbox: &sandbox, sandbox_config: &config, mounted };
        let ephemeral = actions.start_ephemeral.iter().map(|index| &pod.ephemeral_containers()[*index]);
        let ephemeral = ephemeral.map(|spec| (Cow::Owned(as_container(spec)), spec.target_container_name.as_deref()));
        let init = actions.start_init.iter().map(|index| &pod.init_containers()[*index]);
        let main = actions.start.iter().map(|index| &pod.spec().containers[*index]);
        let ordinary = init.chain(main).map(|spec| (Cow::Borrowed(spec), None));
        for (container, target) in ephemeral.chain(ordinary) {
            let target = target.filter(|target| !target.is_empty());
            let Err(reason) = self.start(&start, &container, target).await else { continue };
            if let Some(retry) = reason.retry {
                *again = Some(again.map_or(retry, |present| present.min(retry)));
            }
            waiting.insert(container.name.clone(), (reason.reason.to_owned(), reason.message));
        }
        {
            let mut known = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.is_empty() {
                known.remove(pod.uid())
            } else {
                known.insert(pod.uid().into(), waiting)
            };
        }
        self.read(pod).await
    }

    /// With the handler that the pod's RuntimeClass names (KEP-585).
    async fn run_sandbox(&self, pod: &Pod, config: PodSandboxConfig) -> Result<(), SyncError> {
        let handler = match pod.spec().runtime_class_name.as_deref().filter(|name| !name.is_empty()) {
            None => String::new(),
            Some(name) => {
                let classes: kube::Api<RuntimeClass> = kube::Api::all(self.client.clone());
                let class = classes.get(name).await.map_err(coracle_client::Error::from)?;
                class.handler
            }
        };
        self.cri.run_pod_sandbox(config, handler).await?;
        Ok(())
    }

    /// A pod with an address of its own waits until the network's plugin is there (upstream: NetworkNotReady).
    async fn check_network(&self, pod: &Pod) -> Result<(), SyncError> {
        if pod.uses_host_network() {
            return Ok(());
        }
        let conditions = self.cri.conditions().await?;
        let missing = conditions.into_iter().find(|condition| condition.r#type == "NetworkReady" && !condition.status);
        let Some(missing) = missing else { return Ok(()) };
        let error = SyncError::Network(format!("{} {}", missing.reason, missing.message));
        self.events.warning(pod, "NetworkNotReady", error.to_string());
        Err(error)
    }

    async fn terminate(self: &Arc<Self>, object: &Object, pod: &Pod, grace: i64) -> Result<Outcome, SyncError> {
        self.probes.end(pod.uid());
        let runtime = self.read(pod).await?;
        self.kill_all(pod, &runtime, grace).await?;
        let runtime = self.read(pod).await?;
        if runtime.has_running() {
            return Ok(Outcome::Failed { retry: RETRY_RUNTIME });
        }
        self.publish(object, pod, &runtime, &State { is_terminal: true, ..State::default() }).await?;
        Ok(Outcome::Terminated)
    }

    /// Volumes and cgroup; the containers stay for their logs until the API has dropped the pod.
    async fn clean_up(&self, object: &Object, pod: &Pod) -> Result<Outcome, SyncError> {
        let directory = self.pod_directory(pod.uid());
        let removed = coracle_base::task::blocking(move || volumes::remove_pod_directory(&directory)).await?;
        removed.map_err(|error| SyncError::Files("pod directory", error))?;
        self.cgroups.remove(pod.uid());
        self.objects.need(pod.uid(), Default::default());
        self.tokens.forget(pod.uid());
        self.puller.forget(pod.uid());
        if pod.metadata.deletion_timestamp.is_some() && !pod.is_static() {
            writer::delete(&self.client, pod.namespace(), pod.name(), &object.meta().uid).await?;
        }
        Ok(Outcome::CleanedUp)
    }

    /// Nothing of the pod is wanted any more: what is left of it in the runtime and on disk goes.
    pub async fn forget(self: Arc<Self>, uid: Box<str>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        self.backoffs.lock().unwrap_or_else(PoisonError::into_inner).retain(|(owner, _), _| *owner != uid);
        self.probes.end(&uid);
        self.logs.forget(&uid);
        self.objects.need(&uid, Default::default());
        if let Some(object) = self.pods.remove(&uid)
            && let Ok(pod) = object.decode::<Pod>()
        {
            let _ = std::fs::remove_dir_all(sandbox::log_directory(&self.log_directory, &pod));
            let is_last = self.pods.named(pod.namespace(), pod.name()).is_none();
            if let Some(mirror) = self.pods.mirror(pod.namespace(), pod.name()).filter(|_| pod.is_static() && is_last)
                && let Err(error) = self.delete_mirror(&mirror).await
            {
                tracing::warn!(%error, name = pod.name(), "a static pod's mirror is not deleted");
            }
        }
        if let Err(error) = self.remove_from_runtime(&uid).await {
            tracing::warn!(%uid, %error, "a pod's remains cannot be removed from the runtime");
        }
    }

    /// Ends and removes every sandbox and container of that UID, and its directory and cgroup.
    pub async fn remove_from_runtime(&self, uid: &str) -> Result<(), RuntimeError> {
        for sandbox in PodRuntime::read(&self.cri, uid).await?.sandboxes {
            self.cri.stop_pod_sandbox(&sandbox.id).await?;
            self.cri.remove_pod_sandbox(&sandbox.id).await?;
        }
        let directory = self.pod_directory(uid);
        let _ = coracle_base::task::blocking(move || volumes::remove_pod_directory(&directory)).await;
        self.cgroups.remove(uid);
        Ok(())
    }

    /// Containers first, sidecars after the others in reverse order, the sandbox last.
    async fn kill_all(&self, pod: &Pod, runtime: &PodRuntime, grace: i64) -> Result<(), SyncError> {
        let sidecars: Vec<&str> =
            pod.init_containers().iter().filter(|spec| is_sidecar(spec)).map(|spec| spec.name.as_str()).collect();
        let running =
            || runtime.containers.iter().filter(|container| container.state() != ContainerState::ContainerExited);
        let main = running().filter(|container| !sidecars.contains(&container.name.as_str()));
        let began = tokio::time::Instant::now();
        let kills = main.map(|container| self.kill(pod, container, "Stopping container", grace));
        futures::future::try_join_all(kills).await?;
        for name in sidecars.iter().rev() {
            let left = (grace - began.elapsed().as_secs() as i64).max(1);
            for container in running().filter(|container| container.name == *name) {
                self.kill(pod, container, "Stopping container", left).await?;
            }
        }
        for sandbox in &runtime.sandboxes {
            self.cri.stop_pod_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }

    /// preStop, the stop signal, and SIGKILL when the grace period is over.
    async fn kill(&self, pod: &Pod, container: &Container, message: &str, grace: i64) -> Result<(), SyncError> {
        let name = &container.name;
        let message = if message == "Stopping container" { format!("{message} {name}") } else { message.to_owned() };
        self.events.normal(pod, Some(name), "Killing", message);
        let began = tokio::time::Instant::now();
        let limit = Duration::from_secs(grace.max(1) as u64);
        if container.is_running() {
            let _ = tokio::time::timeout(limit, self.pre_stop(pod, container)).await;
        }
        // Upstream's minimum after a preStop hook that took it all.
        let spent = began.elapsed();
        let left = if spent < Duration::from_millis(500) {
            limit
        } else {
            limit.saturating_sub(spent).max(Duration::from_secs(2))
        };
        match self.cri.stop_container(&container.status.id, left).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What the runtime holds, with the messages that ended containers have left.
    async fn read(&self, pod: &Pod) -> Result<PodRuntime, SyncError> {
        let mut runtime = PodRuntime::read(&self.cri, pod.uid()).await?;
        for container in &mut runtime.containers {
            if container.state() == ContainerState::ContainerExited {
                container.status.message = status::message::read(&container.status);
            }
        }
        Ok(runtime)
    }

    /// Brings the pod's status to the API if it has changed; says whether the pod has had its run.
    async fn publish(
        &self,
        object: &Object,
        pod: &Pod,
        runtime: &PodRuntime,
        state: &State,
    ) -> Result<bool, SyncError> {
        let mut new = self.status(pod, runtime, state);
        let is_settled = |status: &PodStatus| matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
        let is_over = is_settled(&new);
        let old = pod.status.clone().unwrap_or_default();
        if is_over && !state.is_terminal && !is_settled(&old) {
            // Said only when nothing of it runs any more. Upstream: status_manager.go mergePodStatus.
            new =
                PodStatus { phase: old.phase.clone(), reason: old.reason.clone(), message: old.message.clone(), ..new };
        }
        self.write(object, pod, &new).await?;
        Ok(is_over)
    }

    /// Brings a status to the API if it is another than there.
    async fn write(&self, object: &Object, pod: &Pod, new: &PodStatus) -> Result<(), SyncError> {
        let old = pod.status.clone().unwrap_or_default();
        if pod.is_static() {
            if let Err(error) = self.write_mirror(object, pod, new).await {
                tracing::warn!(%error, ns = pod.namespace(), name = pod.name(), "a static pod's mirror is not written");
            }
            return Ok(());
        }
        if let Some(patch) = writer::patch(pod.uid(), &old, new).map_err(coracle_client::Error::from)? {
            match writer::write(&self.client, object, &patch).await {
                Ok(written) => self.pods.put_newer(written),
                // Gone, or another pod of that name by now: the source will say so.
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn status(&self, pod: &Pod, runtime: &PodRuntime, state: &State) -> PodStatus {
        let waiting =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get(pod.uid()).cloned().unwrap_or_default();
        let inputs = status::Inputs {
            waiting: &waiting,
            probes: &|id| self.probes.probed(id),
            node_addresses: &self.node_addresses,
            resized: &state.resized,
            pending: state.pending.as_ref(),
            is_terminal: state.is_terminal,
            now: jiff::Timestamp::from_second(self.clock.since_epoch().as_secs() as i64).unwrap_or_default(),
        };
        status::generate(pod, runtime, &inputs)
    }

    fn context<'a>(&'a self, pod: &'a Pod, pod_addresses: &'a [String]) -> Context<'a> {
        Context {
            pod,
            objects: &self.objects,
            services: &self.services,
            pod_addresses,
            node_addresses: &self.node_addresses,
            allocatable: &self.allocatable,
        }
    }

    pub fn pod_directory(&self, uid: &str) -> PathBuf {
        self.directory.join("pods").join(uid)
    }
}

/// Seconds for a single container: what the probe that failed says (KEP-2238), else the pod.
fn grace_of(pod: &Pod, kill: &Kill) -> i64 {
    let containers = pod.spec().containers.iter().chain(pod.init_containers());
    let spec = containers.into_iter().find(|spec| spec.name == kill.name);
    let probe = spec.zip(kill.probe).and_then(|(spec, kind)| match kind {
        ProbeKind::Startup => spec.startup_probe.as_ref(),
        ProbeKind::Liveness => spec.liveness_probe.as_ref(),
    });
    let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
    own.or(pod.spec().termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE)
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
