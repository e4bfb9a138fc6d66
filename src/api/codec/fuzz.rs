//! Zero, nil, empty and random values of every kind against Go's own codecs (`generate/fuzz`).
//!
//! CORACLE_FUZZ_SEED chooses other random values than those of seed 1.

use std::path::Path;

use base64::Engine;
use serde::Deserialize;
use serde_json::Value;

use super::*;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    group: String,
    version: String,
    kind: String,
    mode: String,
    input: String,
    #[serde(rename = "JSON")]
    json: String,
    again: String,
    wire: String,
}

#[test]
fn go_and_we_agree_on_every_kind() {
    let output = std::process::Command::new("go")
        .args(["run", "-trimpath", "./fuzz", &std::env::var("CORACLE_FUZZ_SEED").unwrap_or_else(|_| "1".to_owned())])
        .env("CGO_ENABLED", "0") // as tests/upstream builds: they share a build cache
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("generate"))
        .output()
        .expect("the tests need Go on PATH");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut wrong = Vec::new();
    let mut compared = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        // Options are registered in every group; the table has them once.
        let Some(ty) = Schema::everything().of_kind(&line.group, &line.version, &line.kind) else {
            assert!(
                line.kind.ends_with("Options")
                    || line.kind == "WatchEvent"
                    || line.kind.starts_with("API")
                    || line.kind == "Status"
                    || line.kind == "List",
                "{}",
                line.kind
            );
            continue;
        };
        compared += 1;
        if let Err(error) = compare(ty, &line) {
            wrong.push(format!("{}/{} {} {}: {error}", line.group, line.version, line.kind, line.mode));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(compared > 2_000, "{compared}");
}

fn compare(ty: Type<'_>, line: &Line) -> Result<(), String> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
    let (json, again) = (parse(&line.json)?, parse(&line.again)?);
    let wire = base64::engine::general_purpose::STANDARD.decode(&line.wire).map_err(|error| error.to_string())?;
    let decoded = super::json::decode(ty, line.input.as_bytes()).map_err(|error| format!("input: {error}"))?;
    same("input", &decoded.value, &json)?;
    if !decoded.strict.is_empty() {
        return Err(decoded.strict.join(", "));
    }
    let twice = normalise(ty, &json).map_err(|error| error.to_string())?;
    same("normal again", &twice.value, &json)?;
    if protobuf::message(ty, &json).map_err(|error| format!("wire: {error}"))? != wire {
        return Err(format!("wire differs for {}", line.json));
    }
    let envelope = protobuf::envelop(&TypeMeta::default(), &wire);
    let back = protobuf::decode(ty, &envelope).map_err(|error| format!("from wire: {error}"))?;
    same("from wire", &back, &again)
}

fn same(what: &str, found: &Value, expected: &Value) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {}", super::tests::first_difference("", found, expected)))
}
