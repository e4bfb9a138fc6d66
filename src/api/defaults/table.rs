//! Defaults that stand in the table (`+default` tags).

use serde_json::Value;

use crate::codec::zero;
use crate::schema::{Field, Kind, Type};

/// Sets the tables' defaults in a normal tree: pointers that are unset and values that are zero.
/// Subtrees without any default are not entered.
pub fn apply_table_defaults(ty: Type<'_>, value: &mut Value) {
    if !ty.has_defaults() {
        return;
    }
    match (ty.kind(), value) {
        (Kind::Struct, Value::Object(map)) => {
            for field in ty.fields() {
                if let Some(default) = field.default()
                    && is_unset(field, map.get(field.name()))
                {
                    let default: Value =
                        serde_json::from_str(default).expect("the generator wrote the default as JSON");
                    if field.presence().pointer || default != zero(field.ty()) {
                        map.insert(field.name().to_owned(), default);
                    }
                }
                if field.ty().has_defaults()
                    && let Some(inner) = map.get_mut(field.name())
                {
                    apply_table_defaults(field.ty(), inner);
                }
            }
        }
        (Kind::List, Value::Array(items)) => {
            let element = ty.element().expect("a list has an element");
            items.iter_mut().for_each(|item| apply_table_defaults(element, item));
        }
        (Kind::Map, Value::Object(map)) => {
            let element = ty.element().expect("a map has an element");
            map.values_mut().for_each(|item| apply_table_defaults(element, item));
        }
        _ => {}
    }
}

fn is_unset(field: Field<'_>, value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(value) => !field.presence().pointer && *value == zero(field.ty()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Schema;

    #[test]
    fn unset_fields_get_the_tables_defaults() {
        let ty = Schema::builtin().of_kind("", "v1", "Pod").expect("type");
        let mut pod = json!({"spec":{"containers":[{"name":"a","ports":[{"containerPort":1},{"containerPort":2,"protocol":"UDP"}],
            "livenessProbe":{"grpc":{"port":1}}}],"volumes":[{"name":"d","rbd":{"image":"x","pool":"mine"}}]}});
        apply_table_defaults(ty, &mut pod);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(
            container["ports"],
            json!([{"containerPort":1,"protocol":"TCP"},{"containerPort":2,"protocol":"UDP"}])
        );
        assert_eq!(container["livenessProbe"]["grpc"], json!({"port":1,"service":""}));
        let rbd = &pod["spec"]["volumes"][0]["rbd"];
        assert_eq!(*rbd, json!({"image":"x","pool":"mine","user":"admin","keyring":"/etc/ceph/keyring"}));
    }

    #[test]
    fn kinds_without_defaults_are_not_walked() {
        let schema = Schema::builtin();
        assert!(!schema.of_kind("", "v1", "ConfigMap").expect("type").has_defaults());
        assert!(schema.of_kind("apps", "v1", "DeploymentList").expect("type").has_defaults());
    }
}
