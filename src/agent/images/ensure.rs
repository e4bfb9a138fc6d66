//! Makes sure that a container's image is on the node, as its pull policy says
//! (upstream: pkg/kubelet/images/image_manager.go).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_base::backoff::Shape;
use tokio::time::Instant;

use crate::cri::{Cri, RuntimeError};
use crate::proto::cri as wire;

/// Why there is no image; the reason of the container's waiting state and what there is to say.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NoImage {
    pub reason: &'static str,
    pub message: String,
    /// When time alone will have changed that.
    pub retry: Option<Duration>,
}

/// The image is there, as the runtime refers to it.
pub struct Found {
    pub reference: String,
    /// How long the pull took, where there was one.
    pub pulled: Option<Duration>,
}

/// By pod UID and image.
type Failures = HashMap<(Box<str>, Box<str>), Failure>;

/// How often in a row a pull has failed, until when nothing is tried, and why.
struct Failure {
    count: u32,
    until: Instant,
    why: String,
}

/// An image that a container or a volume wants.
pub struct Wanted<'a> {
    pub pod_uid: &'a str,
    pub image: &'a str,
    /// `imagePullPolicy`
    pub policy: Option<&'a str>,
    /// Tried one after the other; none at all is a pull without.
    pub credentials: Vec<wire::AuthConfig>,
    pub sandbox: &'a wire::PodSandboxConfig,
}

/// Back-off for each image and pod. Cloning is a reference count.
#[derive(Clone, Default)]
pub struct Puller {
    failures: Arc<Mutex<Failures>>,
}

const PULL: Shape = Shape::doubling(Duration::from_secs(10), Duration::from_secs(300));

impl Puller {
    /// `begin` is called where a pull starts. The runtime's own time limit for progress ends a pull that hangs.
    pub async fn ensure(&self, cri: &Cri, wanted: Wanted<'_>, begin: impl FnOnce()) -> Result<Found, NoImage> {
        let image = wanted.image;
        let failed = |reason, message: String| NoImage { reason, message, retry: None };
        let present = cri.image_status(image).await.map_err(|error| inspect(image, &error))?;
        let policy = wanted.policy.unwrap_or(if is_latest(image) { "Always" } else { "IfNotPresent" });
        match (policy, present) {
            ("Never" | "IfNotPresent", Some(present)) => return Ok(Found { reference: present.id, pulled: None }),
            ("Never", None) => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                return Err(failed("ErrImageNeverPull", message));
            }
            _ => {}
        }
        let key = (Box::from(wanted.pod_uid), Box::from(image));
        let now = Instant::now();
        let waiting =
            self.lock().get(&key).map(|known| (known.until.saturating_duration_since(now), known.why.clone()));
        if let Some((rest, why)) = waiting.filter(|(rest, _)| !rest.is_zero()) {
            let message = format!("Back-off pulling image {image:?}: {why}");
            return Err(NoImage { reason: "ImagePullBackOff", message, retry: Some(rest) });
        }
        begin();
        match pull(cri, image, wanted.credentials, wanted.sandbox).await {
            Ok(reference) => {
                self.lock().remove(&key);
                Ok(Found { reference, pulled: Some(now.elapsed()) })
            }
            Err(message) => {
                let (reason, message) = reason(image, message);
                let mut failures = self.lock();
                let entry = failures.entry(key).or_insert(Failure { count: 0, until: now, why: String::new() });
                entry.until = Instant::now() + PULL.delay(entry.count);
                entry.count += 1;
                entry.why = format!("{reason}: {message}");
                // The next look, moments later, shows the back-off.
                Err(NoImage { reason, message, retry: Some(Duration::from_secs(1)) })
            }
        }
    }

    /// The pod is over.
    pub fn forget(&self, pod_uid: &str) {
        self.lock().retain(|(uid, _), _| **uid != *pod_uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reference of what was pulled, or what the runtime said to each attempt.
async fn pull(
    cri: &Cri,
    image: &str,
    credentials: Vec<wire::AuthConfig>,
    sandbox: &wire::PodSandboxConfig,
) -> Result<String, String> {
    let attempts: Vec<Option<wire::AuthConfig>> =
        if credentials.is_empty() { vec![None] } else { credentials.into_iter().map(Some).collect() };
    let mut errors = Vec::new();
    for auth in attempts {
        match cri.pull_image(image, auth, Some(sandbox.clone())).await {
            Ok(reference) => return Ok(reference),
            Err(RuntimeError::Refused { status, .. }) => errors.push(status.message().to_owned()),
            Err(other) => errors.push(other.to_string()),
        }
    }
    Err(if errors.len() == 1 { errors.remove(0) } else { format!("[{}]", errors.join(", ")) })
}

/// Runtimes begin a message with these words where they know more. Upstream: evalCRIPullErr.
fn reason(image: &str, message: String) -> (&'static str, String) {
    for (reason, what) in [
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ] {
        if let Some(rest) = message.strip_prefix(reason) {
            return (reason, format!("image pull failed for {image} because {what}{rest}"));
        }
    }
    ("ErrImagePull", message)
}

fn inspect(image: &str, error: &RuntimeError) -> NoImage {
    let invalid = matches!(error, RuntimeError::Refused { status, .. } if status.message().contains("parse"));
    let reason = if invalid { "InvalidImageName" } else { "ImageInspectError" };
    NoImage {
        reason,
        message: format!("Failed to inspect image {image:?}: {error}"),
        retry: Some(Duration::from_secs(10)),
    }
}

fn is_latest(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}
