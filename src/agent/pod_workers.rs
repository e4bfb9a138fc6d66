//! One worker per pod UID: which work a pod needs next, as a pure state machine (upstream: pkg/kubelet/pod_workers.go).
//!
//! A pod is synced until it must end, then terminated until nothing of it runs, then cleaned up. It never goes back; a UID that
//! comes again after that starts a new life. At most one piece of work runs for a pod; the latest update wins; a grace period only shrinks.

use std::collections::HashMap;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What the state machine needs to know of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `namespace/name`: static pods of one name run one after the other, whatever their UIDs.
    pub full_name: Box<str>,
    pub is_static: bool,
    /// `deletionGracePeriodSeconds` of a pod whose deletion has begun.
    pub deletion_grace: Option<i64>,
    /// `terminationGracePeriodSeconds`
    pub grace: i64,
    /// Its phase in the API is Succeeded or Failed.
    pub is_terminal: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The pod is in its source, in this form.
    Updated(Facts),
    /// The pod is in no source any more; the grace period of its last form, where that had one.
    Removed { deletion_grace: Option<i64> },
    /// The node wants it to end (eviction); `None` is the pod's own grace period.
    Kill { grace: Option<i64> },
    /// Something happened to it: a container ended, a volume's source changed, a delay is over.
    Woken,
    /// The work that was started last has ended.
    Done(Outcome),
}

/// How a piece of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As far as it can be for now; `again` says when time alone will have changed that.
    Synced { again: Option<Duration> },
    /// Every container has ended for good.
    Completed,
    /// Not done; to be tried again after this.
    Failed { retry: Duration },
    /// Nothing of the pod runs any more.
    Terminated,
    /// Volumes and cgroup are gone too, and the API knows.
    CleanedUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Sync,
    /// Stop everything within this many seconds.
    Terminate {
        grace: i64,
    },
    CleanUp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Begin this work. Whatever still runs for the pod is cancelled first and its outcome does not count.
    Start(Box<str>, Work),
    /// Send `Woken` after this, unless it is woken earlier.
    WakeAfter(Box<str>, Duration),
    /// The pod is over; nothing of it is remembered.
    Forget(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Syncing,
    Terminating,
    Terminated,
    /// Kept until the source drops the pod, so that a late update does not start it again.
    Finished,
}

#[derive(Debug)]
struct Worker {
    facts: Facts,
    phase: Phase,
    /// Of the termination that has begun.
    grace: i64,
    /// Its source has dropped it.
    is_removed: bool,
    /// It came again, under the same UID, after its source had dropped it.
    is_restart_wanted: bool,
    is_started: bool,
    is_working: bool,
    /// Something happened while it was worked on.
    is_dirty: bool,
}

/// The workers of a node. `step` is the only way in.
#[derive(Debug, Default)]
pub struct PodWorkers {
    workers: HashMap<Box<str>, Worker>,
}

impl PodWorkers {
    /// Whether a worker of the pod exists that is not finished.
    pub fn is_active(&self, uid: &str) -> bool {
        self.workers.get(uid).is_some_and(|worker| worker.phase != Phase::Finished)
    }

    /// Whether the pod's end has begun.
    pub fn is_ending(&self, uid: &str) -> bool {
        self.workers.get(uid).is_some_and(|worker| worker.phase != Phase::Syncing)
    }

    pub fn step(&mut self, uid: &str, event: Event) -> Vec<Action> {
        let Some(worker) = self.workers.get_mut(uid) else {
            let Event::Updated(facts) = event else { return Vec::new() };
            self.workers.insert(uid.into(), Worker::new(facts));
            return self.next(uid);
        };
        match event {
            Event::Updated(facts) => {
                if worker.is_removed {
                    worker.is_restart_wanted = true;
                    worker.facts = facts;
                    return Vec::new();
                }
                worker.facts = facts;
                let end = worker.facts.deletion_grace.is_some() || worker.facts.is_terminal;
                if end { self.end(uid, None) } else { self.next(uid) }
            }
            Event::Removed { deletion_grace } => {
                worker.is_removed = true;
                worker.is_restart_wanted = false;
                if worker.phase == Phase::Finished {
                    return self.finish(uid);
                }
                self.end(uid, deletion_grace)
            }
            Event::Kill { grace } => self.end(uid, grace),
            Event::Woken => self.next(uid),
            Event::Done(outcome) => self.done(uid, outcome),
        }
    }

    /// The pod must end, or end sooner.
    fn end(&mut self, uid: &str, wanted: Option<i64>) -> Vec<Action> {
        let Some(worker) = self.workers.get_mut(uid) else { return Vec::new() };
        let wanted = worker.effective_grace(wanted);
        match worker.phase {
            Phase::Syncing => {
                worker.phase = Phase::Terminating;
                worker.grace = wanted;
            }
            Phase::Terminating if wanted < worker.grace => worker.grace = wanted,
            Phase::Terminating | Phase::Terminated | Phase::Finished => return Vec::new(),
        }
        if !worker.is_started && worker.facts.is_static {
            // It still waits for its predecessor: there is nothing to end.
            return self.finish(uid);
        }
        worker.is_working = false;
        self.next(uid)
    }

    fn done(&mut self, uid: &str, outcome: Outcome) -> Vec<Action> {
        let Some(worker) = self.workers.get_mut(uid) else { return Vec::new() };
        worker.is_working = false;
        match outcome {
            Outcome::Synced { again } => {
                if worker.is_dirty {
                    return self.next(uid);
                }
                again.map(|delay| Action::WakeAfter(uid.into(), delay)).into_iter().collect()
            }
            Outcome::Failed { retry } => {
                if worker.is_dirty && worker.phase == Phase::Syncing {
                    return self.next(uid);
                }
                vec![Action::WakeAfter(uid.into(), retry)]
            }
            Outcome::Completed => self.end(uid, None),
            Outcome::Terminated => {
                worker.phase = Phase::Terminated;
                self.next(uid)
            }
            Outcome::CleanedUp => self.finish(uid),
        }
    }

    /// Starts what the pod's phase asks for, unless that runs already.
    fn next(&mut self, uid: &str) -> Vec<Action> {
        if self.must_wait(uid) {
            return Vec::new();
        }
        let Some(worker) = self.workers.get_mut(uid) else { return Vec::new() };
        if worker.is_working {
            worker.is_dirty = true;
            return Vec::new();
        }
        let work = match worker.phase {
            Phase::Syncing => Work::Sync,
            Phase::Terminating => Work::Terminate { grace: worker.grace },
            Phase::Terminated => Work::CleanUp,
            Phase::Finished => return Vec::new(),
        };
        worker.is_started = true;
        worker.is_working = true;
        worker.is_dirty = false;
        vec![Action::Start(uid.into(), work)]
    }

    /// A static pod waits until its predecessor of the same name is over.
    fn must_wait(&self, uid: &str) -> bool {
        let Some(worker) = self.workers.get(uid) else { return true };
        worker.facts.is_static
            && !worker.is_started
            && self.workers.iter().any(|(other, predecessor)| {
                **other != *uid
                    && predecessor.is_started
                    && predecessor.phase != Phase::Finished
                    && predecessor.facts.is_static
                    && predecessor.facts.full_name == worker.facts.full_name
            })
    }

    fn finish(&mut self, uid: &str) -> Vec<Action> {
        let Some(worker) = self.workers.get_mut(uid) else { return Vec::new() };
        worker.phase = Phase::Finished;
        worker.is_working = false;
        let mut actions = Vec::new();
        if worker.is_restart_wanted {
            let facts = worker.facts.clone();
            self.workers.insert(uid.into(), Worker::new(facts));
            actions.extend(self.next(uid));
        } else if worker.is_removed {
            self.workers.remove(uid);
            actions.push(Action::Forget(uid.into()));
        }
        let mut waiting: Vec<Box<str>> =
            self.workers.iter().filter(|(_, worker)| worker.is_waiting()).map(|(uid, _)| uid.clone()).collect();
        waiting.sort();
        actions.extend(waiting.iter().flat_map(|uid| self.next(uid)));
        actions
    }
}

impl Worker {
    fn new(facts: Facts) -> Self {
        let ends = facts.deletion_grace.is_some() || facts.is_terminal;
        let mut worker = Self {
            facts,
            phase: if ends { Phase::Terminating } else { Phase::Syncing },
            grace: 0,
            is_removed: false,
            is_restart_wanted: false,
            is_started: false,
            is_working: false,
            is_dirty: false,
        };
        worker.grace = worker.effective_grace(None);
        worker
    }

    /// Seconds, at least one: a container is always asked before it is killed.
    fn effective_grace(&self, wanted: Option<i64>) -> i64 {
        let own = self.facts.deletion_grace.unwrap_or(self.facts.grace);
        wanted.map_or(own, |wanted| wanted.min(own)).max(1)
    }

    fn is_waiting(&self) -> bool {
        self.phase == Phase::Syncing && !self.is_started
    }
}
