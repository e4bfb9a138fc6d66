//! A Kubernetes object at rest: encoded bytes with the few facts that lists and watches select on.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::Status;
use crate::resource::Resource;

pub mod forms;

use forms::{Form, Forms, Made};

/// An immutable, shared object. Cloning is a reference count.
///
/// The bytes are JSON in the storage version with `metadata.resourceVersion` in place. What else it is asked for (protobuf, another
/// served version) is made once and kept in its slot, see `form`; ask for typed or untyped trees with `decode`, and keep
/// those only for the moment of use.
#[derive(Clone)]
pub struct Object {
    inner: Arc<Inner>,
}

struct Inner {
    resource: Resource,
    revision: u64,
    json: Bytes,
    meta: Meta,
    forms: Forms,
}

/// Facts cut out of the object, so that selecting never decodes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// `""` for cluster-scoped objects.
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    /// Sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of `Resource::selectable`, in that order.
    pub fields: Box<[Box<str>]>,
}

/// A wire form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Object {
    /// Wraps bytes that already carry `revision`; `meta` must have been cut from the same object.
    pub fn new(resource: Resource, revision: u64, json: Bytes, meta: Meta) -> Self {
        Self { inner: Arc::new(Inner { resource, revision, json, meta, forms: Forms::default() }) }
    }

    pub fn resource(&self) -> &Resource {
        &self.inner.resource
    }

    /// `metadata.resourceVersion` as a number; comparable within one resource.
    pub fn revision(&self) -> u64 {
        self.inner.revision
    }

    pub fn meta(&self) -> &Meta {
        &self.inner.meta
    }

    /// The storage-version JSON.
    pub fn json(&self) -> &Bytes {
        &self.inner.json
    }

    /// Another form of the object, made by `make` where it is not in the slot.
    pub fn form(&self, form: Form, make: impl FnOnce() -> Result<Made, Status>) -> Result<Bytes, Status> {
        if let Some(bytes) = self.inner.forms.find(&form) {
            return Ok(bytes);
        }
        let made = make()?;
        let bytes = made.bytes.clone();
        forms::keep(&self.inner, form, made);
        Ok(bytes)
    }

    /// Decodes into a typed object or a borrowed partial struct's owned form.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Status> {
        serde_json::from_slice(&self.inner.json).map_err(|error| {
            Status::internal(format_args!("stored {:?} {}: {error}", self.inner.resource, self.inner.meta.name))
        })
    }
}
