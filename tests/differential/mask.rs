//! Compares two answers after masking what must differ: times, uids and revisions.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::batch;
use super::corpus::Answer;

/// Fields whose presence is compared, but not their value.
const MASKED: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "time",
    "deletionTimestamp",
    "continue",
    "lastTransitionTime",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "generateName",
    "hash",
    "healthCheckNodePort",
    "serverAddress",
    "gitCommit",
    "buildDate",
    "goVersion",
    "platform",
    // What /version tells of the program itself: coracle names itself there, and its compiler.
    "gitVersion",
    "gitTreeState",
    "compiler",
];

/// Headers that are compared, besides the presence of an ETag.
const HEADERS: [&str; 6] = ["content-type", "cache-control", "warning", "allow", "retry-after", "vary"];

/// Fields that are not compared: prose, which coracle's tables do not hold.
const SKIPPED: &[&str] = &["description"];

/// What must differ inside of texts: uids, times, revisions, and the addresses and ports that were picked at random.
static IN_TEXTS: LazyLock<[(Regex, &str); 10]> = LazyLock::new(|| {
    [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r#"resourceVersion(\\*)":(\\*)"\d+"#, "REVISION"),
        (r"\b10\.43\.\d+\.\d{2,3}\b", "ADDRESS"),
        (r"\b3[0-2]\d{3}\b", "PORT"),
        (r"current: \d+", "CURRENT"),
        (r"in record \(\d+\)", "RECORD"),
        // Objects in messages: upstream prints them in the order of its Go structs' fields.
        (r#"Invalid value: (\\*")?\{.*\}(\\*")?: "#, "OBJECT"),
        (r"Invalid value: \[\{.*\}\]: ", "OBJECTS"),
        // The age in a table's row: the two servers are asked one after the other.
        (r#"^"\d+s"$"#, "AGE"),
    ]
    .map(|(pattern, name)| (Regex::new(pattern).expect("the pattern is constant"), name))
});

/// The differences, one a line: `path: upstream | coracle`.
pub fn compare(theirs: &Answer, ours: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    if theirs.code != ours.code {
        lines.push(format!("code: {} | {}", theirs.code, ours.code));
    }
    for name in HEADERS {
        let (left, right) = (masked(&theirs.header(name)), masked(&said(ours, name)));
        if left != right {
            lines.push(format!("{name}: {left:?} | {right:?}"));
        }
    }
    if theirs.headers.contains_key("etag") != ours.headers.contains_key("etag") {
        lines.push(format!("etag: {:?} | {:?}", theirs.header("etag"), ours.header("etag")));
    }
    match (tree(&theirs.body), tree(&ours.body)) {
        (Some(theirs), Some(ours)) => differ("", &theirs, &ours, &mut lines),
        (None, None) if theirs.body != ours.body => {
            lines.push(format!("body: {:?} | {:?}", short(&theirs.body), short(&ours.body)))
        }
        (None, None) => {}
        _ => lines.push(format!("body: {:?} | {:?}", short(&theirs.body), short(&ours.body))),
    }
    lines
}

/// The differences of two judgements on one object: code, reason, causes and warnings, or the object that would be stored.
/// The causes may stand in any order; a text that shows Go's structs is compared in its first line.
pub fn compare_rules(theirs: &batch::Answer, ours: &batch::Answer) -> Vec<String> {
    let mut lines = Vec::new();
    if theirs.code != ours.code {
        lines.push(format!("code: {} | {}", theirs.code, ours.code));
    }
    let (causes, other) = (causes_of(&theirs.body), causes_of(&ours.body));
    lines.extend(causes.iter().filter(|cause| !other.contains(cause)).map(|cause| format!("- {}", short(cause))));
    lines.extend(other.iter().filter(|cause| !causes.contains(cause)).map(|cause| format!("+ {}", short(cause))));
    if lines.is_empty() && causes.len() != other.len() {
        lines.push(format!("causes: {} | {}", causes.len(), other.len()));
    }
    let own = |text: &&String| !text.contains("coracle");
    let warnings: Vec<&String> = ours.warnings.iter().filter(own).collect();
    if theirs.warnings.iter().collect::<Vec<_>>() != warnings {
        lines.push(format!("warnings: {:?} | {warnings:?}", theirs.warnings));
    }
    if lines.is_empty() && causes.is_empty() {
        differ("", &without_message(&theirs.body), &without_message(&ours.body), &mut lines);
    }
    lines
}

/// The first line of a message: what follows shows differences between Go's structs.
fn without_message(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(Value::String(message)) = body.get_mut("message") {
        *message = first_line(message).to_owned();
    }
    body
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn causes_of(body: &Value) -> Vec<String> {
    let text = |cause: &Value, field: &str| cause[field].as_str().map(first_line).unwrap_or_default().to_owned();
    let list = body["details"]["causes"].as_array().into_iter().flatten();
    let lines = list.map(|cause| {
        [text(cause, "field"), text(cause, "reason"), masked(&without_struct(&text(cause, "message")))].join(" | ")
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

/// A cause that shows a struct or a list names only that: upstream prints Go's own structs there, whose fields are not the API's.
fn without_struct(message: &str) -> String {
    let Some((start, rest)) = message.split_once(" value: ") else { return message.to_owned() };
    if !rest.starts_with(['{', '[']) && !rest.starts_with("null") {
        return message.to_owned();
    }
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    match values.next() {
        Some(Ok(_)) => format!("{start} value: STRUCT{}", &rest[values.byte_offset()..]),
        _ => message.to_owned(),
    }
}

fn masked(text: &str) -> String {
    IN_TEXTS.iter().fold(text.to_owned(), |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
}

/// What coracle says of itself, beside the answer, is left out.
fn said(ours: &Answer, name: &str) -> String {
    let own = |value: &&String| !value.contains("\"coracle does not ");
    let values = ours.headers.get(name).into_iter().flatten().filter(own);
    values.cloned().collect::<Vec<_>>().join(" | ")
}

/// A document, or the documents of a stream as one array.
fn tree(body: &str) -> Option<Value> {
    let documents = serde_json::Deserializer::from_str(body).into_iter();
    let mut documents = documents.collect::<Result<Vec<Value>, _>>().ok()?;
    if documents.len() > 1 {
        return Some(Value::Array(documents));
    }
    let mut tree = documents.pop()?;
    sort_managers(&mut tree);
    if let Some(causes) = tree.pointer_mut("/details/causes").and_then(Value::as_array_mut) {
        causes.sort_by_key(Value::to_string);
    }
    Some(tree)
}

/// Upstream sorts them by time, which is another when the clock goes on between two requests.
fn sort_managers(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            if let Some(Value::Array(managers)) = fields.get_mut("managedFields") {
                let order = |entry: &Value| ["manager", "operation", "subresource"].map(|name| entry[name].to_string());
                managers.sort_by_key(order);
            }
            fields.values_mut().for_each(sort_managers);
        }
        Value::Array(items) => items.iter_mut().for_each(sort_managers),
        _ => {}
    }
}

fn differ(path: &str, theirs: &Value, ours: &Value, lines: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, value) in left.iter().filter(|(key, _)| !SKIPPED.contains(&key.as_str())) {
                match right.get(key) {
                    Some(_) if MASKED.contains(&key.as_str()) => {}
                    Some(other) => differ(&format!("{path}.{key}"), value, other, lines),
                    None => lines.push(format!("{path}.{key}: {} | absent", short(&value.to_string()))),
                }
            }
            for (key, value) in
                right.iter().filter(|(key, _)| !left.contains_key(*key) && !SKIPPED.contains(&key.as_str()))
            {
                lines.push(format!("{path}.{key}: absent | {}", short(&value.to_string())));
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (value, other)) in left.iter().zip(right).enumerate() {
                differ(&format!("{path}[{index}]"), value, other, lines);
            }
        }
        _ if theirs == ours || masked(&theirs.to_string()) == masked(&ours.to_string()) => {}
        _ => lines.push(format!("{path}: {} | {}", short(&theirs.to_string()), short(&ours.to_string()))),
    }
}

/// Long texts differ at their ends as often as at their beginnings.
fn short(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= 400 {
        return text.to_owned();
    }
    let part = |characters: &[char]| characters.iter().collect::<String>();
    format!("{} … {}", part(&characters[..250]), part(&characters[characters.len() - 150..]))
}
