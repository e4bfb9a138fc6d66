//! The agent: sources, runtime events and timers become events of the pod workers, and their actions become tasks.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::{Object, Resource};
use coracle_base::clock::Clock;
use coracle_base::shutdown::Shutdown;
use coracle_base::task::{self, Task};
use coracle_client::events::{Recorder, Reporter};
use coracle_client::{ObjectSource, Views};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::cgroups::Cgroups;
use crate::config::dns::ClusterDns;
use crate::containerd::config::Settings;
use crate::containerd::content::ContentStore;
use crate::containerd::programs::Programs;
use crate::containerd::registries::Registries;
use crate::containerd::{self, Containerd, ContainerdError, events};
use crate::cri::{Cri, RuntimeError};
use crate::downward::Allocatable;
use crate::handle::NodeHandle;
use crate::images::collect::Images;
use crate::images::pause;
use crate::logs::Logs;
use crate::node::{self, Facts as Machine, Readiness, Registration};
use crate::objects::Objects;
use crate::pod::PodExt;
use crate::pod_workers::{Action, Event, Facts, Outcome, PodWorkers};
use crate::pods::PodStore;
use crate::probes::Probes;
use crate::proto::cri as wire;
use crate::services::{ServiceView, Services};
use crate::sources::files::FilePods;
use crate::sources::{ApiPods, PodEvent, PodSource};
use crate::sync::Syncer;
use crate::volumes::tokens::Tokens;
use crate::{events as pod_events, images, labels};

#[cfg(test)]
mod tests;

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The node's name, addresses, labels, and where its server listens.
    pub registration: Registration,
    /// `<data-dir>/agent`
    pub directory: PathBuf,
    /// Where pods' directories stand: `/var/lib/kubelet` of the installed service, else a private one.
    pub kubelet_directory: PathBuf,
    /// `/var/log/pods` of the installed service, else a private one.
    pub log_directory: PathBuf,
    /// On everything outside of the directories: `/run/coracle-<id>`, `/coracle-<id>/kubepods`.
    pub instance: String,
    /// A runtime of the machine's own instead of a supervised containerd.
    pub runtime_socket: Option<PathBuf>,
    /// Directory of containerd, its shim and runc; `None` for those on PATH.
    pub runtime_programs: Option<PathBuf>,
    pub cni_config: PathBuf,
    pub cni_binaries: PathBuf,
    /// `registries.yaml`, which need not be there.
    pub registries: PathBuf,
    pub cluster_dns: ClusterDns,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    #[error("the container runtime does not work")]
    Runtime(#[from] RuntimeError),
}

/// A node that runs.
pub struct Agent {
    pub handle: NodeHandle,
    /// The supervisor of the runtime; `None` for a runtime of the machine's own.
    runtime: Option<Task<()>>,
    _tasks: Vec<Task<()>>,
}

/// Events that wait for the workers; whoever reports waits when it is full.
const WAITING: usize = 1024;
/// Between attempts to follow the runtime's events, and after a new one until the second list.
const RESUBSCRIBE: Duration = Duration::from_secs(1);
/// After the runtime was restarted: containers that outlived it are not told of by its events (containerd 1.6, whose shims
/// then speak to nobody).
const RELIST_OF_OUTLIVED: Duration = Duration::from_secs(5);
/// The net under the runtime's events.
const RELIST: Duration = Duration::from_secs(60);
/// How long the runtime may take to know what its own event has said.
const CALM: Duration = Duration::from_secs(30);
const ANXIOUS: Duration = Duration::from_millis(200);
const SETTLE: Duration = Duration::from_secs(3);

enum Message {
    Source(PodEvent),
    Woken(Box<str>),
    Done {
        uid: Box<str>,
        life: u64,
        outcome: Outcome,
    },
    /// What the runtime holds, with a hash of each pod's part.
    Listed(HashMap<Box<str>, u64>),
}

impl Agent {
    /// Starts the runtime and everything above it; answers when the runtime answers.
    pub async fn run(
        config: AgentConfig,
        source: Arc<dyn ObjectSource>,
        client: kube::Client,
        shutdown: Shutdown,
    ) -> Result<Agent, AgentError> {
        let mut tasks = Vec::new();
        let (socket, generation, supervisor) = match &config.runtime_socket {
            Some(socket) => (socket.clone(), watch::channel(1).1, None),
            None => {
                let Containerd { socket, generation, task } = start_runtime(&config, shutdown.clone()).await?;
                (socket, generation, Some(task))
            }
        };
        let cri = Cri::new(&socket);
        if config.runtime_socket.is_none() {
            import_pause(&cri, &socket).await?;
        }
        let version = cri.version().await?;
        let pods = PodStore::default();
        let handle = NodeHandle {
            node: config.registration.name.as_str().into(),
            cri: cri.clone(),
            socket: Arc::new(socket.clone()),
            pods: pods.clone(),
            cgroups: Arc::new(Cgroups::new(&config.instance)),
            storage: Arc::new(config.registration.storage.clone()),
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let (woken, mut wakes) = mpsc::channel::<Box<str>>(WAITING);
        let clock = Clock::system();
        let machine = Machine::read(&config.directory);
        let allocatable = Allocatable {
            milli_cpu: machine.cpus as i64 * 1000,
            memory: machine.memory as i64,
            ephemeral_storage: machine.storage as i64,
        };
        let views = Views::new(source.clone());
        let services = Services {
            view: views.view::<ServiceView>(&Resource::find("", "v1", "services").expect("core/v1 is in the catalog")),
        };
        views.start();
        let reporter = Reporter { component: "kubelet".to_owned(), host: config.registration.name.clone() };
        let syncer = Arc::new(Syncer {
            cri: cri.clone(),
            client: client.clone(),
            pods: pods.clone(),
            objects: Objects::new(source.clone(), woken.clone()),
            services,
            tokens: Tokens::new(client.clone()),
            puller: Default::default(),
            probes: Probes::new(woken),
            cgroups: Cgroups::new(&config.instance),
            events: pod_events::Events::new(Recorder::counted(client.clone(), reporter, clock.clone())),
            clock: clock.clone(),
            node_addresses: config.registration.addresses.iter().map(ToString::to_string).collect(),
            cluster_dns: config.cluster_dns.clone(),
            allocatable,
            max_pods: config.registration.max_pods as usize,
            has_app_armor: node::has_app_armor(),
            directory: config.kubelet_directory.clone(),
            // Collectors look beside the pods' own directories: `/var/log/containers`.
            logs: Logs::new(cri.clone(), config.log_directory.with_file_name("containers")),
            log_directory: config.log_directory.clone(),
            waiting: Default::default(),
            backoffs: Default::default(),
        });
        let sources: [Box<dyn PodSource>; 2] = [
            Box::new(ApiPods { source: source.clone(), node: config.registration.name.clone() }),
            Box::new(FilePods {
                directory: config.directory.join("pod-manifests"),
                node: config.registration.name.clone(),
            }),
        ];
        let streams: Vec<_> = sources.iter().map(|source| source.pods()).collect();
        tasks.push(task::spawn("pod sources", forward(futures::stream::select_all(streams), sender.clone())));
        let wake = sender.clone();
        tasks.push(task::spawn("pod wakes", async move {
            while let Some(uid) = wakes.recv().await {
                let _ = wake.send(Message::Woken(uid)).await;
            }
        }));
        let content = config.runtime_socket.is_none().then(|| ContentStore::new(&socket));
        let (images, images_changed) = Images::new(cri.clone(), content, config.directory.clone());
        tasks.push(task::spawn(
            "runtime events",
            follow(cri.clone(), socket, generation.clone(), sender.clone(), images),
        ));
        let runtime = format!("{}://{}", version.runtime_name, version.runtime_version);
        let (ready, readiness) =
            watch::channel(Readiness::NotReady("container runtime status check has not run yet".to_owned()));
        let of_node = cri.clone();
        tasks.push(task::spawn("runtime health", watch_health(cri, generation.clone(), ready)));
        tasks.push(task::spawn(
            "node",
            node::run(
                node::Inputs { registration: config.registration.clone(), runtime, source, client, cri: of_node },
                readiness,
                images_changed,
                shutdown.clone(),
            ),
        ));
        let workers = Driver {
            workers: PodWorkers::default(),
            syncer,
            sender,
            running: HashMap::new(),
            lives: 0,
            delays: BTreeSet::new(),
            synced: 0,
            listed: HashMap::new(),
        };
        tasks.push(task::spawn("pod workers", workers.run(receiver, shutdown, sources.len())));
        Ok(Agent { handle, runtime: supervisor, _tasks: tasks })
    }

    /// Completes after shutdown has begun and the runtime is stopped. Containers go on.
    pub async fn stopped(self) {
        if let Some(runtime) = self.runtime {
            let _ = runtime.await;
        }
    }
}

async fn start_runtime(config: &AgentConfig, shutdown: Shutdown) -> Result<Containerd, ContainerdError> {
    let directory = config.directory.join("containerd");
    let file = &config.registries;
    let registries =
        Registries::read(file).map_err(|source| ContainerdError::Registries { path: file.clone(), source })?;
    let settings = Settings {
        root: directory.join("root"),
        state: PathBuf::from(format!("/run/coracle-{}/containerd", config.instance)),
        cni_config: config.cni_config.clone(),
        cni_binaries: config.cni_binaries.clone(),
        sandbox_image: pause::NAME.to_owned(),
        registries,
        hosts: directory.join("hosts"),
        restrict_oom_score: !containerd::may_adjust_oom_score(),
    };
    let hosts = &settings.hosts;
    let written = settings.registries.write(hosts);
    written.map_err(|source| ContainerdError::Files { path: hosts.clone(), source })?;
    let programs = Programs::find(config.runtime_programs.as_deref())?;
    containerd::start(&directory, programs, &settings, shutdown).await
}

async fn import_pause(cri: &Cri, socket: &std::path::Path) -> Result<(), RuntimeError> {
    let content = ContentStore::new(socket);
    if !content.has_image(pause::NAME).await? {
        content.import(pause::image()).await?;
    }
    images::known(cri, pause::NAME).await
}

async fn forward(mut pods: impl futures::Stream<Item = PodEvent> + Unpin, sender: mpsc::Sender<Message>) {
    while let Some(event) = pods.next().await {
        if sender.send(Message::Source(event)).await.is_err() {
            return;
        }
    }
}

/// Looks after the runtime's own conditions: often while something is wrong, for nothing tells when it is right again, else now and
/// then and when the runtime was restarted.
async fn watch_health(cri: Cri, mut generation: watch::Receiver<u64>, ready: watch::Sender<Readiness>) {
    let mut has_supervisor = true;
    loop {
        let now = health(cri.conditions().await);
        let pause = if now == Readiness::Ready { CALM } else { ANXIOUS };
        ready.send_if_modified(|known| {
            *known != now && {
                *known = now.clone();
                true
            }
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = generation.changed(), if has_supervisor => has_supervisor = changed.is_ok(),
        }
    }
}

/// Whether the runtime and its network are ready; what else a runtime says of itself (containerd 2: that the machine uses what is
/// deprecated) keeps no node from work (upstream: `updateRuntimeUp` of pkg/kubelet/kubelet.go).
fn health(conditions: Result<Vec<wire::RuntimeCondition>, RuntimeError>) -> Readiness {
    let conditions = match conditions {
        Ok(conditions) => conditions,
        Err(error) => return Readiness::NotReady(format!("container runtime is down: {error}")),
    };
    let broken = ["RuntimeReady", "NetworkReady"].into_iter().filter_map(|kind| {
        match conditions.iter().find(|condition| condition.r#type == kind) {
            Some(condition) if condition.status => None,
            Some(condition) => Some(format!("{kind}=false reason:{} message:{}", condition.reason, condition.message)),
            None => Some(format!("{kind} is not said")),
        }
    });
    let words: Vec<String> = broken.collect();
    if words.is_empty() {
        Readiness::Ready
    } else {
        Readiness::NotReady(format!("container runtime not ready: {}", words.join(", ")))
    }
}

/// Turns the runtime's events into wakes; lists all when the runtime was restarted, and every minute.
async fn follow(
    cri: Cri,
    socket: PathBuf,
    mut generation: watch::Receiver<u64>,
    sender: mpsc::Sender<Message>,
    mut images: Images,
) {
    loop {
        if generation.wait_for(|generation| *generation > 0).await.is_err() {
            // The supervisor is gone, or there is none: the last value stands.
            if *generation.borrow() == 0 {
                return;
            }
        }
        // The runtime answers with its first event, which may be hours away, and does not say from when on it tells: what
        // happened in between is found by listing at once and again a moment later.
        let relist = if *generation.borrow() > 1 { RELIST_OF_OUTLIVED } else { RELIST };
        let subscribing = events::subscribe(&cri, &socket);
        tokio::pin!(subscribing);
        let mut stream: Option<BoxStream<'static, events::ContainerEvent>> = None;
        let (mut next_list, mut pause) = (Instant::now(), RESUBSCRIBE);
        loop {
            tokio::select! {
                subscribed = &mut subscribing, if stream.is_none() => match subscribed {
                    Ok(events) => stream = Some(events),
                    Err(error) => {
                        tracing::warn!(%error, "the runtime's events cannot be followed");
                        tokio::time::sleep(RESUBSCRIBE).await;
                        break;
                    }
                },
                event = async { stream.as_mut()?.next().await }, if stream.is_some() => {
                    let Some(event) = event else { break };
                    task::spawn("runtime event", tell(cri.clone(), event, sender.clone())).detach();
                }
                () = tokio::time::sleep_until(next_list) => {
                    if let Ok(listed) = list(&cri).await && sender.send(Message::Listed(listed)).await.is_err() {
                        return;
                    }
                    if let Err(error) = images.look().await {
                        tracing::debug!(%error, "images are not listed");
                    }
                    next_list = Instant::now() + std::mem::replace(&mut pause, relist);
                }
            }
        }
    }
}

/// Finds the pod of an event; an end is told once the CRI knows it too.
async fn tell(cri: Cri, event: events::ContainerEvent, sender: mpsc::Sender<Message>) {
    let ended = |status: &wire::ContainerStatus| status.state() == wire::ContainerState::ContainerExited;
    let until = Instant::now() + SETTLE;
    let mut delay = Duration::from_millis(5);
    let labels = loop {
        match cri.container_status(&event.id).await {
            Ok(status)
                if event.kind != events::ContainerEventKind::Stopped || ended(&status) || Instant::now() > until =>
            {
                break status.labels;
            }
            Ok(_) => {}
            Err(error) if error.is_not_found() => match cri.pod_sandbox_status(&event.id).await {
                Ok(status) => break status.labels,
                Err(_) => return,
            },
            Err(_) => return,
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_millis(200));
    };
    if let Some(uid) = labels.get(labels::POD_UID) {
        let _ = sender.send(Message::Woken(uid.as_str().into())).await;
    }
}

async fn list(cri: &Cri) -> Result<HashMap<Box<str>, u64>, RuntimeError> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut parts: HashMap<Box<str>, BTreeSet<(String, i32)>> = HashMap::new();
    for sandbox in cri.pod_sandboxes(&[]).await? {
        if let Some(uid) = sandbox.labels.get(labels::POD_UID) {
            parts.entry(uid.as_str().into()).or_default().insert((sandbox.id, sandbox.state));
        }
    }
    for container in cri.containers(&[]).await? {
        if let Some(uid) = container.labels.get(labels::POD_UID) {
            parts.entry(uid.as_str().into()).or_default().insert((container.id, container.state));
        }
    }
    let hash = |part: BTreeSet<(String, i32)>| {
        let mut hasher = DefaultHasher::new();
        part.hash(&mut hasher);
        hasher.finish()
    };
    Ok(parts.into_iter().map(|(uid, part)| (uid, hash(part))).collect())
}

/// Owns the workers' state; the only caller of `step`.
struct Driver {
    workers: PodWorkers,
    syncer: Arc<Syncer>,
    sender: mpsc::Sender<Message>,
    /// The work of each pod, with a number that tells its outcome from that of cancelled work.
    running: HashMap<Box<str>, (u64, Task<()>)>,
    lives: u64,
    delays: BTreeSet<(Instant, Box<str>)>,
    /// Sources that have told all they had.
    synced: usize,
    listed: HashMap<Box<str>, u64>,
}

impl Driver {
    async fn run(mut self, mut receiver: mpsc::Receiver<Message>, shutdown: Shutdown, sources: usize) {
        loop {
            let next = self.delays.first().map(|(at, _)| *at);
            let message = tokio::select! {
                () = shutdown.begun() => return,
                message = receiver.recv() => message,
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => None,
            };
            match message {
                None => {
                    let Some((_, uid)) = self.delays.pop_first() else { return };
                    self.step(&uid, Event::Woken);
                }
                Some(Message::Woken(uid)) => self.step(&uid, Event::Woken),
                Some(Message::Done { uid, life, outcome }) => {
                    if self.running.get(&uid).is_some_and(|(present, _)| *present == life) {
                        self.running.remove(&uid);
                        self.step(&uid, Event::Done(outcome));
                    }
                }
                Some(Message::Source(event)) => self.source(event, sources),
                Some(Message::Listed(listed)) => self.relisted(listed, sources),
            }
        }
    }

    fn source(&mut self, event: PodEvent, sources: usize) {
        match event {
            PodEvent::Set(object) => {
                let uid = object.meta().uid.clone();
                self.syncer.pods.put_newer(object.clone());
                match facts(&object) {
                    Some(facts) => self.step(&uid, Event::Updated(facts)),
                    None => tracing::error!(%uid, "a pod cannot be decoded"),
                }
            }
            PodEvent::Gone(object) => {
                let uid = object.meta().uid.clone();
                let deletion_grace = facts(&object).and_then(|facts| facts.deletion_grace);
                self.step(&uid, Event::Removed { deletion_grace });
            }
            PodEvent::Mirror(mirror) => {
                self.syncer.pods.put_mirror(mirror.clone());
                self.mirror_changed(mirror, sources);
            }
            PodEvent::MirrorGone(mirror) => {
                self.syncer.pods.remove_mirror(&mirror);
                self.mirror_changed(mirror, sources);
            }
            PodEvent::Synced => {
                self.synced += 1;
                if self.synced == sources {
                    self.remove_orphans();
                    for mirror in self.syncer.pods.mirrors() {
                        self.mirror_changed(mirror, sources);
                    }
                }
            }
        }
    }

    /// The static pod is told when its mirror may have to be made anew; a mirror of nothing goes.
    fn mirror_changed(&mut self, mirror: Object, sources: usize) {
        let meta = mirror.meta();
        match self.syncer.pods.named(&meta.namespace, &meta.name) {
            Some(pod) => {
                let is_missing = self.syncer.pods.mirror(&meta.namespace, &meta.name).is_none();
                if is_missing || facts(&mirror).is_some_and(|facts| facts.deletion_grace.is_some()) {
                    self.step(&pod.meta().uid.clone(), Event::Woken);
                }
            }
            None if self.synced >= sources => {
                let syncer = self.syncer.clone();
                task::spawn("mirror", async move {
                    if let Err(error) = syncer.delete_mirror(&mirror).await {
                        tracing::warn!(%error, "the mirror of a static pod that is gone is not deleted");
                    }
                })
                .detach();
            }
            None => {}
        }
    }

    /// Wakes the pods whose part of the runtime has changed without an event.
    fn relisted(&mut self, listed: HashMap<Box<str>, u64>, sources: usize) {
        let before = std::mem::replace(&mut self.listed, listed);
        let changed: Vec<Box<str>> = self
            .listed
            .iter()
            .filter(|(uid, hash)| before.get(*uid) != Some(*hash))
            .map(|(uid, _)| uid.clone())
            .chain(before.keys().filter(|uid| !self.listed.contains_key(*uid)).cloned())
            .collect();
        for uid in changed {
            self.step(&uid, Event::Woken);
        }
        if self.synced >= sources {
            self.remove_orphans();
        }
    }

    /// What no source knows goes: its containers, its directory.
    fn remove_orphans(&mut self) {
        let directories = std::fs::read_dir(self.syncer.directory.join("pods")).into_iter().flatten().flatten();
        let on_disk = directories.map(|entry| Box::from(entry.file_name().to_string_lossy()));
        let orphans: BTreeSet<Box<str>> =
            self.listed.keys().cloned().chain(on_disk).filter(|uid| self.syncer.pods.get(uid).is_none()).collect();
        self.syncer.logs.remove_dead_links();
        for uid in orphans {
            tracing::info!(%uid, "removing what is left of an unknown pod");
            self.listed.remove(&uid);
            let syncer = self.syncer.clone();
            task::spawn("orphan", async move { syncer.forget(uid).await }).detach();
        }
    }

    fn step(&mut self, uid: &str, event: Event) {
        for action in self.workers.step(uid, event) {
            match action {
                Action::Start(uid, work) => {
                    self.delays.retain(|(_, delayed)| *delayed != uid);
                    self.lives += 1;
                    let life = self.lives;
                    let cancelled = self.running.remove(&uid).map(|(_, task)| task);
                    let (syncer, sender, key) = (self.syncer.clone(), self.sender.clone(), uid.clone());
                    let task = task::spawn("pod", async move {
                        if let Some(cancelled) = cancelled {
                            cancelled.stop().await;
                        }
                        let outcome = syncer.work(key.clone(), work).await;
                        let _ = sender.send(Message::Done { uid: key, life, outcome }).await;
                    });
                    self.running.insert(uid, (life, task));
                }
                Action::WakeAfter(uid, delay) => {
                    self.delays.insert((Instant::now() + delay, uid));
                }
                Action::Forget(uid) => {
                    self.running.remove(&uid);
                    let syncer = self.syncer.clone();
                    task::spawn("pod end", async move { syncer.forget(uid).await }).detach();
                }
            }
        }
    }
}

fn facts(object: &Object) -> Option<Facts> {
    let pod: Pod = object.decode().ok()?;
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let deleted = pod.metadata.deletion_timestamp.is_some();
    Some(Facts {
        full_name: format!("{}/{}", pod.namespace(), pod.name()).into(),
        is_static: pod.is_static(),
        deletion_grace: deleted.then(|| pod.metadata.deletion_grace_period_seconds.unwrap_or(0)),
        grace: pod.spec().termination_grace_period_seconds.unwrap_or(30),
        is_terminal: matches!(phase, Some("Failed" | "Succeeded")),
    })
}
