//! What the node has to say about its pods and itself.

use coracle_client::events::{Recorder, Report, Severity, Subject};
use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;

/// Cloning is a reference count.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    pub fn new(recorder: Recorder) -> Self {
        Self { recorder }
    }

    pub fn normal(&self, pod: &Pod, container: Option<&str>, reason: &'static str, message: String) {
        self.report(pod, container, Severity::Normal, reason, message);
    }

    pub fn warning(&self, pod: &Pod, reason: &'static str, message: String) {
        self.report(pod, None, Severity::Warning, reason, message);
    }

    pub fn warning_of(&self, pod: &Pod, container: &str, reason: &'static str, message: String) {
        self.report(pod, Some(container), Severity::Warning, reason, message);
    }

    fn report(&self, pod: &Pod, container: Option<&str>, severity: Severity, reason: &'static str, message: String) {
        let list = |name: &str| {
            if pod.init_containers().iter().any(|container| container.name == name) {
                "initContainers"
            } else if pod.ephemeral_containers().iter().any(|container| container.name == name) {
                "ephemeralContainers"
            } else {
                "containers"
            }
        };
        let subject = Subject {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            resource_version: pod.metadata.resource_version.clone().unwrap_or_default(),
            field_path: container.map(|name| format!("spec.{}{{{name}}}", list(name))).unwrap_or_default(),
        };
        self.recorder.report(Report { subject, severity, reason, action: "", message });
    }
}
