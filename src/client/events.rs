//! The event recorder: what a component has to say about an object, correlated so that it cannot flood the API.
//!
//! Components that upstream moved to events.k8s.io (the scheduler) use `Recorder::series`, all others `Recorder::counted`.
//! Reporting never waits: when writing falls behind, reports are dropped.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coracle_base::clock::Clock;
use coracle_base::task::{self, Task};
use http::{Method, Request};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{Error, Key};

mod counted;
mod recent;
mod series;

/// The object that a report is about: core/v1 ObjectReference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    /// `spec.containers{nginx}`, where the report is about a part of the object.
    pub field_path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Report {
    pub subject: Subject,
    pub severity: Severity,
    /// UpperCamelCase, for machines.
    pub reason: &'static str,
    /// What was tried; only events.k8s.io carries it.
    pub action: &'static str,
    pub message: String,
}

/// Who reports: `deployment-controller`, and for the node's components the host.
#[derive(Clone, Debug, Default)]
pub struct Reporter {
    pub component: String,
    pub host: String,
}

/// What the correlators decide: create an event, or patch one that exists (and create it where it is gone).
#[derive(Debug, Clone, PartialEq)]
struct Write {
    namespace: String,
    name: String,
    create: Value,
    patch: Option<Value>,
}

/// Cloning is a reference count; the writer ends with the last clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<(Report, SystemTime)>,
    clock: Clock,
    _writer: Arc<Task<()>>,
}

/// Reports that may wait to be written, as upstream's broadcaster.
const WAITING: usize = 1000;
const TRIES: usize = 12;
const RETRY: Duration = Duration::from_secs(10);

impl Recorder {
    /// Writes core/v1 Events with counts, as client-go's tools/record.
    pub fn counted(client: kube::Client, reporter: Reporter, clock: Clock) -> Self {
        let mut correlator = counted::Correlator::new(reporter);
        Self::start(client, clock, "/api/v1", move |report, now| correlator.correlate(report, now))
    }

    /// Writes events.k8s.io/v1 Events with series, as client-go's tools/events.
    pub fn series(client: kube::Client, reporter: Reporter, clock: Clock) -> Self {
        let mut correlator = series::Correlator::new(reporter);
        Self::start(client, clock, "/apis/events.k8s.io/v1", move |report, now| correlator.correlate(report, now))
    }

    /// Reports and returns at once.
    pub fn report(&self, report: Report) {
        tracing::debug!(
            kind = report.subject.kind,
            ns = report.subject.namespace,
            name = report.subject.name,
            reason = report.reason,
            message = report.message,
            "event"
        );
        if self.sender.try_send((report, self.clock.now())).is_err() {
            tracing::debug!("event dropped: too many wait to be written");
        }
    }

    fn start(
        client: kube::Client,
        clock: Clock,
        root: &'static str,
        mut correlate: impl FnMut(Report, SystemTime) -> Option<Write> + Send + 'static,
    ) -> Self {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let writer = task::spawn("events", async move {
            while let Some((report, now)) = receiver.recv().await {
                if let Some(write) = correlate(report, now) {
                    deliver(&client, root, write).await;
                }
            }
        });
        Self { sender, clock, _writer: Arc::new(writer) }
    }
}

impl Subject {
    /// The reference to an object of a kind that is known by `key` and `uid`.
    pub fn new(api_version: &str, kind: &str, key: &Key, uid: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid: uid.to_owned(),
            ..Self::default()
        }
    }

    /// The namespace in which events about the subject live.
    fn event_namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }

    fn to_json(&self) -> Value {
        let mut reference = json!({"apiVersion": self.api_version, "kind": self.kind, "name": self.name});
        for (field, value) in [
            ("namespace", &self.namespace),
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
            ("fieldPath", &self.field_path),
        ] {
            if !value.is_empty() {
                reference[field] = Value::from(value.as_str());
            }
        }
        reference
    }
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

/// Tries while the server cannot be reached; what the server refuses is given up.
async fn deliver(client: &kube::Client, root: &str, write: Write) {
    for _ in 0..TRIES {
        match send(client, root, &write).await {
            Ok(()) => return,
            Err(error) if error.code().is_some_and(|code| code < 500 && code != 429) => {
                return tracing::debug!(event = write.name, error = error.chain(), "event refused");
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
    tracing::warn!(event = write.name, "event given up: the server does not answer");
}

async fn send(client: &kube::Client, root: &str, write: &Write) -> Result<(), Error> {
    let collection = format!("{root}/namespaces/{}/events", write.namespace);
    if let Some(patch) = &write.patch {
        let uri = format!("{collection}/{}", write.name);
        match ask(client, Method::PATCH, &uri, "application/strategic-merge-patch+json", patch).await {
            Err(error) if error.is_not_found() => {}
            result => return result,
        }
    }
    ask(client, Method::POST, &collection, "application/json", &write.create).await
}

async fn ask(client: &kube::Client, method: Method, uri: &str, content: &str, body: &Value) -> Result<(), Error> {
    let request = Request::builder().method(method).uri(uri).header("content-type", content);
    let request = request.body(serde_json::to_vec(body)?).map_err(kube::Error::HttpError)?;
    client.request::<serde::de::IgnoredAny>(request).await?;
    Ok(())
}

/// The name of a new event: `SUBJECT.NANOSECONDS` in hexadecimal.
fn event_name(subject: &Subject, now: SystemTime) -> String {
    let nanos = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{}.{nanos:x}", subject.name)
}
