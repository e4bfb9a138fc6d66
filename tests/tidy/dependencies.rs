//! Holds what dependencies may be: under which licences, from where, and which may stand in the tree twice.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Nothing that asks more of a user of the binary than to keep a notice.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// The older of two versions, and who holds it back.
const TWICE: &[(&str, &str)] = &[
    ("base64", "tonic, tower-http"),
    ("foldhash", "hashbrown 0.15"),
    ("getrandom", "ring"),
    ("hashbrown", "build dependencies of tonic-prost-build"),
    ("prettyplease", "prost-build"),
    ("syn", "half of all derives"),
    ("synstructure", "asn1-rs of x509-parser"),
    ("unicode-width", "miette of protox"),
    ("windows-sys", "ring; not for Linux"),
];

/// One way for each job; these are the others.
const NEVER: &[(&str, &str)] =
    &[("openssl-sys", "rustls everywhere"), ("aws-lc-sys", "ring is the one provider"), ("serde_yaml", "archived")];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What is not of this workspace.
fn foreign() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(super::root())
        .output()
        .expect("cargo runs");
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].take();
    let Value::Array(packages) = packages else { panic!("packages are a list") };
    packages.into_iter().filter(|package| !package["source"].is_null()).collect()
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

/// Every part that holds at the same time has an alternative that is allowed.
fn is_allowed(licence: &str) -> bool {
    let licence = licence.replace(['(', ')'], "").replace(" / ", " OR ").replace('/', " OR ");
    licence.split(" AND ").all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

#[test]
fn dependencies_are_of_known_licences_and_places() {
    let broken: Vec<String> = foreign()
        .iter()
        .filter(|package| !is_allowed(text(package, "license")) || text(package, "source") != REGISTRY)
        .map(|package| format!("{} {} {}", text(package, "name"), text(package, "license"), text(package, "source")))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn dependencies_stand_in_the_tree_once() {
    let packages = foreign();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &packages {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    let twice: BTreeSet<&str> = versions.iter().filter(|(_, all)| all.len() > 1).map(|(name, _)| *name).collect();
    let known: BTreeSet<&str> = TWICE.iter().map(|(name, _)| *name).collect();
    assert_eq!(twice, known, "left: two versions in the tree; right: those that TWICE gives a reason for");
    let never: Vec<_> = NEVER.iter().filter(|(name, _)| versions.contains_key(name)).collect();
    assert!(never.is_empty(), "{never:?}");
}
