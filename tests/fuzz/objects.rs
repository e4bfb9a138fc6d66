//! Objects in their three encodings, selectors over them, and quantities in them.

use std::path::PathBuf;
use std::process::Command;

use coracle_api::Resource;
use coracle_api::codec::{self, TypeMeta, decode, encode, normalise, type_meta};
use coracle_api::object::Encoding;
use coracle_api::quantity::Quantity;
use coracle_api::schema::{Schema, Type};
use coracle_api::selector::{FieldSelector, LabelSelector};

use crate::{joined, parts};

/// The type that the bytes name, else a pod.
fn type_of(encoding: Encoding, data: &[u8]) -> Type<'static> {
    let schema = Schema::builtin();
    let named = type_meta(encoding, data).ok().and_then(|meta| codec::type_of(schema, &meta));
    named.unwrap_or_else(|| schema.of_kind("", "v1", "Pod").expect("pods are served"))
}

/// What is decoded is normal, and comes back from the wire form of every encoding.
fn object(encoding: Encoding, data: &[u8]) {
    let ty = type_of(encoding, data);
    let Ok(decoded) = decode(ty, encoding, data) else { return };
    let again = normalise(ty, &decoded.value).expect("a normal tree is of its type");
    assert_eq!(again.value, decoded.value, "a normal tree stays");
    assert!(again.strict.is_empty(), "a normal tree is strict: {:?}", again.strict);
    let wire = encode(ty, Encoding::Protobuf, &decoded.value).expect("a normal tree has a wire form");
    decode(ty, Encoding::Protobuf, &wire).expect("our own wire form is read");
}

pub fn json(data: &[u8]) {
    object(Encoding::Json, data);
}

pub fn yaml(data: &[u8]) {
    object(Encoding::Yaml, data);
}

pub fn protobuf(data: &[u8]) {
    object(Encoding::Protobuf, data);
}

/// Upstream's fixtures of the kinds that have most of what there is: oneofs, maps, quantities, times, raw extensions.
fn fixtures(extension: &str) -> Vec<Vec<u8>> {
    const KINDS: [&str; 9] = [
        "core.v1.Pod",
        "core.v1.Service",
        "core.v1.Node",
        "core.v1.ConfigMap",
        "core.v1.Secret",
        "core.v1.Event",
        "apps.v1.Deployment",
        "batch.v1.CronJob",
        "apiextensions.k8s.io.v1.CustomResourceDefinition",
    ];
    let modules = Command::new("go").args(["env", "GOMODCACHE"]).output().ok();
    let modules = modules.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let api = PathBuf::from(modules.trim()).join("k8s.io/api@v0.37.2/testdata/HEAD");
    KINDS.iter().filter_map(|kind| std::fs::read(api.join(format!("{kind}.{extension}"))).ok()).collect()
}

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"b":"c"},"creationTimestamp":"2026-01-02T03:04:05Z"},
"spec":{"containers":[{"name":"m","image":"i","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1500m","memory":1e9}},
"livenessProbe":{"httpGet":{"port":"web","path":"/\u00e9"}},"env":[{"name":"A","value":"\ud83d\ude00"}]}],"volumes":[{"name":"v","emptyDir":{}}]}}"#;

pub fn json_seeds() -> Vec<Vec<u8>> {
    let nested = [&b"{\"metadata\":"[..], &b"[".repeat(300)].concat();
    [fixtures("json"), vec![POD.into(), nested, b"{\"kind\":\"Pod\",\"kind\":\"List\",\"items\":[null]}".to_vec()]]
        .concat()
}

pub fn yaml_seeds() -> Vec<Vec<u8>> {
    let bomb = "a: &a [1,1,1]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nkind: Pod\nmetadata: {annotations: {<<: *c}}\n";
    let odd = "apiVersion: v1\nkind: ConfigMap\ndata: {a: 'on', b: \"0644\", c: |\n  x\n, d: !!binary aGk=}\n---\nkind: Pod\n";
    [fixtures("yaml"), vec![bomb.into(), odd.into(), POD.into()]].concat()
}

pub fn protobuf_seeds() -> Vec<Vec<u8>> {
    let ty = Schema::builtin().of_kind("", "v1", "Pod").expect("pods are served");
    let pod = decode(ty, Encoding::Json, POD.as_bytes()).expect("it is a pod").value;
    let meta = TypeMeta { api_version: "v1".to_owned(), kind: "Pod".to_owned() };
    let empty = codec::protobuf::envelop(&meta, &[]);
    [fixtures("pb"), vec![encode(ty, Encoding::Protobuf, &pod).expect("it is normal"), empty]].concat()
}

/// A label selector prints what selects the same; a field selector is read or refused.
pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        let printed = selector.to_string();
        let again = LabelSelector::parse(&printed).expect("what is printed is read");
        assert_eq!(again.to_string(), printed);
    }
    let pods = Resource::find("", "v1", "pods").expect("pods are served");
    let _ = FieldSelector::parse(text, &pods);
}

pub fn selector_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "a=b,c!=d",
        "a in (b, c),d notin (e),!f,g",
        "x/y>5,z<7",
        "metadata.name=a\\,b,spec.nodeName!=n",
        "status.phase==Running",
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).into()
}

/// A quantity prints what means the same, and two are ordered one way.
pub fn quantities(data: &[u8]) {
    let [text, other] = parts(data);
    let (Ok(text), Ok(other)) = (std::str::from_utf8(text), std::str::from_utf8(other)) else { return };
    let (one, two) = (Quantity::parse(text), Quantity::parse(other));
    if let Ok(one) = &one {
        let printed = one.to_string();
        let again = Quantity::parse(&printed).expect("what is printed is read");
        assert_eq!(again.to_string(), printed, "the canonical form stays");
        if let Ok(two) = &two {
            assert_eq!(one.cmp(two), two.cmp(one).reverse());
        }
    }
}

pub fn quantity_seeds() -> Vec<Vec<u8>> {
    [["1", "1000m"], ["1.5Gi", "12e6"], ["-0.000000001", "9223372036854775807"], ["1E3", "0.5Ki"], ["1n", "1u"]]
        .map(|[one, two]| joined(&[one, two]))
        .into()
}
