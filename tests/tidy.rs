//! Holds what clippy cannot: dependency direction, file heads and sizes, names of files.

mod dependencies;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which rooms each room may see; everything may see `base`.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("api", &[]),
    ("cel", &["api"]),
    ("store", &[]),
    ("streams", &[]),
    ("client", &["api"]),
    ("apiserver", &["api", "cel", "store", "client", "streams"]),
    ("controllers", &["api", "client", "streams"]),
    ("scheduler", &["api", "client", "streams"]),
    ("agent", &["api", "client", "streams"]),
    ("network", &["api", "client", "streams"]),
    ("fuzz", &["api", "store", "client", "apiserver", "streams", "agent", "network", "cli"]),
    (
        "server",
        &["api", "cel", "store", "client", "streams", "apiserver", "controllers", "scheduler", "agent", "network"],
    ),
    (
        "cli",
        &[
            "api",
            "cel",
            "store",
            "client",
            "streams",
            "apiserver",
            "controllers",
            "scheduler",
            "agent",
            "network",
            "server",
        ],
    ),
];

const LINES_AT_MOST: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn rooms_see_only_what_the_map_allows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let allowed: BTreeMap<&str, &[&str]> = MAY_SEE.iter().copied().collect();
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let Some(room) = package["name"].as_str().expect("a name").strip_prefix("coracle-") else { continue };
        let Some(may_see) = allowed.get(room) else {
            broken.push(format!("room {room} is not on the map"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let Some(other) = dependency["name"].as_str().expect("a name").strip_prefix("coracle-") else { continue };
            let only_in_tests = dependency["kind"].as_str() == Some("dev");
            if other != "base" && !only_in_tests && !may_see.contains(&other) {
                broken.push(format!("{room} must not see {other}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let broken: Vec<_> =
        rust_files().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    assert!(broken.is_empty(), "files without a `//!` head: {broken:#?}");
}

#[test]
fn no_file_is_crowded() {
    let broken: Vec<_> = rust_files()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("tests.rs") && !path.components().any(|part| part.as_os_str() == "tests"))
        .map(|(path, text)| (path, production_lines(&text)))
        .filter(|(_, lines)| *lines > LINES_AT_MOST)
        .collect();
    assert!(broken.is_empty(), "split these (lines without tests): {broken:#?}");
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let empty = ["mod.rs", "utils.rs", "util.rs", "common.rs", "misc.rs", "helpers.rs"];
    let broken: Vec<_> = rust_files()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| empty.iter().any(|name| path.file_name().is_some_and(|file| file == *name)))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn unsafe_code_stays_in_the_sys_rooms() {
    let broken: Vec<_> = rust_files()
        .into_iter()
        .filter(|(path, text)| {
            let allowed =
                path.components().any(|part| matches!(part.as_os_str().to_str(), Some("sys" | "sys.rs" | "tests")));
            !allowed && text.lines().any(|line| line.contains("allow(unsafe_code)"))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Lines before the file's own `mod tests`.
fn production_lines(text: &str) -> usize {
    text.lines().take_while(|line| *line != "mod tests {").count()
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![root().join("src"), root().join("tests")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("the directory is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("it is UTF-8");
                found.push((path.strip_prefix(root()).expect("under the root").to_owned(), text));
            }
        }
    }
    assert!(found.len() > 10, "the tree was found");
    found
}
