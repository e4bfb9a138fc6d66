//! postStart and preStop: what a container is told at the ends of its life (upstream: pkg/kubelet/lifecycle/handlers.go).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, LifecycleHandler, Pod};

use super::Syncer;
use crate::pod::PodExt;
use crate::pod_runtime::{Container, PodRuntime};
use crate::probes::check;

/// Where the grace period does not end it sooner.
const HTTP_LIMIT: Duration = Duration::from_secs(30);

impl Syncer {
    pub(super) async fn pre_stop(&self, pod: &Pod, container: &Container) {
        let all = pod.all_containers();
        let Some(spec) = all.iter().find(|spec| spec.name == container.name) else { return };
        let Some(hook) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else { return };
        let Ok(runtime) = PodRuntime::read(&self.cri, pod.uid()).await else { return };
        if let Err(message) = self.run_hook(&runtime, spec, &container.status.id, hook).await {
            self.events.warning_of(pod, &spec.name, "FailedPreStopHook", message);
        }
    }

    /// The error is what the event says.
    pub(super) async fn run_hook(
        &self,
        runtime: &PodRuntime,
        spec: &Spec,
        id: &str,
        hook: &LifecycleHandler,
    ) -> Result<(), String> {
        if let Some(exec) = &hook.exec {
            let command = exec.command.clone().unwrap_or_default();
            let answer = self.cri.exec_sync(id, command, Duration::ZERO).await.map_err(|error| error.to_string())?;
            let failed =
                |code: i32| format!("hook exited with {code}: {}", String::from_utf8_lossy(&answer.stderr).trim());
            return if answer.exit_code == 0 { Ok(()) } else { Err(failed(answer.exit_code)) };
        }
        if let Some(get) = &hook.http_get {
            let address = runtime
                .addresses()
                .into_iter()
                .next()
                .or_else(|| self.node_addresses.first().cloned())
                .unwrap_or_default();
            // Whatever is answered: a hook is told, not asked.
            return check::ask(get, spec, &address, "kube-lifecycle/1.37", HTTP_LIMIT).await.map(drop);
        }
        if let Some(sleep) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
        }
        Ok(())
    }
}
