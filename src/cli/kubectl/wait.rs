//! `kubectl wait`: until a condition holds or an object is gone, told by a watch.

use std::process::ExitCode;
use std::time::Duration;

use coracle_client::path;
use futures::AsyncBufReadExt;
use serde_json::Value;

use super::line::Line;
use super::session::Session;
use super::target::{self, display, with_query};
use crate::Failure;

/// What `--for` asks for.
#[derive(Debug, PartialEq)]
enum For {
    Delete,
    Create,
    Condition { kind: String, status: String },
}

pub async fn run(session: &Session, line: &Line) -> Result<ExitCode, Failure> {
    let wanted = parse(line.value("for").unwrap_or_default())?;
    let limit = duration(line.value("timeout").unwrap_or("30s"))?;
    let mut objects = Vec::new();
    for target in target::parse(&line.words)? {
        if target.names.is_empty() {
            let selector = line.value("selector").unwrap_or_default();
            if selector.is_empty() && !line.is_set("all") {
                return Err(Failure::usage("name the objects to wait for, or use -l or --all"));
            }
            let request =
                target::collection(&target.resource, Some(&session.namespace), &[("labelSelector", selector)]);
            let list = session.get(&request, "application/json").await?;
            let names =
                list["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str());
            objects.extend(names.map(|name| (target.resource.clone(), name.to_owned())));
        } else {
            objects.extend(target.names.into_iter().map(|name| (target.resource.clone(), name)));
        }
    }
    if objects.is_empty() {
        return Err(anyhow::anyhow!("no matching resources found").into());
    }
    let wait = async {
        for (resource, name) in &objects {
            let request = path::object(resource, &session.namespace, name);
            until(session, &request, |object| wanted.holds(object)).await?;
            let done = if wanted == For::Delete { "deleted" } else { "condition met" };
            println!("{} {done}", display(resource, name));
        }
        Ok(ExitCode::SUCCESS)
    };
    tokio::time::timeout(limit, wait)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("timed out waiting for the condition").into()))
}

/// Waits until the object with this UID is gone.
pub async fn gone(session: &Session, request: &str, uid: &str) -> Result<(), Failure> {
    until(session, request, |object| object.is_none_or(|object| object["metadata"]["uid"] != uid)).await
}

/// Looks at the object, and again after each of its changes, until `holds`.
async fn until(session: &Session, request: &str, holds: impl Fn(Option<&Value>) -> bool) -> Result<(), Failure> {
    let (collection, name) = request.rsplit_once('/').expect("a path of an object has a name");
    loop {
        let object = session.find(request).await?;
        if holds(object.as_ref()) {
            return Ok(());
        }
        let version =
            object.as_ref().and_then(|object| object["metadata"]["resourceVersion"].as_str()).unwrap_or_default();
        let selector = format!("metadata.name={name}");
        let watch = [("watch", "true"), ("fieldSelector", &selector), ("resourceVersion", version)];
        let mut events = session.stream(&with_query(collection.to_owned(), &watch)).await?;
        let mut event = String::new();
        while events.read_line(&mut event).await? > 0 {
            let mut change: Value = serde_json::from_str(&event)?;
            let object = match change["type"].as_str() {
                Some("ADDED" | "MODIFIED") => Some(change["object"].take()),
                Some("DELETED") => None,
                // The watch has to begin anew.
                _ => break,
            };
            if holds(object.as_ref()) {
                return Ok(());
            }
            event.clear();
        }
    }
}

impl For {
    fn holds(&self, object: Option<&Value>) -> bool {
        match self {
            For::Delete => object.is_none(),
            For::Create => object.is_some(),
            For::Condition { kind, status } => {
                let conditions = object.and_then(|object| object["status"]["conditions"].as_array());
                let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
                let matches =
                    |condition: &Value| text(&condition["type"]) == *kind && text(&condition["status"]) == *status;
                conditions.into_iter().flatten().any(matches)
            }
        }
    }
}

fn parse(text: &str) -> Result<For, Failure> {
    let lower = text.to_lowercase();
    match lower.split_once('=') {
        None if lower == "delete" => Ok(For::Delete),
        None if lower == "create" => Ok(For::Create),
        Some(("condition", condition)) => {
            let (kind, status) = condition.split_once('=').unwrap_or((condition, "true"));
            Ok(For::Condition { kind: kind.to_owned(), status: status.to_owned() })
        }
        _ => {
            Err(Failure::usage(format!("--for {text:?} is not built in: use delete, create or condition=NAME[=VALUE]")))
        }
    }
}

/// `90s`, `5m`, `1h`; a negative one stands for a week, zero for no waiting at all.
fn duration(text: &str) -> Result<Duration, Failure> {
    let wrong = || Failure::usage(format!("--timeout {text}: not a duration like 30s, 5m or 1h"));
    let (number, unit) = text.split_at(text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len()));
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(u64::try_from(number).map_or(7 * 24 * 3600, |number| number.saturating_mul(seconds))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_read_and_judged() {
        let object = json!({ "status": { "conditions": [{ "type": "Available", "status": "True" }] } });
        for (text, here, absent) in [
            ("condition=Available", true, false),
            ("condition=available=false", false, false),
            ("delete", false, true),
            ("create", true, false),
        ] {
            let wanted = parse(text).unwrap();
            assert_eq!((wanted.holds(Some(&object)), wanted.holds(None)), (here, absent), "{text}");
        }
        assert!(parse("jsonpath={.x}=1").is_err());
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(duration("-1s").unwrap(), Duration::from_secs(604_800));
        assert!(duration("soon").is_err());
    }
}
