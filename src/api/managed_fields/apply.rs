//! Server-side apply.

use serde_json::Value;

use super::entry::{Entry, Operation as Verb};
use super::{Operation, STRIPPED, managed_fields, put_managed_fields, take_managed_fields, typed};
use crate::Status;
use crate::codec;
use crate::field_set::{Element, FieldSet, path_text};
use crate::schema::Type;
use crate::status::Cause;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Bytes of all annotations together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

struct Conflict {
    manager: String,
    path: Vec<Element>,
}

/// Merges what a manager wants into the live object (`None` when there is none) and moves ownership.
///
/// The answer is not defaulted, normalised or validated; it equals `live` when nothing changes. `force` takes fields
/// from other managers instead of failing with 409.
pub fn apply(
    ty: Type<'_>,
    live: Option<&Value>,
    applied: &Value,
    operation: &Operation<'_>,
    force: bool,
) -> Result<Value, Status> {
    check_applied(ty, applied)?;
    let mut before = live.cloned().unwrap_or_else(|| codec::zero(ty));
    take_managed_fields(&mut before);
    let entries = Entry::read_all(live.and_then(managed_fields).cloned())
        .map_err(|error| Status::plain(500, "", format!("failed to decode managed fields: {error}")))?;
    let entries = match entries.is_empty() {
        true => before_first_apply(ty, &before, operation),
        false => entries,
    };
    match merge(ty, &before, applied, entries.clone(), operation, force) {
        Ok(object) => Ok(object),
        Err(conflicts) if operation.manager == "kubectl" => {
            // What client-side apply wrote last is kubectl's own.
            let allowed = last_applied_fields(ty, &before).unwrap_or_default();
            let left: Vec<Conflict> =
                conflicts.into_iter().filter(|conflict| !allowed.contains(&conflict.path)).collect();
            if left.is_empty() {
                merge(ty, &before, applied, entries, operation, true).map_err(|conflicts| refusal(&conflicts))
            } else {
                Err(refusal(&left))
            }
        }
        Err(conflicts) => Err(refusal(&conflicts)),
    }
}

/// Whether what a manager applies is of the type: 400 for another kind, 500 for fields that it does not have, as upstream.
pub fn check_applied(ty: Type<'_>, applied: &Value) -> Result<(), Status> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (group, version, kind) = ty.gvk().unwrap_or_default();
    let expected = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let (api_version, applied_kind) = (text(applied.get("apiVersion")), text(applied.get("kind")));
    if api_version != expected || applied_kind != kind {
        let shown = if api_version.contains('/') { api_version } else { format!("/{api_version}") };
        return Err(Status::bad_request(format!("invalid object type: {shown}, Kind={applied_kind}")));
    }
    if managed_fields(applied).is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    typed::check(applied, ty).map_err(|error| {
        let metadata = applied.get("metadata");
        let field = |name: &str| text(metadata.and_then(|metadata| metadata.get(name)));
        let shown = if group.is_empty() { format!("/{version}") } else { expected };
        let message = format!(
            "failed to create typed patch object ({}/{}; {shown}, Kind={kind}): {error}",
            field("namespace"),
            field("name")
        );
        Status::plain(500, "", message)
    })
}

/// What an object without any entry holds belongs to a manager of its own.
fn before_first_apply(ty: Type<'_>, live: &Value, operation: &Operation<'_>) -> Vec<Entry> {
    let comparison = typed::compare(&codec::zero(ty), live, ty).without(operation.reset);
    let set = comparison.modified.joined(comparison.added).without(&STRIPPED);
    if set.is_empty() {
        return Vec::new();
    }
    let writer = Operation { manager: "before-first-apply", ..*operation };
    let time = Some(operation.time.to_owned());
    vec![Entry { fields: set.to_fields_v1(), time, ..Entry::new(Verb::Update, &writer) }]
}

fn merge(
    ty: Type<'_>,
    before: &Value,
    applied: &Value,
    mut entries: Vec<Entry>,
    operation: &Operation<'_>,
    force: bool,
) -> Result<Value, Vec<Conflict>> {
    let mut own = Entry::new(Verb::Apply, operation);
    let last = entries.iter().position(|entry| entry.same_manager(&own)).map(|index| entries.remove(index));
    own.time = last.as_ref().and_then(|last| last.time.clone());

    let set = typed::set_of(applied, ty).recursive_difference(operation.reset);
    let mut merged = before.clone();
    typed::merge(&mut merged, applied, ty);
    if let Some(last) = &last {
        let last = last.set();
        if !last.difference(&set).is_empty() {
            merged = pruned(ty, merged, &last, &set, &entries);
        }
    }

    let comparison = typed::compare(before, &merged, ty).without(operation.reset);
    let changed = comparison.modified.clone().union(&comparison.added);
    let (changed_paths, removed_paths) = (changed.paths(), comparison.removed.paths());
    if !force {
        let conflict = |entry: &Entry, path: &Vec<Element>| {
            entry
                .owns(path)
                .then(|| Conflict { manager: entry.for_people(operation.shown_version), path: path.clone() })
        };
        let conflicts: Vec<Conflict> = entries
            .iter()
            .flat_map(|entry| changed_paths.iter().filter_map(move |path| conflict(entry, path)))
            .collect();
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
    }
    entries.retain_mut(|entry| {
        if changed_paths.iter().chain(&removed_paths).any(|path| entry.owns(path)) {
            entry.replace(entry.set().difference(&changed).difference(&comparison.removed));
        }
        !entry.is_empty()
    });

    if merged != *before {
        own.time = (!operation.time.is_empty()).then(|| operation.time.to_owned());
    }
    let set = set.without(&STRIPPED);
    if !set.is_empty() {
        own.replace(set);
        entries.push(own);
    }
    if operation.manager == "kubectl" {
        renew_last_applied(&mut merged, applied);
    }
    put_managed_fields(&mut merged, entries);
    Ok(merged)
}

/// Takes out what the manager applied last time, does not apply now, and nobody else owns.
fn pruned(ty: Type<'_>, merged: Value, last: &FieldSet, set: &FieldSet, others: &[Entry]) -> Value {
    let named = |set: &FieldSet| typed::with_named_fields(set, ty);
    let last = named(last);
    let mut without_last = merged.clone();
    typed::remove(&mut without_last, &last, ty);

    let mut owned = set.clone();
    others.iter().for_each(|entry| owned.add_all(&entry.set()));
    let whole = named(&typed::set_of(&merged, ty));
    let kept = named(&typed::set_of(&without_last, ty)).union(&named(&owned));
    let mut with_owned = merged.clone();
    typed::remove(&mut with_owned, &whole.difference(&kept), ty);

    // What nobody owned and the manager did not apply is not its to remove.
    let gone = whole.difference(&named(&typed::set_of(&with_owned, ty))).intersection(&last);
    let mut pruned = merged;
    typed::remove(&mut pruned, &gone, ty);
    pruned
}

/// The fields that client-side apply set and that still have the values it gave them.
fn last_applied_fields(ty: Type<'_>, live: &Value) -> Option<FieldSet> {
    let annotation = live.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
    let applied: Value = serde_json::from_str(annotation).ok()?;
    if applied.get("apiVersion") != live.get("apiVersion") || typed::check(&applied, ty).is_err() {
        return None;
    }
    let comparison = typed::compare(&applied, live, ty);
    let set = typed::set_of(&applied, ty);
    Some(set.difference(&comparison.modified).difference(&comparison.added).difference(&comparison.removed))
}

/// Keeps the annotation of client-side apply in step, where there is one.
fn renew_last_applied(merged: &mut Value, applied: &Value) {
    let Some(Value::Object(annotations)) =
        merged.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"))
    else {
        return;
    };
    let has_one = annotations.get(LAST_APPLIED).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if !has_one {
        return;
    }
    let mut applied = applied.clone();
    if let Some(Value::Object(own)) = applied.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations")) {
        own.remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.to_owned(), Value::from(format!("{applied}\n")));
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}

fn refusal(conflicts: &[Conflict]) -> Status {
    let causes = conflicts
        .iter()
        .map(|conflict| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {}", conflict.manager),
            field: path_text(&conflict.path),
        })
        .collect();
    let message = match conflicts {
        [only] => {
            format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, path_text(&only.path))
        }
        _ => {
            let mut managers: Vec<&str> = conflicts.iter().map(|conflict| conflict.manager.as_str()).collect();
            managers.sort_unstable();
            managers.dedup();
            let mut lines = Vec::new();
            for manager in managers {
                lines.push(format!("conflicts with {manager}:"));
                let of_manager = conflicts.iter().filter(|conflict| conflict.manager == manager);
                lines.extend(of_manager.map(|conflict| format!("- {}", path_text(&conflict.path))));
            }
            format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
        }
    };
    Status::apply_conflict(causes, message)
}
