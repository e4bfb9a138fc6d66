//! Bytes from the network never panic a decoder, and what is JSON for others is JSON for us.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

fn pod() -> Type<'static> {
    Schema::builtin().of_kind("", "v1", "Pod").unwrap()
}

fn definition() -> Type<'static> {
    Schema::builtin().of_kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap()
}

/// Trees whose keys are often those of a pod.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![Just("1Gi"), Just("2026-01-02T03:04:05Z"), Just("a"), Just("")].prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("containers"),
        Just("name"),
        Just("labels"),
        Just("resources"),
        Just("limits"),
        Just("creationTimestamp"),
        Just("volumes"),
        Just("ports"),
        Just("env"),
        Just("schema"),
        Just("openAPIV3Schema"),
    ]
    .prop_map(str::to_owned)
    .boxed();
    let key = prop_oneof![4 => key, 1 => ".*"].boxed();
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5).prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for encoding in [Encoding::Json, Encoding::Yaml, Encoding::Protobuf] {
            let _ = type_meta(encoding, &bytes);
            let _ = decode(pod(), encoding, &bytes);
        }
        let _ = decode(definition(), Encoding::Protobuf, &[&protobuf::MAGIC[..], &bytes].concat());
        let _ = decode(pod(), Encoding::Protobuf, &protobuf::envelop(&TypeMeta::default(), &bytes));
    }

    #[test]
    fn any_tree_is_decoded_to_a_normal_one_or_refused(tree in tree()) {
        for ty in [pod(), definition()] {
            let Ok(decoded) = normalise(ty, &tree) else { continue };
            let again = normalise(ty, &decoded.value).expect("a normal tree is of its type");
            prop_assert_eq!(&again.value, &decoded.value);
            prop_assert!(again.strict.is_empty());
            let wire = encode(ty, Encoding::Protobuf, &decoded.value).expect("a normal tree has a wire form");
            decode(ty, Encoding::Protobuf, &wire).expect("our own wire form is read");
        }
    }

    #[test]
    fn json_means_what_serde_json_says(tree in tree()) {
        let text = tree.to_string();
        let mut lexer = lexer::Lexer::new(text.as_bytes());
        prop_assert_eq!(json::any(&mut lexer), Ok(tree));
        prop_assert_eq!(lexer.finish(), Ok(()));
    }
}
