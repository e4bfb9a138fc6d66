//! Who owns which fields of an object: server-side apply, and the record of every other write.
//!
//! Upstream: k8s.io/apimachinery pkg/util/managedfields and sigs.k8s.io/structured-merge-diff. Trees are those that Go
//! would hold (normalised), so that a field which Go writes even when it is empty counts as there.

mod apply;
mod entry;
mod typed;

use std::sync::LazyLock;

use serde_json::Value;

pub use apply::{apply, check_applied};
use entry::{Entry, Operation as Verb};
use typed::Comparison;

use crate::codec;
use crate::field_set::{Element, FieldSet};
use crate::schema::Type;

/// More `Update` entries than this are joined, the oldest first.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT_CHANGES: &str = "ancient-changes";

/// Fields that nobody owns.
static STRIPPED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// Who writes, and when.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    /// See `manager_name`; empty counts as `unknown`.
    pub manager: &'a str,
    /// Of the request: `apps/v1`.
    pub api_version: &'a str,
    /// `""`, `status`, `scale`, ...
    pub subresource: &'a str,
    /// RFC 3339, whole seconds, UTC; with `""` an update's entry keeps the time that it had, or has none.
    pub time: &'a str,
    /// Paths that this kind of request cannot set, with all below them (the strategy's reset fields).
    pub reset: &'a FieldSet,
    /// The version that conflicts name: that of a Scale, whose field is recorded as the workload's.
    pub shown_version: Option<&'a str>,
}

/// The manager of a request: the `fieldManager` parameter, else what stands before the first `/` of the user agent.
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let mut name = String::new();
    for character in user_agent.split('/').next().unwrap_or_default().chars() {
        if name.len() + character.len_utf8() > 128 {
            break;
        }
        if !character.is_control() {
            name.push(character);
        }
    }
    name
}

/// Records in `new.metadata.managedFields` what a create, update or patch changed. `live` is `None` on create.
///
/// An object without any entry that was not just created stays without, as upstream does.
pub fn track_update(ty: Type<'_>, live: Option<&Value>, new: &mut Value, operation: &Operation<'_>) {
    let sent = take_managed_fields(new);
    let mut entries = entries_to_start_from(live, sent, operation.subresource);
    if entries.is_empty() && live.is_some() {
        return;
    }
    let zero;
    let before = match live {
        Some(live) => live,
        None => {
            zero = codec::zero(ty);
            &zero
        }
    };
    let comparison = typed::compare(before, new, ty).without(operation.reset);
    if !comparison.is_same() {
        record(&mut entries, comparison, operation);
        cap(&mut entries);
    }
    put_managed_fields(new, entries);
}

/// Takes what changed from every other entry and gives it to the writer's own.
fn record(entries: &mut Vec<Entry>, comparison: Comparison, operation: &Operation<'_>) {
    let Comparison { added, modified, removed } = comparison;
    let changed = modified.joined(added).without(&STRIPPED);
    let others = if entries.is_empty() { &FieldSet::EMPTY } else { &changed };
    let (changed_paths, removed_paths) = (others.paths(), removed.paths());
    let own = Entry::new(Verb::Update, operation);
    entries.retain_mut(|entry| {
        let is_own = entry.same_manager(&own) && !changed.is_empty();
        let loses = |paths: &[Vec<Element>]| paths.iter().any(|path| entry.owns(path));
        if loses(&removed_paths) || (!is_own && loses(&changed_paths)) {
            let mut left = entry.set().difference(&removed);
            if !is_own {
                left = left.difference(&changed);
            }
            entry.replace(left);
        }
        is_own || !entry.is_empty()
    });
    if changed.is_empty() {
        return;
    }
    let time = (!operation.time.is_empty()).then(|| operation.time.to_owned());
    match entries.iter_mut().find(|entry| entry.same_manager(&own)) {
        Some(entry) => {
            if !changed_paths.iter().all(|path| entry.owns(path)) {
                entry.replace(entry.set().union(&changed));
            }
            entry.time = time.or(entry.time.take());
        }
        None => entries.push(Entry { fields: changed.to_fields_v1(), time, ..own }),
    }
}

/// Joins the oldest `Update` entries of one version until there are few enough.
fn cap(entries: &mut Vec<Entry>) {
    let updates = entries.iter().filter(|entry| entry.operation == Verb::Update).count();
    let Some(mut surplus) = updates.checked_sub(MAX_UPDATE_MANAGERS).filter(|surplus| *surplus > 0) else { return };
    let (mut oldest, mut kept): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(entries).into_iter().partition(|entry| entry.operation == Verb::Update);
    oldest.sort_by(|left, right| (&left.time, &left.manager).cmp(&(&right.time, &right.manager)));
    let mut buckets: Vec<Entry> = Vec::new();
    for entry in oldest {
        match buckets.iter_mut().find(|bucket| bucket.api_version == entry.api_version) {
            Some(bucket) if surplus > 0 => {
                surplus -= 1;
                *bucket = Entry {
                    manager: ANCIENT_CHANGES.to_owned(),
                    subresource: String::new(),
                    time: entry.time.clone(),
                    fields: bucket.set().union(&entry.set()).to_fields_v1(),
                    ..bucket.clone()
                };
            }
            Some(_) => kept.push(entry),
            None => buckets.push(entry),
        }
    }
    kept.extend(buckets);
    *entries = kept;
}

/// Entries that a client sent count, unless they cannot be read or a subresource is written; an empty list, or one
/// empty entry, resets them.
fn entries_to_start_from(live: Option<&Value>, sent: Option<Value>, subresource: &str) -> Vec<Entry> {
    let stored = live.and_then(managed_fields);
    let live = || Entry::read_stored(stored.cloned()).unwrap_or_default();
    if !subresource.is_empty() {
        return live();
    }
    let resets = |list: &[Value]| list.is_empty() || matches!(list, [Value::Object(entry)] if entry.is_empty());
    match sent {
        Some(Value::Array(list)) if resets(&list) => Vec::new(),
        // What most updates send is what they got.
        Some(list) if stored == Some(&list) => Entry::read_stored(Some(list)).unwrap_or_default(),
        Some(list) => match Entry::read_all(Some(list)) {
            Ok(entries) if !entries.is_empty() => entries,
            _ => live(),
        },
        None => live(),
    }
}

fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata").and_then(|metadata| metadata.get("managedFields"))
}

fn take_managed_fields(object: &mut Value) -> Option<Value> {
    let fields = object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")?;
    (!fields.is_null()).then_some(fields)
}

fn put_managed_fields(object: &mut Value, mut entries: Vec<Entry>) {
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    entries.sort_by(|left, right| left.order().cmp(&right.order()));
    let list = entries.into_iter().map(Entry::write).collect();
    metadata.insert("managedFields".to_owned(), Value::Array(list));
}

#[cfg(test)]
mod tests;
