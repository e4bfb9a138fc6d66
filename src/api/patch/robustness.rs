//! Patches and selectors from the network never panic, and leave a tree that is still of its type or an error.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{json, merge, strategic};
use crate::codec::normalise;
use crate::field_set::FieldSet;
use crate::managed_fields::{Operation, apply};
use crate::schema::{Schema, Type};

fn pod() -> Type<'static> {
    Schema::builtin().of_kind("", "v1", "Pod").expect("pods are served")
}

/// Words that patches give meaning to, beside fields of a pod that merge in different ways.
const KEYS: [&str; 18] = [
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "metadata",
    "finalizers",
    "labels",
    "managedFields",
    "spec",
    "containers",
    "ports",
    "containerPort",
    "name",
    "volumes",
    "emptyDir",
    "op",
    "path",
    "value",
];

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec!["a", "b", "", "delete", "replace", "merge"]).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        let key = prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..5).prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

/// A pointer of legal and illegal parts.
fn pointer() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned),
        prop::sample::select(vec!["0", "1", "-", "-1", "01", "~0", "~1", "~", "99999999999999999999", ""])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.iter().map(|part| format!("/{part}")).collect())
}

fn operation() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test", "none"]);
    (name, pointer(), pointer(), tree())
        .prop_map(|(name, path, from, value)| json!({ "op": name, "path": path, "from": from, "value": value }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn json_patches_of_any_form(mut target in tree(), patch in prop_oneof![
        prop::collection::vec(operation(), 0..4).prop_map(Value::from), tree(),
    ]) {
        let _ = json::apply(&mut target, patch);
    }

    #[test]
    fn merge_patches_of_any_form(mut target in tree(), patch in tree()) {
        let again = patch.clone();
        if merge::apply(&mut target, patch).is_ok() {
            let once = target.clone();
            merge::apply(&mut target, again).expect("it was applied before");
            prop_assert_eq!(target, once, "a merge patch is idempotent");
        }
    }

    #[test]
    fn strategic_patches_of_any_form(mut target in tree(), patch in tree()) {
        let _ = strategic::apply(&mut target, patch, pod());
    }

    #[test]
    fn applied_objects_of_any_form(live in tree(), applied in tree()) {
        let object = |tree: Value| {
            let mut object = normalise(pod(), &tree).map_or_else(|_| json!({}), |decoded| decoded.value);
            object["apiVersion"] = json!("v1");
            object["kind"] = json!("Pod");
            object
        };
        let (live, applied) = (object(live), object(applied));
        let operation =
            Operation { manager: "a", api_version: "v1", subresource: "", time: "2026-01-01T00:00:00Z", reset: &FieldSet::EMPTY, shown_version: None };
        let Ok(first) = apply(pod(), None, &applied, &operation, false) else { return Ok(()) };
        let other = Operation { manager: "b", ..operation };
        let _ = apply(pod(), Some(&first), &live, &other, false);
        let _ = apply(pod(), Some(&live), &applied, &other, true);
        prop_assert_eq!(apply(pod(), Some(&first), &applied, &operation, false).ok(), Some(first), "applied again it is the same");
    }
}
