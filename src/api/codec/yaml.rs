//! YAML by way of JSON, as upstream does it.
//!
//! Upstream: sigs.k8s.io/yaml YAMLToJSON. Aliases, nesting and size are bounded by the parser's budget
//! (64 levels: its frames are large, and a worker's stack is 2 MiB).

use serde_json::Value;
use serde_yaml::{DuplicateKeyPolicy, Options};

use super::{DecodeError, Decoded, EncodeError};
use crate::schema::Type;

/// YAML made JSON.
pub struct Converted {
    pub json: Vec<u8>,
    /// What upstream says of a key that stands twice in a mapping; the last one counts.
    pub duplicate: Option<String>,
}

/// The first document as JSON.
pub fn to_json(bytes: &[u8]) -> Result<Converted, DecodeError> {
    let (value, duplicate) = match parse(bytes, DuplicateKeyPolicy::Error) {
        Ok(value) => (value, None),
        // Read again: either the error is of another kind and comes again, or it was about a duplicate.
        Err(first) => (parse(bytes, DuplicateKeyPolicy::LastWins).map_err(syntax)?, Some(duplicate(&first))),
    };
    let json = serde_json::to_vec(&whole(value)).map_err(|error| syntax(error.to_string()))?;
    Ok(Converted { json, duplicate })
}

/// The parser's `line 7 column 3: duplicate mapping key: a, set ...` in upstream's words.
fn duplicate(text: &str) -> String {
    let line = text.split_whitespace().nth(1).unwrap_or_default();
    let key = text.split_once("key: ").map_or(text, |(_, rest)| rest.split(", set ").next().unwrap_or(rest));
    format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map")
}

fn parse(bytes: &[u8], duplicate_keys: DuplicateKeyPolicy) -> Result<Value, String> {
    let options: Options = serde_yaml::options! {
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
    };
    serde_yaml::from_slice_with_options(bytes, options).map_err(|error| {
        // Behind the first line stands a picture of the place.
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

/// Floats without a fraction as Go prints them in JSON: `replicas: 1.0` is an integer.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            number.as_f64().and_then(super::json::float).unwrap_or(Value::Number(number))
        }
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, whole(value))).collect(),
        other => other,
    }
}

fn syntax(text: String) -> DecodeError {
    DecodeError::Syntax(format!("yaml: {text}"))
}

/// Decodes an object of a type.
pub fn decode(ty: Type<'_>, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let converted = to_json(bytes)?;
    let mut decoded = super::json::decode(ty, &converted.json)?;
    if let Some(text) = converted.duplicate {
        decoded.strict.insert(0, text);
    }
    Ok(decoded)
}

/// YAML with sorted keys.
pub fn encode(value: &Value) -> Result<Vec<u8>, EncodeError> {
    serde_yaml::to_string(value).map(String::into_bytes).map_err(|error| EncodeError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected are the answers of sigs.k8s.io/yaml YAMLToJSON.
    #[test]
    fn scalars_are_what_upstream_reads() {
        for (text, json) in [
            ("yes", "true"),
            ("Off", "false"),
            ("\"yes\"", "\"yes\""),
            ("010", "8"),
            ("0o10", "8"),
            ("1_000", "1000"),
            ("1e3", "1000"),
            ("1.0", "1"),
            (".5", "0.5"),
            ("~", "null"),
            ("2020-01-01", "\"2020-01-01\""),
            ("12345678901234567890", "12345678901234567890"),
        ] {
            let converted = to_json(format!("a: {text}").as_bytes()).expect("YAML");
            assert_eq!(String::from_utf8(converted.json).expect("JSON"), format!("{{\"a\":{json}}}"), "{text}");
        }
    }

    #[test]
    fn errors_are_one_line() {
        let Err(error) = to_json(b"a: [1\nb: {") else { panic!("it is no YAML") };
        assert!(error.to_string().starts_with("yaml: ") && !error.to_string().contains('\n'), "{error}");
    }

    #[test]
    fn a_key_that_stands_twice_is_told() {
        let converted = to_json(b"a: 1\na: 2\n").expect("YAML");
        assert_eq!(converted.json, b"{\"a\":2}");
        assert!(
            converted
                .duplicate
                .is_some_and(|text| text == "yaml: unmarshal errors:\n  line 2: key \"a\" already set in map")
        );
    }
}
