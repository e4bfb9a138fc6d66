//! The life of pods as lists of events and what must follow from each.

use std::time::Duration;

use super::*;

fn facts(name: &str) -> Facts {
    Facts { full_name: name.into(), is_static: false, deletion_grace: None, grace: 30, is_terminal: false }
}

fn static_pod(name: &str) -> Facts {
    Facts { is_static: true, ..facts(name) }
}

fn deleted(name: &str, grace: i64) -> Facts {
    Facts { deletion_grace: Some(grace), ..facts(name) }
}

fn start(uid: &str, work: Work) -> Vec<Action> {
    vec![Action::Start(uid.into(), work)]
}

const SYNCED: Event = Event::Done(Outcome::Synced { again: None });
const TERMINATED: Event = Event::Done(Outcome::Terminated);
const CLEANED_UP: Event = Event::Done(Outcome::CleanedUp);

/// Feeds events for one pod each and compares what follows.
fn check(script: &[(&str, Event, Vec<Action>)]) -> PodWorkers {
    let mut workers = PodWorkers::default();
    for (step, (uid, event, expected)) in script.iter().enumerate() {
        assert_eq!(&workers.step(uid, event.clone()), expected, "step {step}: {uid} {event:?}");
    }
    workers
}

#[test]
fn a_whole_life() {
    let workers = check(&[
        ("a", Event::Updated(facts("n/p")), start("a", Work::Sync)),
        ("a", SYNCED, vec![]),
        ("a", Event::Woken, start("a", Work::Sync)),
        ("a", SYNCED, vec![]),
        ("a", Event::Updated(deleted("n/p", 30)), start("a", Work::Terminate { grace: 30 })),
        ("a", TERMINATED, start("a", Work::CleanUp)),
        ("a", CLEANED_UP, vec![]),
        ("a", Event::Removed { deletion_grace: Some(0) }, vec![Action::Forget("a".into())]),
    ]);
    assert!(workers.workers.is_empty());
}

#[test]
fn the_latest_update_wins_and_work_never_runs_twice_at_once() {
    check(&[
        ("a", Event::Updated(facts("n/p")), start("a", Work::Sync)),
        ("a", Event::Updated(facts("n/p")), vec![]),
        ("a", Event::Woken, vec![]),
        ("a", SYNCED, start("a", Work::Sync)),
        ("a", SYNCED, vec![]),
    ]);
}

#[test]
fn deletion_while_starting_cancels_the_start() {
    check(&[
        ("a", Event::Updated(facts("n/p")), start("a", Work::Sync)),
        ("a", Event::Updated(deleted("n/p", 5)), start("a", Work::Terminate { grace: 5 })),
    ]);
}

#[test]
fn a_grace_period_shrinks_and_never_grows() {
    check(&[
        ("a", Event::Updated(facts("n/p")), start("a", Work::Sync)),
        ("a", Event::Updated(deleted("n/p", 20)), start("a", Work::Terminate { grace: 20 })),
        ("a", Event::Updated(deleted("n/p", 25)), vec![]),
        ("a", Event::Updated(deleted("n/p", 3)), start("a", Work::Terminate { grace: 3 })),
        ("a", Event::Removed { deletion_grace: Some(0) }, start("a", Work::Terminate { grace: 1 })),
        ("a", TERMINATED, start("a", Work::CleanUp)),
        ("a", CLEANED_UP, vec![Action::Forget("a".into())]),
    ]);
}

#[test]
fn a_forced_deletion_still_asks_for_a_second() {
    check(&[
        ("a", Event::Updated(facts("n/p")), start("a", Work::Sync)),
        ("a", SYNCED, vec![]),
        ("a", Event::Removed { deletion_grace: Some(0) }, start("a", Work::Terminate { grace: 1 })),
    ]);
}

#[test]
fn nothing_restarts_a_pod_that_ends() {
    check(&[
        ("a", Event::Updated(facts("n/p")), start("a", Work::Sync)),
        ("a", Event::Done(Outcome::Completed), start("a", Work::Terminate { grace: 30 })),
        ("a", Event::Updated(facts("n/p")), vec![]),
        ("a", TERMINATED, start("a", Work::CleanUp)),
        ("a", CLEANED_UP, vec![]),
        ("a", Event::Updated(Facts { is_terminal: true, ..facts("n/p") }), vec![]),
        ("a", Event::Woken, vec![]),
    ]);
}

#[test]
fn failed_work_is_tried_again() {
    let retry = Duration::from_secs(10);
    check(&[
        ("a", Event::Updated(facts("n/p")), start("a", Work::Sync)),
        ("a", Event::Done(Outcome::Failed { retry }), vec![Action::WakeAfter("a".into(), retry)]),
        ("a", Event::Woken, start("a", Work::Sync)),
        ("a", Event::Updated(deleted("n/p", 5)), start("a", Work::Terminate { grace: 5 })),
        ("a", Event::Done(Outcome::Failed { retry }), vec![Action::WakeAfter("a".into(), retry)]),
        ("a", Event::Woken, start("a", Work::Terminate { grace: 5 })),
    ]);
}

#[test]
fn the_same_name_with_a_new_uid_is_another_pod() {
    check(&[
        ("a", Event::Updated(facts("n/p")), start("a", Work::Sync)),
        ("a", Event::Removed { deletion_grace: None }, start("a", Work::Terminate { grace: 30 })),
        ("b", Event::Updated(facts("n/p")), start("b", Work::Sync)),
        ("a", TERMINATED, start("a", Work::CleanUp)),
        ("a", CLEANED_UP, vec![Action::Forget("a".into())]),
        ("b", SYNCED, vec![]),
    ]);
}

#[test]
fn a_static_pod_waits_for_its_predecessor() {
    check(&[
        ("a", Event::Updated(static_pod("n/p")), start("a", Work::Sync)),
        ("a", Event::Removed { deletion_grace: None }, start("a", Work::Terminate { grace: 30 })),
        ("b", Event::Updated(static_pod("n/p")), vec![]),
        ("b", Event::Woken, vec![]),
        ("a", TERMINATED, start("a", Work::CleanUp)),
        ("a", CLEANED_UP, vec![Action::Forget("a".into()), Action::Start("b".into(), Work::Sync)]),
    ]);
    check(&[
        ("a", Event::Updated(static_pod("n/p")), start("a", Work::Sync)),
        ("b", Event::Updated(static_pod("n/p")), vec![]),
        ("b", Event::Removed { deletion_grace: None }, vec![Action::Forget("b".into())]),
    ]);
}

#[test]
fn a_uid_that_comes_again_lives_again_after_its_end() {
    check(&[
        ("a", Event::Updated(static_pod("n/p")), start("a", Work::Sync)),
        ("a", Event::Removed { deletion_grace: None }, start("a", Work::Terminate { grace: 30 })),
        ("a", Event::Updated(static_pod("n/p")), vec![]),
        ("a", TERMINATED, start("a", Work::CleanUp)),
        ("a", CLEANED_UP, start("a", Work::Sync)),
        ("a", SYNCED, vec![]),
    ]);
}

#[test]
fn an_eviction_ends_a_pod_that_its_source_keeps() {
    check(&[
        ("a", Event::Updated(facts("n/p")), start("a", Work::Sync)),
        ("a", Event::Kill { grace: Some(2) }, start("a", Work::Terminate { grace: 2 })),
        ("a", Event::Updated(facts("n/p")), vec![]),
        ("a", TERMINATED, start("a", Work::CleanUp)),
    ]);
}

#[test]
fn a_pod_that_is_met_terminal_or_deleted_is_only_ended() {
    let terminal = Facts { is_terminal: true, ..facts("n/p") };
    check(&[
        ("a", Event::Updated(terminal), start("a", Work::Terminate { grace: 30 })),
        ("b", Event::Updated(deleted("n/q", 0)), start("b", Work::Terminate { grace: 1 })),
    ]);
}
