//! The compiled table against facts of the API.

use super::*;

fn ty(name: &str) -> Type<'static> {
    Schema::builtin().find(name).expect("the type is in the table")
}

#[test]
fn every_field_is_found_by_name_and_number() {
    for schema in [Schema::builtin(), Schema::everything()] {
        for ty in schema.types() {
            for (index, field) in ty.fields().enumerate() {
                assert_eq!(ty.field_index(field.name()), Some(index as u32), "{}.{}", ty.name(), field.name());
            }
            for (number, wire) in ty.wire() {
                assert_eq!(ty.field_by_number(number), Some(wire));
            }
            assert!(ty.field("noSuchField").is_none());
            assert!(ty.field_by_number(9_999).is_none());
        }
    }
}

#[test]
fn fields_carry_go_presence_and_merge_semantics() {
    let spec = ty("io.k8s.api.core.v1.ServiceSpec");
    let ports = spec.field("ports").expect("field");
    assert_eq!(ports.merge(), Merge::Associative);
    assert_eq!(ports.list_keys().collect::<Vec<_>>(), ["port", "protocol"]);
    assert_eq!((ports.patch_strategy(), ports.patch_merge_key()), (Some("merge"), Some("port")));
    assert_eq!(spec.field("selector").map(Field::merge), Some(Merge::Atomic));
    let port = ports.ty().element().expect("element");
    assert_eq!(port.field("protocol").and_then(Field::default), Some("\"TCP\""));
    assert_eq!(port.field("targetPort").map(|field| field.ty().kind()), Some(Kind::IntOrString));
    let meta = ty("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let created = meta.field("creationTimestamp").expect("field");
    assert_eq!(created.presence(), Presence { pointer: false, omit_empty: true, omit_zero: true });
    assert_eq!(created.ty().kind(), Kind::Time);
}

#[test]
fn inline_structs_lend_their_fields() {
    let volume = ty("io.k8s.api.core.v1.Volume");
    assert!(volume.field("emptyDir").is_some());
    assert!(matches!(volume.field_by_number(2), Some(Wire::Inline(source)) if source.name().ends_with("VolumeSource")));
    let pod = ty("io.k8s.api.core.v1.Pod");
    assert_eq!(pod.fields().map(Field::name).collect::<Vec<_>>(), ["kind", "apiVersion", "metadata", "spec", "status"]);
    assert_eq!(pod.wire().count(), 3);
}

#[test]
fn enums_and_rules_are_read() {
    let values: Vec<_> = ty("io.k8s.api.core.v1.DNSPolicy").enum_values().collect();
    assert_eq!(values, ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]);
    let replicas = ty("io.k8s.api.core.v1.ReplicationControllerSpec").field("replicas").expect("field");
    assert!(replicas.rules().any(|rule| rule.ends_with("minimum=0")), "{:?}", replicas.rules().collect::<Vec<_>>());
}

#[test]
fn an_unknown_reference_does_not_compile() {
    let broken = compile::TypeDefinition { name: "a".into(), reference: "[]nothing".into(), ..Default::default() };
    assert_eq!(Schema::compile(&[broken]).err().as_deref(), Some("unknown type nothing"));
}
