//! The order of every create, update and delete, whichever verb or subresource it comes from.
//!
//! Upstream: k8s.io/apiserver pkg/registry/generic/registry/store.go.

use coracle_api::node::Node;
use coracle_api::{Causes, Object, Resource, Status, warnings};
use coracle_store::{Expect, TxnError, Write};
use serde_json::Value;

use super::strategy::{self, Strategy};
use super::{Registry, entry, metadata, ownership, partition, put, remove, store_failure, tree};
use crate::admission::{self, Admission, Operation};

pub mod delete;

/// How often a write is tried again when another came first, or a generated name was taken.
const ATTEMPTS: usize = 16;
const NAME_ATTEMPTS: usize = 8;

/// What a write needs beside the object.
pub struct Writer<'a> {
    pub registry: &'a Registry,
    pub admission: &'a Admission,
    pub facts: admission::Facts,
    /// Everything is done but the commit.
    pub dry_run: bool,
    /// Server-side apply: the change has recorded its manager itself.
    pub applies: bool,
    /// For the client beside the answer.
    pub warnings: Vec<String>,
}

/// What an update is about.
pub struct Edit<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// `""` for the object itself.
    pub subresource: &'a str,
    /// Whether an absent object is created.
    pub create: bool,
    /// Whether the new tree's resourceVersion is the client's own: then an older one is a conflict, and its absence is
    /// judged by the strategy. Patches without one are tried again on the newer object.
    pub whole: bool,
}

/// Computes the new object from the current one (`None` when it is absent).
pub type Change<'a> = dyn FnMut(Option<&Value>) -> Result<Value, Status> + Send + 'a;

/// What an update came to.
pub enum Updated {
    Created(Object),
    Changed(Object),
    /// The last finalizer went, and the object with it.
    Removed(Object),
}

impl Updated {
    pub fn object(&self) -> &Object {
        match self {
            Updated::Created(object) | Updated::Changed(object) | Updated::Removed(object) => object,
        }
    }
}

impl Writer<'_> {
    /// Stores a new object: a decoded, defaulted tree of the stored version.
    pub async fn create(&mut self, resource: &Resource, namespace: &str, mut new: Value) -> Result<Object, Status> {
        metadata::set_namespace(resource, &mut new, namespace)?;
        self.dedup_owners(&mut new);
        let base = metadata::text(&new, "generateName").to_owned();
        let generated = metadata::text(&new, "name").is_empty() && !base.is_empty();
        let has_revision = !matches!(metadata::text(&new, "resourceVersion"), "" | "0");
        metadata::begin(&mut new);
        if generated {
            metadata::of(&mut new).insert("name".to_owned(), metadata::generate_name(&base).into());
        }
        if !self.applies {
            // What admission adds is nobody's own.
            ownership::track(resource, "", None, &mut new, &self.facts);
        }
        self.admit(Operation::Create, resource, "", &mut new, None).await?;
        strategy::prepare_create(resource, &mut new);
        let beside = Strategy::of(resource).beside;
        let mut pristine = Strategy::of(resource).allocates.then(|| new.clone());
        let mut others = beside(self.registry, None, Some(&mut new))?;
        self.check(Operation::Create, resource, "", &new, None)?;
        self.warnings.extend(warnings::of(resource, Node::root(&new), Node::nothing()));
        if has_revision {
            return Err(Status::plain(500, "", "resourceVersion should not be set on objects to be created"));
        }
        for attempt in 0..ATTEMPTS {
            let name = metadata::text(&new, "name").to_owned();
            let mut taken = true;
            if self.registry.get(resource, namespace, &name).await?.is_none() {
                if self.dry_run {
                    admission::quota::charge(self.registry, resource, &new, None)?;
                    return Ok(preview(resource, &new));
                }
                let mut ops = std::mem::take(&mut others);
                ops.insert(0, put(resource, &new, Expect::Absent));
                ops.extend(admission::quota::charge(self.registry, resource, &new, None)?);
                match self.registry.commit(ops).await {
                    Ok(committed) => return Ok(first(committed.entries)),
                    // An address that another Service got first; the next attempt takes another one.
                    Err(TxnError::Conflict { op, .. }) if op > 0 => taken = false,
                    Err(TxnError::Conflict { .. }) => {}
                    Err(error) => return Err(store_failure(resource, &error)),
                }
            }
            if taken && base.is_empty() {
                return Err(Status::already_exists(resource, &name));
            }
            if taken && (!generated || attempt + 1 >= NAME_ATTEMPTS) {
                return Err(Status::generate_name_conflict(resource, &name, 1));
            }
            if let Some(pristine) = &pristine {
                new = pristine.clone();
            }
            if taken {
                metadata::of(&mut new).insert("name".to_owned(), metadata::generate_name(&base).into());
                if &*resource.plural == "namespaces" {
                    strategy::prepare_create(resource, &mut new);
                }
                pristine = pristine.map(|_| new.clone());
            }
            others = beside(self.registry, None, Some(&mut new))?;
        }
        Err(Status::server_timeout(resource, "create", 1))
    }

    /// Changes an object; computes the change again when another write came first.
    pub async fn update(
        &mut self,
        resource: &Resource,
        edit: &Edit<'_>,
        change: &mut Change<'_>,
    ) -> Result<Updated, Status> {
        for _ in 0..ATTEMPTS {
            let Some(current) = self.registry.get(resource, edit.namespace, edit.name).await? else {
                if !edit.create {
                    return Err(Status::not_found(resource, edit.name));
                }
                let mut new = change(None)?;
                let uid = metadata::text(&new, "uid");
                if !uid.is_empty() {
                    return Err(match self.applies {
                        true => Status::conflict(
                            resource,
                            edit.name,
                            format!(
                                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                            ),
                        ),
                        false => metadata::other_uid(resource, edit.namespace, edit.name, uid, ""),
                    });
                }
                metadata::of(&mut new).remove("resourceVersion");
                match self.create(resource, edit.namespace, new).await {
                    Err(error) if error.is_already_exists() => continue,
                    created => return created.map(Updated::Created),
                }
            };
            let old = tree(&current)?;
            let mut new = change(Some(&old))?;
            check_revision(resource, edit, &new, &current)?;
            metadata::set_namespace(resource, &mut new, edit.namespace)?;
            check_name(edit, &new)?;
            self.dedup_owners(&mut new);
            metadata::carry(resource, &mut new, &old)?;
            // A binding is written past the pod's strategy, and recorded as nobody's.
            if !self.applies && edit.subresource != "binding" {
                ownership::track(resource, edit.subresource, Some(&old), &mut new, &self.facts);
            }
            self.admit(Operation::Update, resource, edit.subresource, &mut new, Some(&old)).await?;
            strategy::prepare_update(resource, &mut new, &old, edit.subresource);
            metadata::check_finalizers(resource, &new, &old)?;
            let mut ops = (Strategy::of(resource).beside)(self.registry, Some(&old), Some(&mut new))?;
            self.check(Operation::Update, resource, edit.subresource, &new, Some(&old))?;
            if edit.subresource.is_empty() {
                for warning in warnings::of(resource, Node::root(&new), Node::root(&old)) {
                    if !self.warnings.contains(&warning) {
                        self.warnings.push(warning);
                    }
                }
            }
            metadata::of(&mut new).insert("resourceVersion".to_owned(), current.revision().to_string().into());
            let ends = is_finished(&new) && metadata::is_deleting(&old);
            if !ends && new == old {
                return Ok(Updated::Changed(current));
            }
            let charged = match edit.subresource {
                "" | "resize" if !ends => admission::quota::charge(self.registry, resource, &new, Some(&old))?,
                _ => Vec::new(),
            };
            if self.dry_run {
                return Ok(Updated::Changed(preview(resource, &new)));
            }
            let expect = Expect::Revision(current.revision());
            if ends {
                ops = (Strategy::of(resource).beside)(self.registry, Some(&old), None)?;
                ops.insert(0, remove(&current));
            } else {
                let mut op = put(resource, &new, expect);
                if let Write::Put { renewal, .. } = &mut op.write {
                    *renewal = (Strategy::of(resource).is_renewal)(&old, &new);
                }
                ops.insert(0, op);
                ops.extend(charged);
            }
            match self.registry.commit(ops).await {
                Ok(_) if ends => return Ok(Updated::Removed(preview(resource, &new))),
                Ok(committed) => return Ok(Updated::Changed(first(committed.entries))),
                Err(TxnError::Conflict { .. }) => continue,
                Err(error) => return Err(store_failure(resource, &error)),
            }
        }
        Err(Status::modified(resource, edit.name))
    }

    fn dedup_owners(&mut self, new: &mut Value) {
        let doubled = metadata::dedup_owners(new);
        if !doubled.is_empty() {
            self.warnings.push(format!(
                ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may \
                 reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
                doubled.join(", ")
            ));
        }
    }

    async fn admit(
        &mut self,
        operation: Operation,
        resource: &Resource,
        subresource: &str,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let request =
            admission::Request { operation, resource, subresource, facts: &self.facts, dry_run: self.dry_run };
        self.admission.mutate(self.registry, &request, new, old, &mut self.warnings).await
    }

    /// Validation, then validating admission.
    fn check(
        &mut self,
        operation: Operation,
        resource: &Resource,
        subresource: &str,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        super::validate::check(resource, subresource, new, old)?;
        let request =
            admission::Request { operation, resource, subresource, facts: &self.facts, dry_run: self.dry_run };
        self.admission.validate(self.registry, &request, new, old)
    }
}

/// The first operation's object: it was put, so it is there.
fn first(entries: Vec<Option<super::Stored>>) -> Object {
    entries.into_iter().next().flatten().expect("the first operation of a write puts the object").0
}

/// The object as it would be stored, without a revision of its own.
pub fn preview(resource: &Resource, new: &Value) -> Object {
    let stored = partition::stored(resource);
    let revision = metadata::text(new, "resourceVersion").parse().unwrap_or(0);
    let frame = entry::frame(&stored, new);
    let json = if revision == 0 { frame.bytes } else { frame.spliced(revision) };
    let meta = entry::cut(&stored, new);
    Object::new(stored, revision, json, meta)
}

/// Whether nothing holds an object any more that is being deleted.
fn is_finished(tree: &Value) -> bool {
    let held =
        tree["kind"] == "Namespace" && tree["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    metadata::is_deleting(tree) && metadata::finalizers(tree).is_empty() && metadata::grace(tree) == 0 && !held
}

fn check_name(edit: &Edit<'_>, new: &Value) -> Result<(), Status> {
    let given = metadata::text(new, "name");
    if given == edit.name {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({})",
        edit.name
    )))
}

/// 409 when the client's resourceVersion is not the current one; 422 where it must give one.
fn check_revision(resource: &Resource, edit: &Edit<'_>, new: &Value, current: &Object) -> Result<(), Status> {
    let given = metadata::text(new, "resourceVersion");
    if given.is_empty() || given == "0" {
        if edit.whole && !Strategy::of(resource).unconditional_update {
            let mut causes = Causes::new();
            causes.invalid("metadata.resourceVersion", 0, "must be specified for an update");
            return Err(Status::invalid(resource, edit.name, &causes));
        }
        return Ok(());
    }
    match given.parse::<u64>() {
        Ok(revision) if revision == current.revision() => Ok(()),
        Ok(_) => Err(Status::modified(resource, edit.name)),
        Err(_) => Err(Status::plain(500, "", format!("strconv.ParseUint: parsing {given:?}: invalid syntax"))),
    }
}
