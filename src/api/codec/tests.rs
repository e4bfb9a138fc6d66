//! All fixtures of k8s.io/api/testdata/HEAD every way, and Go's rules one by one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

/// The fixtures of the Go module that the generator is pinned to.
fn fixtures() -> PathBuf {
    let output = std::process::Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/api"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("generate"))
        .output()
        .expect("the tests need Go on PATH");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Path::new(String::from_utf8(output.stdout).unwrap().trim()).join("testdata/HEAD")
}

/// `apps.v1.Deployment` as group, version and kind.
fn fixture_type(stem: &str) -> Type<'static> {
    let mut parts = stem.rsplitn(3, '.');
    let (kind, version, group) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let group = if group == "core" { "" } else { group };
    let schema = Schema::everything();
    schema.of_kind(group, version, kind).unwrap_or_else(|| panic!("no type for {stem}"))
}

#[test]
fn every_fixture_converts_every_way() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        seen += 1;
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let ty = fixture_type(&stem);
        let read = |extension: &str| std::fs::read(path.with_extension(extension)).unwrap();
        let (text, wire, yaml) = (read("json"), read("pb"), read("yaml"));
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let decoded = json::decode(ty, &text);
        match &decoded {
            Ok(decoded) if decoded.value == expected && decoded.strict.is_empty() => {}
            other => wrong.push(format!("{stem}: json -> tree: {}", difference(other, &expected))),
        }
        if encode(ty, Encoding::Protobuf, &expected).as_deref() != Ok(&wire) {
            wrong.push(format!("{stem}: json -> pb"));
        }
        let from_wire = decode(ty, Encoding::Protobuf, &wire);
        if from_wire.as_ref().map(|decoded| &decoded.value) != Ok(&expected) {
            wrong.push(format!("{stem}: pb -> json: {}", difference(&from_wire, &expected)));
        }
        let from_yaml = decode(ty, Encoding::Yaml, &yaml);
        if from_yaml.as_ref().map(|decoded| &decoded.value) != Ok(&expected) {
            wrong.push(format!("{stem}: yaml -> json: {}", difference(&from_yaml, &expected)));
        }
        let again = encode(ty, Encoding::Yaml, &expected).unwrap();
        if decode(ty, Encoding::Yaml, &again).map(|decoded| decoded.value) != Ok(expected) {
            wrong.push(format!("{stem}: json -> yaml -> json"));
        }
    }
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(seen, 193);
}

fn difference(found: &Result<Decoded, DecodeError>, expected: &Value) -> String {
    match found {
        Err(error) => error.to_string(),
        Ok(decoded) => format!("{:?} {}", decoded.strict, first_difference("", &decoded.value, expected)),
    }
}

pub(super) fn first_difference(path: &str, found: &Value, expected: &Value) -> String {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for key in found.keys().chain(expected.keys()) {
                let (left, right) = (found.get(key).unwrap_or(&Value::Null), expected.get(key).unwrap_or(&Value::Null));
                if left != right || found.contains_key(key) != expected.contains_key(key) {
                    return first_difference(&format!("{path}.{key}"), left, right);
                }
            }
            String::new()
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            let index = found.iter().zip(expected).position(|(left, right)| left != right).unwrap_or(0);
            first_difference(&format!("{path}[{index}]"), &found[index], &expected[index])
        }
        _ => format!("{path}: {found} for {expected}"),
    }
}

fn pod(text: &str) -> Result<Decoded, DecodeError> {
    json::decode(Schema::builtin().of_kind("", "v1", "Pod").unwrap(), text.as_bytes())
}

#[test]
fn zero_values_appear_and_vanish_as_in_go() {
    let decoded = pod(r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{},"generation":0,"creationTimestamp":null},
        "spec":{"containers":[{"name":"c","image":"","tty":false,"resources":{"requests":{"cpu":"1000m","memory":1024}}}],
        "hostNetwork":false,"restartPolicy":"","terminationGracePeriodSeconds":0,"nodeSelector":null,"securityContext":{}}}"#)
    .unwrap();
    assert_eq!(
        decoded.value,
        json!({"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},
            "spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1","memory":"1024"}}}],
            "terminationGracePeriodSeconds":0,"securityContext":{}},"status":{}})
    );
    assert!(decoded.strict.is_empty());
    let empty = pod("{}").unwrap().value;
    assert_eq!(empty, json!({"metadata":{},"spec":{"containers":null},"status":{}}));
}

#[test]
fn fields_of_features_that_are_off_are_known_and_dropped() {
    let decoded =
        pod(r#"{"spec":{"schedulingGroup":{},"containers":[{"name":"a","lifecycle":{"stopSignal":"SIGUSR1"}}]}}"#)
            .unwrap();
    assert_eq!(decoded.strict, [""; 0]);
    let spec = json!({"containers":[{"name":"a","lifecycle":{},"resources":{}}]});
    assert_eq!(decoded.value["spec"], spec);
}

#[test]
fn strict_errors_have_upstreams_words() {
    let decoded = pod(r#"{"spec":{"foo":1,"containers":[{"name":"a","name":"b","bar":{}}]},"Kind":"Pod","metadata":{"labels":{"a":"1","a":"2"}}}"#)
        .unwrap();
    assert_eq!(
        decoded.strict,
        [
            r#"unknown field "spec.foo""#,
            r#"duplicate field "spec.containers[0].name""#,
            r#"unknown field "spec.containers[0].bar""#,
            r#"unknown field "Kind""#,
            r#"duplicate field "metadata.labels.a""#,
        ]
    );
    assert_eq!(decoded.value["spec"]["containers"][0]["name"], "b");
}

#[test]
fn wrong_types_are_told_as_go_does() {
    for (text, error) in [
        (
            r#"{"spec":{"priority":"x"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"spec":{"priority":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec":{"dnsPolicy":true}}"#,
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.dnsPolicy of type v1.DNSPolicy",
        ),
        ("[]", "json: cannot unmarshal array into Go value of type v1.Pod"),
    ] {
        assert_eq!(pod(text), Err(DecodeError::Type(error.to_owned())), "{text}");
    }
}

#[test]
fn broken_json_is_told_as_go_does() {
    for (text, error) in [
        ("", "unexpected end of JSON input"),
        ("{\"a\"", "unexpected end of JSON input"),
        ("{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        ("{\"a\" 1}", "invalid character '1' after object key"),
        ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
        ("{\"a\":[1 2]}", "invalid character '2' after array element"),
        ("{\"a\":nul}", "invalid character '}' in literal null (expecting 'l')"),
        ("{\"a\":01}", "invalid character '1' after object key:value pair"),
        ("{\"a\":\"\n\"}", "invalid character '\\n' in string literal"),
        ("{} x", "invalid character 'x' after top-level value"),
    ] {
        assert_eq!(pod(text), Err(DecodeError::Syntax(error.to_owned())), "{text}");
    }
}

#[test]
fn deep_nesting_ends_in_an_error() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let text = format!("{{\"x\":{}1{}}}", open.repeat(10_000), close.repeat(10_000));
        assert_eq!(pod(&text), Err(DecodeError::Depth));
        assert!(decode(fixture_type("core.v1.Pod"), Encoding::Yaml, text.as_bytes()).is_err());
    }
    // JSONSchemaProps.not within itself.
    let ty =
        Schema::builtin().find("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
    let key = u32::from(ty.field("not").unwrap().number()) << 3 | 2;
    let mut message = Vec::new();
    for _ in 0..1_000 {
        let mut outer = vec![key as u8 | 0x80, (key >> 7) as u8];
        outer.extend([message.len() as u8 | 0x80, (message.len() >> 7) as u8 | 0x80, (message.len() >> 14) as u8]);
        outer.extend(&message);
        message = outer;
    }
    assert_eq!(protobuf::decode(ty, &protobuf::envelop(&TypeMeta::default(), &message)), Err(DecodeError::Depth));
}

#[test]
fn invalid_utf8_and_lone_surrogates_are_replaced() {
    let ty = Schema::builtin().of_kind("", "v1", "ConfigMap").unwrap();
    let decoded =
        json::decode(ty, b"{\"data\":{\"a\":\"x\xffy\",\"b\":\"\\ud800z\",\"c\":\"\\ud83d\\ude00\"}}").unwrap();
    assert_eq!(decoded.value["data"], json!({"a":"x\u{fffd}y","b":"\u{fffd}z","c":"\u{1f600}"}));
}

#[test]
fn broken_protobuf_is_an_error() {
    let ty = fixture_type("core.v1.Pod");
    let good = std::fs::read(fixtures().join("core.v1.Pod.pb")).unwrap();
    assert!(protobuf::decode(ty, b"{}").is_err());
    // Every cut is an error or a smaller object, never a panic.
    for length in 0..good.len() {
        let _ = protobuf::decode(ty, &good[..length]);
    }
}

#[test]
fn the_type_is_read_from_every_encoding() {
    let expected = TypeMeta { api_version: "v1".into(), kind: "Pod".into() };
    for (extension, encoding) in [("json", Encoding::Json), ("yaml", Encoding::Yaml), ("pb", Encoding::Protobuf)] {
        let bytes = std::fs::read(fixtures().join(format!("core.v1.Pod.{extension}"))).unwrap();
        assert_eq!(type_meta(encoding, &bytes), Ok(expected.clone()));
    }
}
