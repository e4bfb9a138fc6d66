//! What containers do, as it happens: CRI events where the runtime has them, else containerd's own stream.

use std::path::Path;

use futures::stream::{BoxStream, StreamExt};
use prost::Message;

use super::content::request;
use crate::cri::{Cri, RuntimeError, channel};
use crate::proto::containerd::services::events::v1 as wire;
use crate::proto::cri::{ContainerEventType, GetEventsRequest};

/// A change in the life of a container or of a sandbox, by its ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    pub id: String,
    pub kind: ContainerEventKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerEventKind {
    Started,
    /// Its first process has ended. On containerd's own stream the CRI may not know it yet.
    Stopped,
    OutOfMemory,
}

/// The runtime's events from now on; the stream ends when the runtime does.
pub async fn subscribe(cri: &Cri, socket: &Path) -> Result<BoxStream<'static, ContainerEvent>, RuntimeError> {
    match cri.runtime().get_container_events(GetEventsRequest {}).await {
        Ok(answer) => {
            let events = answer.into_inner().filter_map(|event| async {
                let event = event.ok()?;
                let kind = match event.container_event_type() {
                    ContainerEventType::ContainerStartedEvent => ContainerEventKind::Started,
                    ContainerEventType::ContainerStoppedEvent => ContainerEventKind::Stopped,
                    ContainerEventType::ContainerCreatedEvent | ContainerEventType::ContainerDeletedEvent => {
                        return None;
                    }
                };
                Some(ContainerEvent { id: event.container_id, kind })
            });
            Ok(events.boxed())
        }
        Err(status) if status.code() == tonic::Code::Unimplemented => tasks(socket).await,
        Err(status) => Err(RuntimeError::Refused { call: "get_container_events", status }),
    }
}

async fn tasks(socket: &Path) -> Result<BoxStream<'static, ContainerEvent>, RuntimeError> {
    let filters =
        ["/tasks/exit", "/tasks/start", "/tasks/oom"].map(|topic| format!("namespace==k8s.io,topic==\"{topic}\""));
    let subscribe = request(wire::SubscribeRequest { filters: filters.to_vec() }, None);
    let mut client = wire::events_client::EventsClient::new(channel(socket));
    let answer = client.subscribe(subscribe).await;
    let stream = answer.map_err(|status| RuntimeError::Refused { call: "events.subscribe", status })?.into_inner();
    Ok(stream.filter_map(|envelope| async { decode(&envelope.ok()?) }).boxed())
}

fn decode(envelope: &wire::Envelope) -> Option<ContainerEvent> {
    let body = envelope.event.as_ref()?.value.as_slice();
    let (id, kind) = match envelope.topic.as_str() {
        "/tasks/exit" => {
            let exit = wire::TaskExit::decode(body).ok()?;
            // An exec's end is nobody's end.
            (exit.container_id == exit.id).then_some((exit.container_id, ContainerEventKind::Stopped))?
        }
        "/tasks/start" => (wire::TaskEvent::decode(body).ok()?.container_id, ContainerEventKind::Started),
        "/tasks/oom" => (wire::TaskEvent::decode(body).ok()?.container_id, ContainerEventKind::OutOfMemory),
        _ => return None,
    };
    Some(ContainerEvent { id, kind })
}
