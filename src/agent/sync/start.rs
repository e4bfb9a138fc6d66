//! Starts one container: back-off, image, configuration, and the errors that users see as reasons
//! (upstream: kuberuntime_container.go startContainer).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::Syncer;
use crate::config::{container, dns};
use crate::environment::environment;
use crate::images::credentials;
use crate::images::ensure::{NoImage, Wanted};
use crate::objects::Kind;
use crate::pod::PodExt;
use crate::pod_runtime::PodRuntime;
use crate::proto::cri as wire;
use crate::volumes::{Mounted, Place};

/// Upstream: MaxContainerBackOff and the initial value; after twice the longest delay without a crash it starts over.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// What starting a container needs beside its specification.
pub(super) struct Start<'a> {
    pub pod: &'a Pod,
    pub runtime: &'a PodRuntime,
    pub sandbox: &'a str,
    pub sandbox_config: &'a wire::PodSandboxConfig,
    pub mounted: &'a Mounted,
}

impl Syncer {
    /// `target` names the container whose processes an ephemeral container sees.
    pub(super) async fn start(
        self: &Arc<Self>,
        start: &Start<'_>,
        spec: &Container,
        target: Option<&str>,
    ) -> Result<(), NoImage> {
        let (pod, runtime, name) = (start.pod, start.runtime, &spec.name);
        self.back_off(pod, spec, runtime)?;
        let images = self.volume_images(start, spec).await?;
        let image = spec.image.as_deref().unwrap_or_default();
        self.image(start, name, image, spec.image_pull_policy.as_deref()).await?;
        let previous = runtime.container(name).map(|container| container.restart_count() + 1);
        let attempt = previous.or_else(|| self.known_restarts(pod, name)).unwrap_or(0).max(0) as u32;
        let failed = |reason: &'static str, message: String| {
            self.events.warning_of(pod, name, "Failed", format!("Error: {message}"));
            NoImage { reason, message, retry: Some(Duration::from_secs(10)) }
        };
        let target = target.map(|target| {
            let found = runtime.container(target).map(|container| container.status.id.clone());
            found.ok_or_else(|| format!("unable to find target container {target}"))
        });
        let target = target.transpose().map_err(|message| failed("CreateContainerConfigError", message))?;
        let config = self.container_config(start, spec, attempt, &images, target).await;
        let config = config.map_err(|message| failed("CreateContainerConfigError", message))?;
        let created = self.cri.create_container(start.sandbox, config, start.sandbox_config.clone()).await;
        let id = created.map_err(|error| failed("CreateContainerError", error.to_string()))?;
        self.events.normal(pod, Some(name), "Created", "Container created".to_owned());
        self.cri.start_container(&id).await.map_err(|error| failed("RunContainerError", error.to_string()))?;
        self.events.normal(pod, Some(name), "Started", "Container started".to_owned());
        self.prune(runtime, name).await;
        if let Some(hook) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref())
            && let Err(message) = self.run_hook(runtime, spec, &id, hook).await
        {
            self.events.warning_of(pod, name, "FailedPostStartHook", message.clone());
            let _ = self.cri.stop_container(&id, Duration::from_secs(super::DEFAULT_GRACE as u64)).await;
            return Err(NoImage { reason: "PostStartHookError", message, retry: Some(FIRST) });
        }
        Ok(())
    }

    /// Makes sure that the image is there and answers with the runtime's reference; tells of what it does.
    async fn image(&self, start: &Start<'_>, name: &str, image: &str, policy: Option<&str>) -> Result<String, NoImage> {
        let pod = start.pod;
        let credentials = self.credentials(pod, image).await;
        let wanted = Wanted { pod_uid: pod.uid(), image, policy, credentials, sandbox: start.sandbox_config };
        let begin = || self.events.normal(pod, Some(name), "Pulling", format!("Pulling image {image:?}"));
        let found = self.puller.ensure(&self.cri, wanted, begin).await;
        let found = found.inspect_err(|missing| self.report_image(pod, name, image, missing))?;
        let message = match found.pulled {
            None => format!("Container image {image:?} already present on machine and can be accessed by the pod"),
            Some(took) => format!("Successfully pulled image {image:?} in {took:.0?}"),
        };
        self.events.normal(pod, Some(name), "Pulled", message);
        Ok(found.reference)
    }

    /// The references of the images that the container mounts, by volume (KEP-4639).
    async fn volume_images(&self, start: &Start<'_>, spec: &Container) -> Result<HashMap<String, String>, NoImage> {
        let mut images = HashMap::new();
        for mount in spec.volume_mounts.iter().flatten() {
            let Some(Place::Image { reference, policy }) = start.mounted.places.get(&mount.name) else { continue };
            if !images.contains_key(&mount.name) {
                let image = self.image(start, &spec.name, reference, policy.as_deref()).await?;
                images.insert(mount.name.clone(), image);
            }
        }
        Ok(images)
    }

    /// What the pod's pull secrets offer for the image; secrets that are missing are told of and done without.
    async fn credentials(&self, pod: &Pod, image: &str) -> Vec<wire::AuthConfig> {
        let (mut secrets, mut missing) = (Vec::new(), Vec::new());
        for secret in pod.spec().image_pull_secrets.iter().flatten() {
            match self.objects.data(Kind::Secret, pod.namespace(), &secret.name).await {
                Ok(Some(data)) => secrets.push(data),
                _ => missing.push(secret.name.as_str()),
            }
        }
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.events.warning(pod, "FailedToRetrieveImagePullSecret", message);
        }
        credentials::matching(&secrets, image)
    }

    async fn container_config(
        &self,
        start: &Start<'_>,
        spec: &Container,
        attempt: u32,
        images: &HashMap<String, String>,
        target: Option<String>,
    ) -> Result<wire::ContainerConfig, String> {
        let pod = start.pod;
        let addresses = start.runtime.addresses();
        let environment = environment(spec, &self.context(pod, &addresses)).await.map_err(|error| error.to_string())?;
        let directory = self.pod_directory(pod.uid());
        let hosts_file = self.hosts_file(pod, &addresses).map_err(|error| error.to_string())?;
        let inputs = container::Inputs {
            attempt,
            environment,
            volumes: &start.mounted.places,
            images,
            target,
            profiles: &self.directory.join("seccomp"),
            directory: &directory,
            hosts_file: Some(hosts_file),
            node_memory: self.allocatable.memory,
        };
        let config = container::config(pod, spec, &inputs).map_err(|error| error.to_string())?;
        self.check_non_root(pod, spec).await?;
        Ok(config)
    }

    /// `runAsNonRoot` is checked against the number that the container will have.
    async fn check_non_root(&self, pod: &Pod, spec: &Container) -> Result<(), String> {
        let of_pod = pod.spec().security_context.as_ref();
        let own = spec.security_context.as_ref();
        let wanted = own.and_then(|own| own.run_as_non_root).or(of_pod.and_then(|context| context.run_as_non_root));
        if wanted != Some(true) {
            return Ok(());
        }
        let user = own.and_then(|own| own.run_as_user).or(of_pod.and_then(|context| context.run_as_user));
        if let Some(user) = user {
            return if user == 0 { Err("container's runAsUser breaks non-root policy".to_owned()) } else { Ok(()) };
        }
        let image = self
            .cri
            .image_status(spec.image.as_deref().unwrap_or_default())
            .await
            .map_err(|error| error.to_string())?;
        let image = image.unwrap_or_default();
        match (image.uid.map(|uid| uid.value), image.username.is_empty()) {
            (Some(0), _) | (None, true) => Err("container has runAsNonRoot and image will run as root".to_owned()),
            (None, false) => Err(format!(
                "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
                image.username
            )),
            (Some(_), _) => Ok(()),
        }
    }

    /// One file for all containers of the pod, as they share their network.
    fn hosts_file(&self, pod: &Pod, addresses: &[String]) -> std::io::Result<PathBuf> {
        let path = self.pod_directory(pod.uid()).join("etc-hosts");
        let text = if pod.uses_host_network() {
            let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            format!("# Kubernetes-managed hosts file (host network).\n{host}{}", dns::aliases(pod))
        } else {
            dns::hosts(pod, &self.cluster_dns, addresses)
        };
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// What the API knows of restarts, where the runtime has forgotten the container.
    fn known_restarts(&self, pod: &Pod, name: &str) -> Option<i32> {
        let status = pod.status.as_ref()?;
        let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
        let known = lists.into_iter().flatten().flatten().find(|status| status.name == name)?;
        known.container_id.as_ref().map(|_| known.restart_count + 1)
    }

    fn back_off(&self, pod: &Pod, spec: &Container, runtime: &PodRuntime) -> Result<(), NoImage> {
        let Some(ended) = runtime
            .container(&spec.name)
            .filter(|container| !container.is_running() && container.status.finished_at > 0)
        else {
            return Ok(());
        };
        let since = SystemTime::UNIX_EPOCH + Duration::from_nanos(ended.status.finished_at as u64);
        let now = self.clock.now();
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (pod.uid().into(), spec.name.as_str().into());
        let entry = backoffs.get(&key).copied();
        let fresh = entry.filter(|(_, updated)| {
            since.duration_since(*updated).is_ok_and(|age| age <= LONGEST * 2) || since < *updated
        });
        if let Some((delay, _)) = fresh {
            let rest = delay.saturating_sub(now.duration_since(since).unwrap_or_default());
            if !rest.is_zero() {
                let delay = go_duration(delay);
                let message = format!(
                    "back-off {delay} restarting failed container={} pod={}_{}({})",
                    spec.name,
                    pod.name(),
                    pod.namespace(),
                    pod.uid()
                );
                self.events.warning_of(
                    pod,
                    &spec.name,
                    "BackOff",
                    format!(
                        "Back-off restarting failed container {} in pod {}_{}({})",
                        spec.name,
                        pod.name(),
                        pod.namespace(),
                        pod.uid()
                    ),
                );
                return Err(NoImage { reason: "CrashLoopBackOff", message, retry: Some(rest) });
            }
        }
        let next = fresh.map_or(FIRST, |(delay, _)| (delay * 2).min(LONGEST));
        backoffs.insert(key, (next, now));
        Ok(())
    }

    /// Of each container the newest that has ended is kept beside the one that runs.
    async fn prune(&self, runtime: &PodRuntime, name: &str) {
        for old in runtime.containers.iter().filter(|container| container.name == name).skip(1) {
            if !old.is_running() && self.cri.remove_container(&old.status.id).await.is_ok() {
                let _ = std::fs::remove_file(&old.status.log_path);
            }
        }
    }

    fn report_image(&self, pod: &Pod, name: &str, image: &str, missing: &NoImage) {
        match missing.reason {
            "ImagePullBackOff" => {
                self.events.normal(pod, Some(name), "BackOff", format!("Back-off pulling image {image:?}"));
                self.events.warning_of(pod, name, "Failed", "Error: ImagePullBackOff".to_owned());
            }
            "InvalidImageName" | "ImageInspectError" => {
                self.events.warning_of(pod, name, "InspectFailed", missing.message.clone());
            }
            "ErrImagePull" | "RegistryUnavailable" | "SignatureValidationFailed" => {
                self.events.warning_of(
                    pod,
                    name,
                    "Failed",
                    format!("Failed to pull image {image:?}: {}", missing.message),
                );
                self.events.warning_of(pod, name, "Failed", format!("Error: {}", missing.reason));
            }
            reason => self.events.warning_of(pod, name, reason, missing.message.clone()),
        }
    }
}

/// Whole seconds as Go prints them: `10s`, `2m40s`.
fn go_duration(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
