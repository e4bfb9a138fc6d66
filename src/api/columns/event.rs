//! Cells of events, in both of their forms.

use serde_json::Value;

use super::{Now, age};
use crate::node::Node;

/// The first of several fields that is set: the two event APIs name the same things differently.
fn first<'v>(event: Node<'v, '_>, paths: &[&[&str]]) -> &'v str {
    let read = |path: &&[&str]| {
        let mut at = event.value()?;
        for name in path.iter() {
            at = at.get(name)?;
        }
        at.as_str().filter(|text| !text.is_empty())
    };
    paths.iter().find_map(read).unwrap_or_default()
}

const FIRST_SEEN: &[&[&str]] = &[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]];

pub(super) fn last_seen(event: Node<'_, '_>, now: &Now) -> Value {
    let own: &[&[&str]] = &[&["series", "lastObservedTime"], &["lastTimestamp"], &["deprecatedLastTimestamp"]];
    let time = match first(event, own) {
        "" => first(event, FIRST_SEEN),
        time => time,
    };
    age::since(time, now).into()
}

pub(super) fn first_seen(event: Node<'_, '_>, now: &Now) -> Value {
    age::since(first(event, FIRST_SEEN), now).into()
}

pub(super) fn count(event: Node<'_, '_>, _: &Now) -> Value {
    let series = event.get("series");
    let count = if series.is_present() {
        series.get("count").int()
    } else {
        event.get("count").int().or(event.get("deprecatedCount").int()).filter(|count| *count != 0).or(Some(1))
    };
    count.unwrap_or_default().into()
}

pub(super) fn object(event: Node<'_, '_>, _: &Now) -> Value {
    let kind = first(event, &[&["involvedObject", "kind"], &["regarding", "kind"]]).to_lowercase();
    match first(event, &[&["involvedObject", "name"], &["regarding", "name"]]) {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

pub(super) fn subobject(event: Node<'_, '_>, _: &Now) -> Value {
    first(event, &[&["involvedObject", "fieldPath"], &["regarding", "fieldPath"]]).into()
}

pub(super) fn source(event: Node<'_, '_>, _: &Now) -> Value {
    let component = first(
        event,
        &[
            &["source", "component"],
            &["deprecatedSource", "component"],
            &["reportingComponent"],
            &["reportingController"],
        ],
    );
    match first(event, &[&["source", "host"], &["deprecatedSource", "host"], &["reportingInstance"]]) {
        "" => component.into(),
        instance => format!("{component}, {instance}").into(),
    }
}

pub(super) fn message(event: Node<'_, '_>, _: &Now) -> Value {
    first(event, &[&["message"], &["note"]]).trim().into()
}
