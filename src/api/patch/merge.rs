//! JSON merge patch (RFC 7386).

use serde_json::{Map, Value};

use crate::Status;
use crate::codec::json::described;

/// Merges `patch` into `target`: nulls delete, objects merge, everything else replaces.
pub fn apply(target: &mut Value, patch: Value) -> Result<(), Status> {
    match patch {
        Value::Object(patch) => {
            merge(target, patch);
            Ok(())
        }
        Value::Null => Err(Status::bad_request("Invalid JSON Patch")),
        other => Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            described(&other)
        ))),
    }
}

fn merge(target: &mut Value, patch: Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let fields = target.as_object_mut().expect("made an object above");
    for (key, value) in patch {
        match value {
            Value::Null => {
                fields.remove(&key);
            }
            Value::Object(nested) => merge(fields.entry(key).or_insert(Value::Null), nested),
            value => {
                fields.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_delete_and_objects_merge() {
        let mut target = json!({"a": {"b": 1, "c": 2}, "d": [1, 2], "e": "x"});
        apply(&mut target, json!({"a": {"b": null, "n": {"k": null}}, "d": [3], "e": {"f": 1}})).unwrap();
        assert_eq!(target, json!({"a": {"c": 2, "n": {}}, "d": [3], "e": {"f": 1}}));
        assert_eq!(apply(&mut target, json!([])).unwrap_err().code, 400);
    }
}
