//! Deletes: preconditions, grace, finalizers and what becomes of dependents.
//!
//! Upstream: k8s.io/apiserver pkg/registry/rest/delete.go and store.go's deletionFinalizersForGarbageCollection.

use coracle_api::{Causes, Object, Resource, Status};
use coracle_store::{Expect, TxnError};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ATTEMPTS, Writer, first, preview};
use crate::admission::Operation;
use crate::registry::strategy::{self, Strategy};
use crate::registry::{metadata, put, remove, store_failure, tree};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// metav1.DeleteOptions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Option<Preconditions>,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub dry_run: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// What a delete came to.
pub enum Deleted {
    Gone(Object),
    /// It lives on until its grace is over or its finalizers are gone.
    Marked(Object),
}

impl DeleteOptions {
    /// 422 for options that contradict each other or mean nothing.
    pub fn validate(&self) -> Result<(), Status> {
        let mut causes = Causes::new();
        if let (Some(_), Some(_)) = (self.orphan_dependents, &self.propagation_policy) {
            causes.invalid(
                "propagationPolicy",
                self.propagation_policy.clone().unwrap_or_default(),
                "orphanDependents and deletionPropagation cannot be both set",
            );
        }
        if let Some(policy) = &self.propagation_policy
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            causes.not_supported("propagationPolicy", policy.clone(), &["Foreground", "Background", "Orphan", "nil"]);
        }
        if self.dry_run.iter().any(|value| value != "All") {
            causes.not_supported("dryRun", json!(self.dry_run), &["All"]);
        }
        causes.into_result(("meta.k8s.io", "DeleteOptions"), "")
    }

    fn check(&self, resource: &Resource, object: &Object) -> Result<(), Status> {
        let Some(wanted) = &self.preconditions else { return Ok(()) };
        let (name, uid) = (&object.meta().name, &object.meta().uid);
        if let Some(wanted) = &wanted.uid
            && **wanted != **uid
        {
            let why = format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have \
                 been deleted and then recreated"
            );
            return Err(Status::conflict((&*resource.group, &*resource.kind), name, why));
        }
        if let Some(wanted) = &wanted.resource_version
            && *wanted != object.revision().to_string()
        {
            let why = format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({}). \
                 The object might have been modified",
                object.revision()
            );
            return Err(Status::conflict((&*resource.group, &*resource.kind), name, why));
        }
        Ok(())
    }

    /// The finalizers that carry out what shall become of dependents.
    fn finalizers(&self, resource: &Resource, old: &Value) -> Vec<String> {
        let known = metadata::finalizers(old);
        if &*resource.plural == "events" {
            return known.into_iter().map(str::to_owned).collect();
        }
        let policy = self.propagation_policy.as_deref();
        let decide = |wish: &str, finalizer: &str| match (policy, self.orphan_dependents) {
            (Some(policy), _) => policy == wish,
            (None, Some(orphan)) => orphan && finalizer == ORPHAN,
            (None, None) => known.contains(&finalizer),
        };
        let (orphan, foreground) = (decide("Orphan", ORPHAN), decide("Foreground", FOREGROUND));
        let others = known.iter().filter(|name| ![ORPHAN, FOREGROUND].contains(name)).map(|&name| name.to_owned());
        let own = [(orphan, ORPHAN), (foreground, FOREGROUND)];
        others.chain(own.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name.to_owned())).collect()
    }
}

/// The facts that decide whether an object can go at once, read without building its tree.
#[derive(Deserialize)]
struct Head {
    metadata: HeadMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMetadata {
    #[serde(default)]
    finalizers: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

impl Writer<'_> {
    pub async fn delete(
        &mut self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        options.validate()?;
        self.check_delete(resource, namespace, name)?;
        for _ in 0..ATTEMPTS {
            let current = self.registry.find(resource, namespace, name).await?;
            options.check(resource, &current)?;
            let old = if is_simple(resource, &current, options)? { None } else { Some(tree(&current)?) };
            let marked = old.as_ref().map(|old| mark(resource, &current, old, options));
            let (new, last) = match marked {
                Some(Mark::Already) => return Ok(Deleted::Marked(current)),
                Some(Mark::Changed(new)) => (Some(new), None),
                Some(Mark::Gone(last)) => (None, last),
                None => (None, None),
            };
            let gone = |current| Deleted::Gone(last.map_or(current, |last| preview(resource, &last)));
            if self.dry_run {
                return Ok(new.map_or_else(|| gone(current), |new| Deleted::Marked(preview(resource, &new))));
            }
            let ops = match &new {
                Some(new) => vec![put(resource, new, Expect::Revision(current.revision()))],
                None => {
                    let mut ops = (Strategy::of(resource).beside)(self.registry, old.as_ref(), None)?;
                    ops.insert(0, remove(&current));
                    ops
                }
            };
            match self.registry.commit(ops).await {
                Ok(committed) if new.is_some() => return Ok(Deleted::Marked(first(committed.entries))),
                Ok(_) => return Ok(gone(current)),
                Err(TxnError::Conflict { .. }) => continue,
                Err(error) => return Err(store_failure(resource, &error)),
            }
        }
        Err(Status::modified(resource, name))
    }

    fn check_delete(&mut self, resource: &Resource, namespace: &str, name: &str) -> Result<(), Status> {
        let facts = &self.facts;
        let operation = Operation::Delete;
        let request = crate::admission::Request { operation, resource, subresource: "", facts, dry_run: self.dry_run };
        self.admission.check_delete(self.registry, &request, namespace, name)
    }
}

/// Whether the object can go without looking at its tree.
fn is_simple(resource: &Resource, current: &Object, options: &DeleteOptions) -> Result<bool, Status> {
    if matches!((&*resource.group, &*resource.plural), ("", "pods" | "services" | "namespaces")) {
        return Ok(false);
    }
    let head: Head = current.decode()?;
    let keeps = options.orphan_dependents == Some(true)
        || matches!(options.propagation_policy.as_deref(), Some("Orphan" | "Foreground"));
    Ok(head.metadata.finalizers.is_empty() && head.metadata.deletion_timestamp.is_none() && !keeps)
}

enum Mark {
    /// Nothing holds it: it goes now. Pods, which have a grace period, are shown as marked for their end.
    Gone(Option<Value>),
    /// It is marked already, and this delete asks for nothing more.
    Already,
    Changed(Value),
}

/// Marks an object that cannot go at once; grace periods only shrink.
fn mark(resource: &Resource, current: &Object, old: &Value, options: &DeleteOptions) -> Mark {
    let finalizers = options.finalizers(resource, old);
    let is_namespace = &*resource.plural == "namespaces" && resource.group.is_empty();
    let holds_content = is_namespace && old["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let grace = strategy::grace(current, old, options.grace_period_seconds);
    let gone = grace == 0 && finalizers.is_empty() && !holds_content;
    let graceful = &*resource.plural == "pods" && resource.group.is_empty();
    if gone && !graceful {
        return Mark::Gone(None);
    }
    let mut new = old.clone();
    let metadata = metadata::of(&mut new);
    match finalizers.is_empty() {
        true => metadata.remove("finalizers"),
        false => metadata.insert("finalizers".to_owned(), json!(finalizers)),
    };
    let since = metadata::text(old, "deletionTimestamp").parse::<Timestamp>();
    let known = metadata::grace(old);
    match since {
        Ok(_) if grace >= known => {}
        Ok(end) => {
            let end = end - SignedDuration::from_secs(known) + SignedDuration::from_secs(grace);
            set_end(&mut new, end, grace);
        }
        Err(_) => {
            set_end(&mut new, Timestamp::now() + SignedDuration::from_secs(grace), grace);
            if is_namespace {
                metadata::of(&mut new).remove("deletionGracePeriodSeconds");
            }
            if Strategy::of(resource).generation {
                let next = metadata::generation(old) + 1;
                metadata::of(&mut new).insert("generation".to_owned(), json!(next));
            }
            if is_namespace {
                new["status"]["phase"] = json!("Terminating");
            }
        }
    }
    if gone {
        return Mark::Gone(Some(new));
    }
    if new == *old { Mark::Already } else { Mark::Changed(new) }
}

fn set_end(tree: &mut Value, end: Timestamp, grace: i64) {
    let metadata = metadata::of(tree);
    metadata.insert("deletionTimestamp".to_owned(), json!(super::super::metadata::time(end)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
}
