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

pub enum Found {
    Present,
    Pulled(Duration),
}

/// By pod UID and image: how often in a row, and until when nothing is tried.
type Failures = HashMap<(Box<str>, Box<str>), (u32, Instant)>;

/// Back-off for each image and pod. Cloning is a reference count.
#[derive(Clone, Default)]
pub struct Puller {
    failures: Arc<Mutex<Failures>>,
}

const PULL: Shape = Shape::doubling(Duration::from_secs(10), Duration::from_secs(300));

impl Puller {
    /// `begin` is called where a pull starts. The runtime's own time limit for progress ends a pull that hangs.
    pub async fn ensure(
        &self,
        cri: &Cri,
        pod_uid: &str,
        image: &str,
        policy: Option<&str>,
        sandbox: Option<wire::PodSandboxConfig>,
        begin: impl FnOnce(),
    ) -> Result<Found, NoImage> {
        let failed = |reason, message: String| NoImage { reason, message, retry: None };
        let present = cri.image_status(image).await.map_err(|error| inspect(image, &error))?.is_some();
        let policy = policy.unwrap_or(if is_latest(image) { "Always" } else { "IfNotPresent" });
        match (policy, present) {
            ("Never" | "IfNotPresent", true) => return Ok(Found::Present),
            ("Never", false) => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                return Err(failed("ErrImageNeverPull", message));
            }
            _ => {}
        }
        let key = (Box::from(pod_uid), Box::from(image));
        let now = Instant::now();
        let waiting = self.lock().get(&key).map(|(_, until)| until.saturating_duration_since(now));
        if let Some(rest) = waiting.filter(|rest| !rest.is_zero()) {
            let message = format!("Back-off pulling image {image:?}");
            return Err(NoImage { reason: "ImagePullBackOff", message, retry: Some(rest) });
        }
        begin();
        match cri.pull_image(image, None, sandbox).await {
            Ok(_) => {
                self.lock().remove(&key);
                Ok(Found::Pulled(now.elapsed()))
            }
            Err(error) => {
                let mut failures = self.lock();
                let entry = failures.entry(key).or_insert((0, now));
                let delay = PULL.delay(entry.0);
                *entry = (entry.0 + 1, Instant::now() + delay);
                let message = match &error {
                    RuntimeError::Refused { status, .. } => status.message().to_owned(),
                    other => other.to_string(),
                };
                // The next look, moments later, shows the back-off.
                Err(NoImage { reason: "ErrImagePull", message, retry: Some(Duration::from_secs(1)) })
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
