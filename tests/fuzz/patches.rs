//! The four patches, each as two documents: what is changed, and the change.

use coracle_api::codec::normalise;
use coracle_api::field_set::FieldSet;
use coracle_api::managed_fields::{self, Operation};
use coracle_api::patch;
use coracle_api::schema::{Schema, Type};
use serde_json::{Value, json as tree};

use crate::{joined, parts};

fn pod() -> Type<'static> {
    Schema::builtin().of_kind("", "v1", "Pod").expect("pods are served")
}

fn documents(data: &[u8]) -> Option<(Value, Value)> {
    let [target, change] = parts(data);
    Some((serde_json::from_slice(target).ok()?, serde_json::from_slice(change).ok()?))
}

pub fn json(data: &[u8]) {
    let Some((mut target, change)) = documents(data) else { return };
    let _ = patch::json::apply(&mut target, change);
}

/// Applied twice a merge patch changes nothing more.
pub fn merge(data: &[u8]) {
    let Some((mut target, change)) = documents(data) else { return };
    if patch::merge::apply(&mut target, change.clone()).is_ok() {
        let once = target.clone();
        patch::merge::apply(&mut target, change).expect("it was applied before");
        assert_eq!(target, once, "a merge patch is idempotent");
    }
}

pub fn strategic(data: &[u8]) {
    let Some((mut target, change)) = documents(data) else { return };
    if patch::strategic::apply(&mut target, change, pod()).is_ok() {
        let _ = normalise(pod(), &target);
    }
}

/// Applied again by the same manager an intent changes nothing.
pub fn apply(data: &[u8]) {
    let Some((live, applied)) = documents(data) else { return };
    let object = |tree: &Value| {
        let mut object = normalise(pod(), tree).map_or_else(|_| tree!({}), |decoded| decoded.value);
        object["apiVersion"] = tree!("v1");
        object["kind"] = tree!("Pod");
        object
    };
    let (live, applied) = (object(&live), object(&applied));
    let time = "2026-01-01T00:00:00Z";
    let operation = Operation {
        manager: "a",
        api_version: "v1",
        subresource: "",
        time,
        reset: &FieldSet::EMPTY,
        shown_version: None,
    };
    let other = Operation { manager: "b", ..operation };
    let apply = managed_fields::apply;
    let _ = apply(pod(), Some(&live), &applied, &other, true);
    let Ok(first) = apply(pod(), None, &applied, &operation, false) else { return };
    let _ = apply(pod(), Some(&first), &live, &other, false);
    let again = apply(pod(), Some(&first), &applied, &operation, false).expect("it was applied before");
    assert_eq!(again, first, "applied again it is the same");
}

const POD: &str = r#"{"metadata":{"name":"a","labels":{"b":"c"},"finalizers":["f"],"managedFields":[{"manager":"m","operation":"Apply",
"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:containers":{"k:{\"name\":\"m\"}":{".":{},"f:image":{}}}}}}]},
"spec":{"containers":[{"name":"m","image":"i","ports":[{"containerPort":80,"protocol":"TCP"}]}],"volumes":[{"name":"v","emptyDir":{}}]}}"#;

fn seeds(changes: &[&str]) -> Vec<Vec<u8>> {
    changes.iter().map(|change| joined(&[POD, change])).collect()
}

pub fn json_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        r#"[{"op":"add","path":"/spec/containers/-","value":{"name":"n"}},{"op":"test","path":"/metadata/name","value":"a"}]"#,
        r#"[{"op":"move","from":"/spec/containers/0","path":"/spec/containers/1"},{"op":"remove","path":"/metadata/labels/a~1b"}]"#,
        r#"[{"op":"copy","from":"/spec","path":"/spec/volumes/0"},{"op":"replace","path":"","value":1}]"#,
    ])
}

pub fn merge_seeds() -> Vec<Vec<u8>> {
    seeds(&[r#"{"metadata":{"labels":{"b":null,"d":"e"}}}"#, r#"{"spec":{"containers":[1]}}"#])
}

pub fn strategic_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"spec":{"containers":[{"name":"m","image":"j"},{"name":"n"}],"$setElementOrder/containers":[{"name":"n"},{"name":"m"}]}}"#,
        r#"{"spec":{"volumes":[{"name":"v","$patch":"delete"}],"containers":[{"name":"m","$patch":"replace"}]}}"#,
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["f"],"$retainKeys":["name"]},"spec":{"$patch":"merge"}}"#,
    ])
}

pub fn apply_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        POD,
        r#"{"spec":{"containers":[{"name":"m","image":"j","ports":[{"containerPort":80,"protocol":"UDP"}]}]}}"#,
    ])
}
