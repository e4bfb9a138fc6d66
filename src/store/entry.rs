//! What the store holds: a frame of bytes on disk, and in memory the entry that its user makes of it.

use std::sync::Arc;

use bytes::Bytes;

/// Where an object lives: `partition` is its resource (`apps/deployments`), `name` is `namespace/name` or `name`.
/// Partitions are watched, ordered and expired apart from each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub partition: Arc<str>,
    pub name: Arc<str>,
}

/// An object as it is stored: bytes without their revision, and where the revision is spliced in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub bytes: Bytes,
    /// Offset in `bytes` at which the text `"resourceVersion":"N",` belongs.
    pub splice: u32,
    /// The schema generation of the coracle that wrote it.
    pub writer: u32,
}

/// What the user of the store keeps in memory for a frame. Made by the writer thread, so it must be cheap:
/// whatever can be computed before the revision is known belongs into the draft.
pub trait Entry: Clone + Send + Sync + 'static {
    /// Computed by the caller of `commit` beside the frame (cut labels, indexed fields).
    type Draft: Send + 'static;

    /// What the first watcher of a commit makes of its changes for all others (encoded events).
    type Rendering: Default + Send + 'static;

    /// The entry of a frame that was just given `revision`.
    fn commit(key: &Key, frame: &Frame, draft: Self::Draft, revision: u64) -> Self;

    /// The entry of a frame read from disk at start; an error says what is wrong with it.
    fn load(key: &Key, frame: Frame, revision: u64) -> Result<Self, String>;

    /// The revision it was made with.
    fn revision(&self) -> u64;

    /// Bytes that the entry holds, for the budgets of watch history.
    fn size(&self) -> usize;

    /// A value by which many watchers select (a pod's node), so that a change wakes only theirs; see `Scope::Index`.
    fn index(&self) -> Option<&str> {
        None
    }
}

impl Frame {
    /// The bytes with `revision` in place.
    pub fn spliced(&self, revision: u64) -> Bytes {
        let splice = self.splice as usize;
        let comma = if self.bytes.get(splice) == Some(&b'}') { "" } else { "," };
        let text = format!("\"resourceVersion\":\"{revision}\"{comma}");
        let mut bytes = Vec::with_capacity(self.bytes.len() + text.len());
        bytes.extend_from_slice(&self.bytes[..splice]);
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&self.bytes[splice..]);
        Bytes::from(bytes)
    }
}
