//! What a request to the node server is about, and the sandbox or container that it means.

use http::StatusCode;

use super::Failure;
use crate::cri::Cri;
use crate::proto::cri as wire;

/// The labels by which every Kubernetes node marks what it asks of the runtime. Upstream: k8s.io/kubelet pkg/types/labels.go.
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD: &str = "io.kubernetes.pod.name";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER: &str = "io.kubernetes.container.name";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Logs,
    Exec,
    Attach,
    PortForward,
}

/// `/exec/NAMESPACE/POD/CONTAINER`, `/exec/NAMESPACE/POD/UID/CONTAINER`, `/portForward/NAMESPACE/POD`, ...
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) asked: Asked,
    pub(super) namespace: String,
    pub(super) pod: String,
    uid: Option<String>,
    /// Empty for port-forward.
    pub(super) container: String,
}

impl Target {
    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (asked, rest) = match parts.split_first()? {
            (&"containerLogs", rest) => (Asked::Logs, rest),
            (&"exec", rest) => (Asked::Exec, rest),
            (&"attach", rest) => (Asked::Attach, rest),
            (&"portForward", rest) => (Asked::PortForward, rest),
            _ => return None,
        };
        let (namespace, pod, uid, container) = match (asked, rest) {
            (Asked::PortForward, [namespace, pod]) => (namespace, pod, None, ""),
            (Asked::PortForward, [namespace, pod, uid]) => (namespace, pod, Some(uid), ""),
            (Asked::PortForward, _) => return None,
            (_, [namespace, pod, container]) => (namespace, pod, None, *container),
            (Asked::Exec | Asked::Attach, [namespace, pod, uid, container]) => (namespace, pod, Some(uid), *container),
            _ => return None,
        };
        let uid = uid.map(|uid| (*uid).to_owned());
        Some(Self {
            asked,
            namespace: (*namespace).to_owned(),
            pod: (*pod).to_owned(),
            uid,
            container: container.to_owned(),
        })
    }

    fn labels(&self) -> Vec<(&str, &str)> {
        let mut labels = vec![(NAMESPACE, self.namespace.as_str()), (POD, self.pod.as_str())];
        labels.extend(self.uid.as_deref().map(|uid| (POD_UID, uid)));
        labels
    }

    fn not_found(&self) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, format!("pod {:?} not found in namespace {:?}", self.pod, self.namespace))
    }

    /// The pod's newest sandbox that is ready.
    pub(super) async fn sandbox(&self, cri: &Cri) -> Result<String, Failure> {
        let sandboxes = cri.pod_sandboxes(&self.labels()).await?;
        let ready = sandboxes.into_iter().filter(|sandbox| sandbox.state() == wire::PodSandboxState::SandboxReady);
        let newest = ready.max_by_key(|sandbox| sandbox.created_at).ok_or_else(|| self.not_found())?;
        Ok(newest.id)
    }

    /// The container's runs, newest first; of the newest pod of that name only.
    pub(super) async fn runs(&self, cri: &Cri) -> Result<Vec<wire::Container>, Failure> {
        let mut labels = self.labels();
        labels.push((CONTAINER, &self.container));
        let mut runs = cri.containers(&labels).await?;
        runs.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        let uid = runs.first().and_then(|newest| newest.labels.get(POD_UID)).cloned();
        runs.retain(|container| container.labels.get(POD_UID) == uid.as_ref());
        Ok(runs)
    }

    pub(super) async fn running_container(&self, cri: &Cri) -> Result<String, Failure> {
        let runs = self.runs(cri).await?;
        let running = runs.into_iter().find(|run| run.state() == wire::ContainerState::ContainerRunning);
        running.map(|run| run.id).ok_or_else(|| {
            let message = format!("container not found ({:?})", self.container);
            Failure::new(StatusCode::NOT_FOUND, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_asked() {
        let target = Target::parse("/exec/ns/p/c").expect("it is known");
        assert_eq!((target.asked, target.namespace.as_str(), target.container.as_str()), (Asked::Exec, "ns", "c"));
        assert_eq!(Target::parse("/attach/ns/p/u-i-d/c").expect("it is known").uid.as_deref(), Some("u-i-d"));
        assert!(Target::parse("/portForward/ns/p").is_some());
        for unknown in
            ["/", "/exec/ns/p", "/portForward/ns", "/containerLogs/ns/p/u/c", "/etc/passwd", "/exec/../../x/y/z/w"]
        {
            assert!(Target::parse(unknown).is_none(), "{unknown}");
        }
    }
}
