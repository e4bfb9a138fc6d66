//! Short questions to a decoded pod that many parts ask.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, Probe};

use crate::containerd::content;

/// A decoded pod's parts that are always there.
pub trait PodExt {
    fn uid(&self) -> &str;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn spec(&self) -> &PodSpec;
    fn init_containers(&self) -> &[Container];
    fn ephemeral_containers(&self) -> &[EphemeralContainer];
    /// Every container of whatever sort.
    fn all_containers(&self) -> Vec<Cow<'_, Container>>;
    /// `None` without `activeDeadlineSeconds`, or before the pod's start is known; zero when the time is over.
    fn time_left(&self, now: Timestamp) -> Option<Duration>;
    fn uses_host_network(&self) -> bool;
    fn is_static(&self) -> bool;
}

/// The annotations by which static pods and their mirrors are known (upstream: pkg/kubelet/types/pod_update.go).
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

impl PodExt for Pod {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn spec(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or(&EMPTY)
    }

    fn init_containers(&self) -> &[Container] {
        self.spec().init_containers.as_deref().unwrap_or_default()
    }

    fn ephemeral_containers(&self) -> &[EphemeralContainer] {
        self.spec().ephemeral_containers.as_deref().unwrap_or_default()
    }

    fn all_containers(&self) -> Vec<Cow<'_, Container>> {
        let fixed = self.init_containers().iter().chain(&self.spec().containers).map(Cow::Borrowed);
        fixed.chain(self.ephemeral_containers().iter().map(|container| Cow::Owned(as_container(container)))).collect()
    }

    fn time_left(&self, now: Timestamp) -> Option<Duration> {
        let deadline = self.spec().active_deadline_seconds?;
        let start = self.status.as_ref()?.start_time.as_ref()?;
        let left = deadline - now.as_second().saturating_sub(start.0.as_second());
        Some(Duration::from_secs(left.max(0) as u64))
    }

    fn uses_host_network(&self) -> bool {
        self.spec().host_network.unwrap_or(false)
    }

    fn is_static(&self) -> bool {
        let source = self.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CONFIG_SOURCE));
        source.is_some_and(|source| source != "api")
    }
}

/// What an ephemeral container has in common with the others: all but the container that it looks at.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let common = ephemeral.clone();
    Container {
        args: common.args,
        command: common.command,
        env: common.env,
        env_from: common.env_from,
        image: common.image,
        image_pull_policy: common.image_pull_policy,
        name: common.name,
        security_context: common.security_context,
        stdin: common.stdin,
        stdin_once: common.stdin_once,
        termination_message_path: common.termination_message_path,
        termination_message_policy: common.termination_message_policy,
        tty: common.tty,
        volume_devices: common.volume_devices,
        volume_mounts: common.volume_mounts,
        working_dir: common.working_dir,
        ..Container::default()
    }
}

/// An init container that keeps running beside the others (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether a container that ended with this code is started again.
/// Upstream: pkg/api/v1/pod/util.go ContainerShouldRestart.
pub fn should_restart(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.as_deref().unwrap_or_default() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
        let matches = if codes.operator == "NotIn" { !listed } else { listed };
        if matches && rule.action == "Restart" {
            return true;
        }
    }
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always");
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Of what a running container cannot take over in place: its name and image, as upstream's HashContainer.
pub fn hash(container: &Container) -> String {
    let text = format!("{}\0{}", container.name, container.image.as_deref().unwrap_or_default());
    content::digest(text.as_bytes())[7..23].to_owned()
}

/// Seconds, as the API defaults them.
pub fn period(probe: &Probe) -> u64 {
    probe.period_seconds.filter(|seconds| *seconds > 0).unwrap_or(10) as u64
}
