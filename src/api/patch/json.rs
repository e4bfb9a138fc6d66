//! JSON patch (RFC 6902) with upstream's limits.

use std::borrow::Cow;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

use crate::Status;
use crate::codec::json::described;
use crate::status::Details;

const MAX_OPERATIONS: usize = 10_000;
/// Bytes that `copy` operations may add in all; without a bound a few of them grow without end.
const MAX_COPIED: usize = 3 * 1024 * 1024;
/// Levels of the tree between two operations, far above what an object may have in the end. Each operation may put one deep
/// value below another, and every walk over a tree takes stack for each level.
const MAX_LEVELS: usize = 1000;

/// Applies a patch document; on error `target` is left as some operations made it and must be dropped.
pub fn apply(target: &mut Value, patch: Value) -> Result<(), Status> {
    if !matches!(patch, Value::Array(_) | Value::Null) {
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            described(&patch)
        )));
    }
    // `null` passes as an empty list.
    let operations: Option<Vec<PatchOperation>> = serde_json::from_value(patch).map_err(|_| rejected())?;
    let operations = operations.unwrap_or_default();
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::request_entity_too_large(format_args!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut copied = 0;
    let mut levels = depth(target);
    for operation in &operations {
        levels = levels.max(levels_below(operation, levels));
        if levels > MAX_LEVELS {
            return Err(rejected());
        }
        if let PatchOperation::Copy(copy) = operation {
            copied += target.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
            if copied > MAX_COPIED {
                return Err(rejected());
            }
        }
        let operation = &replaced_or_added(target, operation);
        json_patch::patch_unsafe(target, std::slice::from_ref(operation)).map_err(|_| rejected())?;
    }
    Ok(())
}

/// At most how deep `operation` reaches in a tree of at most `levels`.
fn levels_below(operation: &PatchOperation, levels: usize) -> usize {
    let moved = |from: &PointerBuf| levels.saturating_sub(from.count());
    match operation {
        PatchOperation::Add(add) => add.path.count() + depth(&add.value),
        PatchOperation::Replace(replace) => replace.path.count() + depth(&replace.value),
        PatchOperation::Move(entry) => entry.path.count() + moved(&entry.from),
        PatchOperation::Copy(entry) => entry.path.count() + moved(&entry.from),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => 0,
    }
}

/// Levels of maps and lists; trees from the parser have few.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Upstream's library replaces also what is not there yet, in a map.
fn replaced_or_added<'o>(target: &Value, operation: &'o PatchOperation) -> Cow<'o, PatchOperation> {
    if let PatchOperation::Replace(replace) = operation
        && let Some((parent, _)) = replace.path.split_back()
        && target.pointer(parent.as_str()).is_some_and(Value::is_object)
    {
        let (path, value) = (replace.path.clone(), replace.value.clone());
        return Cow::Owned(PatchOperation::Add(AddOperation { path, value }));
    }
    Cow::Borrowed(operation)
}

/// Upstream does not tell the client what was wrong.
fn rejected() -> Status {
    let mut status = Status::plain(422, "Invalid", "the server rejected our request due to an error in our request");
    status.details = Some(Box::new(Details::default()));
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_apply_in_order() {
        let mut target = json!({"a": {"b": [1, 2]}});
        let patch = json!([
            {"op": "test", "path": "/a/b/0", "value": 1},
            {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "remove", "path": "/a/b/0"},
            {"op": "copy", "from": "/a/b", "path": "/c"},
        ]);
        apply(&mut target, patch).unwrap();
        assert_eq!(target, json!({"a": {"b": [2, 3]}, "c": [2, 3]}));
    }

    #[test]
    fn refusals_have_upstreams_codes() {
        let refuse = |patch: Value| apply(&mut json!({"a": "x".repeat(1000)}), patch).unwrap_err().code;
        assert_eq!(refuse(json!({"op": "add"})), 400);
        assert_eq!(refuse(json!([{"op": "replace", "path": "/b/c", "value": 1}])), 422);
        assert_eq!(refuse(json!([{"op": "explode", "path": "/a"}])), 422);
        assert_eq!(refuse(json!([{"op": "add", "path": "a", "value": 1}])), 422);
        let test = json!({"op": "test", "path": "/a", "value": 1});
        assert_eq!(refuse(Value::Array(vec![test; 10_001])), 413);
        let copies: Vec<Value> =
            (0..9000).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/c{n}")})).collect();
        assert_eq!(refuse(Value::Array(copies)), 422);
    }

    #[test]
    fn small_pieces_cannot_be_stacked_without_end() {
        let spine = (0..90).fold(json!({}), |inner, _| json!({ "a": inner }));
        let patch: Vec<Value> =
            (0..200).map(|n| json!({"op": "add", "path": "/a".repeat(n * 90 + 1), "value": spine})).collect();
        assert_eq!(apply(&mut json!({}), Value::Array(patch)).unwrap_err().code, 422);
    }
}
