//! Every kind's own rules: thousands of changed objects, sent as dry runs to both servers.
//!
//! `rules/*.rules` holds a base object a kind and what is changed in it; more cases are made from the schema table (`cases`).
//! `rules-differences.txt` counts, by kind, the cases that are known to be answered otherwise; a count only shrinks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::batch::{self, Answer, Request};
use super::cases::{self, Base, Case};
use super::{Target, mask, servers};
use crate::harness::eventually;

/// How often updates are sent again when another write came first.
const ATTEMPTS: usize = 5;

#[test]
fn every_kind_is_judged_as_upstream_judges_it() {
    let servers = servers();
    let (ours, theirs) = (servers.ours(), servers.theirs());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential");
    let (mut counts, mut report, mut sent) = (BTreeMap::new(), String::new(), 0);
    for file in super::corpus::files(&directory.join("rules"), "rules") {
        for base in cases::read(&file) {
            let (asked, lines) = compare(&base, &theirs, &ours);
            sent += asked;
            let differing = lines.iter().filter(|line| !line.starts_with(' ')).count();
            if differing > 0 {
                counts.insert(base.name.clone(), differing);
            }
            report += &lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        }
    }
    if let Ok(path) = std::env::var("CORACLE_DIFFERENTIAL_REPORT") {
        std::fs::write(path, &report).expect("the report is written");
    }
    let known = known(&directory.join("rules-differences.txt"));
    eprintln!("rules: {sent} cases, {} differ: {counts:?}", counts.values().sum::<usize>());
    let worse: Vec<_> = counts.iter().filter(|(name, count)| known.get(*name).unwrap_or(&0) < count).collect();
    let better: Vec<_> = known.iter().filter(|(name, count)| counts.get(*name).unwrap_or(&0) < count).collect();
    assert!(worse.is_empty(), "more cases than known differ from upstream (upstream | coracle): {worse:?}\n{report}");
    assert!(better.is_empty(), "fewer cases differ than rules-differences.txt says: {better:?}");
}

/// `NAME COUNT` a line.
fn known(path: &Path) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(path).expect("the list of differences is there");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').expect("NAME COUNT"))
        .map(|(name, count)| (name.to_owned(), count.parse().expect("a number")))
        .collect()
}

/// How many cases were sent, and what differs: a line for each case, its differences indented.
fn compare(base: &Base, theirs: &Target<'_>, ours: &Target<'_>) -> (usize, Vec<String>) {
    let creates: Vec<Case> = base.cases.iter().filter(|case| case.update.is_none()).cloned().collect();
    let creates: Vec<Case> = creates.into_iter().chain(base.made_creates()).collect();
    let requests: Vec<Request> = creates
        .iter()
        .map(|case| Request::new("POST", format!("{}?dryRun=All", base.path), Some(case.apply(&base.object))))
        .collect();
    let mut lines = Vec::new();
    let mut judge = |cases: &[Case], theirs: Vec<Answer>, ours: Vec<Answer>| {
        for (case, (theirs, ours)) in cases.iter().zip(theirs.into_iter().zip(ours)) {
            let differences = mask::compare_rules(&theirs, &ours);
            if !differences.is_empty() {
                lines.push(case.name.clone());
                lines.extend(differences.into_iter().map(|line| format!("  {line}")));
            }
        }
    };
    judge(&creates, batch::send(theirs, &requests), batch::send(ours, &requests));
    let stored = |target: &Target<'_>| -> Value {
        let create = Request::new("POST", base.path.clone(), Some(base.object.clone()));
        let answer = batch::send(target, &[create]).remove(0);
        assert_eq!(answer.code, 201, "{} of {} is created: {}", base.object["kind"], base.name, answer.body);
        answer.body
    };
    let (mut their_object, our_object) = (stored(theirs), stored(ours));
    if base.object["kind"] == "FlowSchema" {
        // Upstream's own controller writes the status, in its own time: then it is there for every update.
        their_object = eventually("a FlowSchema has its status", Duration::from_secs(30), || {
            let name = base.object["metadata"]["name"].as_str().expect("a base has a name");
            let get = Request::new("GET", format!("{}/{name}", base.path), None);
            let found = batch::send(theirs, &[get]).remove(0).body;
            found["status"]["conditions"].is_array().then_some(found)
        });
    }
    let updates: Vec<Case> = base.cases.iter().filter(|case| case.update.is_some()).cloned().collect();
    let updates: Vec<Case> = updates.into_iter().chain(base.made_updates(&their_object)).collect();
    let name = base.object["metadata"]["name"].as_str().expect("a base has a name");
    let change = |target: &Target<'_>, object: &Value| {
        let mut object = object.clone();
        let mut answers = Vec::new();
        for _ in 0..ATTEMPTS {
            let request = |case: &Case| {
                let part = case.update.as_deref().filter(|part| !part.is_empty());
                let part = part.map_or(String::new(), |part| format!("/{part}"));
                Request::new("PUT", format!("{}/{name}{part}?dryRun=All", base.path), Some(case.apply(&object)))
            };
            answers = batch::send(target, &updates.iter().map(request).collect::<Vec<_>>());
            // Some of upstream's controllers run in its API server, and write a first status.
            if answers.iter().all(|answer| answer.code != 409) {
                break;
            }
            object = batch::send(target, &[Request::new("GET", format!("{}/{name}", base.path), None)]).remove(0).body;
        }
        answers
    };
    judge(&updates, change(theirs, &their_object), change(ours, &our_object));
    for target in [theirs, ours] {
        batch::send(target, &[Request::new("DELETE", format!("{}/{name}?gracePeriodSeconds=0", base.path), None)]);
    }
    (creates.len() + updates.len(), lines)
}
