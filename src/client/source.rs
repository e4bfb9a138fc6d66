//! `ObjectSource`: list and watch as one stream, the same in process and over TLS.

use coracle_api::{Object, Resource, Status};
use futures::stream::BoxStream;

/// What a reader wants of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// All namespaces when `None`.
    pub namespace: Option<String>,
    /// As in `labelSelector`; empty selects all.
    pub labels: String,
    /// As in `fieldSelector`; empty selects all.
    pub fields: String,
}

/// One step of a list and the watch that follows it.
#[derive(Clone)]
pub enum ObjectEvent {
    /// A (new) list begins: what was known and does not come again before `Synced` is gone.
    Restarted,
    /// An object exists in this form; during a list or after a change.
    Applied(Object),
    /// An object is gone, or left the selection; its last known form.
    Deleted(Object),
    /// The list is complete at this revision; changes follow.
    Synced(u64),
}

/// Where objects come from: the API server in this process as the component's own user, or a remote one.
pub trait ObjectSource: Send + Sync + 'static {
    /// Lists, then watches without end. The source reconnects, resumes and relists by itself; an `Err` says why
    /// nothing comes at the moment (forbidden, unreachable) and the stream goes on after it. Dropping the stream ends the watch.
    fn list_watch(&self, resource: &Resource, selection: Selection) -> BoxStream<'static, Result<ObjectEvent, Status>>;
}
