//! What to do for a StatefulSet next: a pure function of it, its pods and the time.
//!
//! Upstream: updateStatefulSet in pkg/controller/statefulset/stateful_set_control.go.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{REVISION, pod};
use crate::percent::scaled;
use crate::pod_control::Known;
use crate::pods::{Phase, PodView};

#[derive(Debug)]
pub(super) enum Step {
    /// `updated`: of the newest revision, not of the current one.
    Create {
        ordinal: i32,
        updated: bool,
    },
    Delete(Known),
    /// Make claims that a waiting pod lacks.
    Claims(Known),
    /// Bring the owners of a pod's claims in line with the retention policy.
    Own(Known),
    /// Give a pod the labels of its identity.
    Name(Known),
}

pub(super) struct Situation<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) pods: &'a [Known],
    /// Names of revisions.
    pub(super) current: &'a str,
    pub(super) update: &'a str,
    /// Seconds since the epoch.
    now: i64,
    start: i32,
    pub(super) replicas: i32,
}

/// The name of the pod's revision.
pub(super) fn revision(pod: &PodView) -> Option<&str> {
    pod.labels.iter().find(|(key, _)| &**key == REVISION).map(|(_, value)| &**value)
}

fn ordinal(pod: &Known) -> i32 {
    pod::split(&pod.key.name).map_or(-1, |(_, ordinal)| ordinal)
}

/// Whether a step of an ordered set was the last for now.
type Ends = bool;

impl<'a> Situation<'a> {
    pub(super) fn new(
        set: &'a StatefulSet,
        pods: &'a [Known],
        (current, update): (&'a str, &'a str),
        now: i64,
    ) -> Self {
        let start = set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
        Self { set, pods, current, update, now, start, replicas: set.spec.replicas.unwrap_or(1).max(0) }
    }

    fn ordinals(&self) -> std::ops::Range<i32> {
        self.start..self.start.saturating_add(self.replicas)
    }

    fn parallel(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    fn strategy(&self) -> &str {
        let strategy = self.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        strategy.unwrap_or("RollingUpdate")
    }

    /// Pods below this ordinal are not updated; none where the strategy does not say.
    fn partition(&self) -> Option<i32> {
        let rolling = self.set.spec.update_strategy.as_ref()?.rolling_update.as_ref()?;
        Some(rolling.partition.unwrap_or(0))
    }

    pub(super) fn min_ready(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    pub(super) fn available(&self, pod: &PodView) -> bool {
        pod.available(self.min_ready(), self.now)
    }

    fn serves(&self, pod: &PodView) -> bool {
        pod.phase == Phase::Running && self.available(pod)
    }

    fn unavailable(&self, pod: Option<&Known>) -> bool {
        pod.is_none_or(|pod| pod.deleting || !self.available(pod))
    }

    pub(super) fn in_range(&self, pod: &Known) -> bool {
        self.ordinals().contains(&ordinal(pod))
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let replicas: Vec<(i32, Option<&Known>)> =
            self.ordinals().map(|at| (at, self.pods.iter().find(|pod| ordinal(pod) == at))).collect();
        let mut condemned: Vec<&Known> =
            self.pods.iter().filter(|pod| ordinal(pod) >= 0 && !self.in_range(pod)).collect();
        condemned.sort_by_key(|pod| -ordinal(pod));

        let mut steps = Vec::new();
        let ordered = !self.parallel();
        for (at, pod) in &replicas {
            if self.keep(&mut steps, *at, *pod) && ordered {
                return steps;
            }
        }
        steps.extend(condemned.iter().map(|pod| Step::Own((*pod).clone())));
        let sick = |pod: &Known| self.unavailable(Some(pod));
        let first_sick = replicas.iter().find(|(_, pod)| self.unavailable(*pod)).map(|(_, pod)| *pod);
        let first_sick = first_sick.unwrap_or_else(|| condemned.iter().rev().find(|pod| sick(pod)).copied());
        for pod in &condemned {
            let is_first = first_sick.is_some_and(|first| first.uid == pod.uid);
            if pod.deleting {
                if ordered {
                    return steps;
                }
                continue;
            }
            if ordered && !is_first && !self.serves(pod) {
                return steps;
            }
            steps.push(Step::Delete((*pod).clone()));
            if ordered {
                return steps;
            }
        }
        if self.strategy() == "RollingUpdate" {
            self.roll(&mut steps, &replicas);
        }
        steps
    }

    /// Brings one replica to be.
    fn keep(&self, steps: &mut Vec<Step>, at: i32, pod: Option<&Known>) -> Ends {
        let Some(pod) = pod else {
            steps.push(Step::Create { ordinal: at, updated: self.created_updated(at) });
            return true;
        };
        if pod.finished() {
            if !pod.deleting {
                steps.push(Step::Delete(pod.clone()));
            }
            return true;
        }
        if pod.phase == Phase::Pending {
            steps.push(Step::Claims(pod.clone()));
        }
        if !self.parallel() && (pod.deleting || !self.serves(pod)) {
            return true;
        }
        let named = pod.labels.iter().any(|(key, value)| &**key == pod::NAME && **value == *pod.key.name);
        if !named {
            steps.push(Step::Name(pod.clone()));
        }
        steps.push(Step::Own(pod.clone()));
        false
    }

    /// Whether a new pod is of the newest revision.
    fn created_updated(&self, at: i32) -> bool {
        if self.strategy() != "RollingUpdate" {
            return true;
        }
        let status = self.set.status.as_ref();
        let current = || status.and_then(|status| status.current_replicas).unwrap_or(0);
        at >= self.start + self.partition().unwrap_or_else(current)
    }

    /// Deletes pods of other revisions, the highest first, as many as may be unavailable.
    fn roll(&self, steps: &mut Vec<Step>, replicas: &[(i32, Option<&Known>)]) {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&IntOrString::Int(1));
        let most = scaled(Some(most), self.replicas, false).max(1) as usize;
        let old = |pod: &Known| revision(pod) != Some(self.update) && !pod.deleting;
        let unavailable = replicas.iter().filter(|(_, pod)| self.unavailable(*pod)).count();
        let stuck = self.parallel() && replicas.iter().any(|(_, pod)| self.unavailable(*pod) && pod.is_some_and(old));
        if unavailable >= most && !stuck {
            return;
        }
        // The partition counts replicas, not ordinals.
        let first = self.partition().unwrap_or(0).max(0) as usize;
        let candidates = replicas.iter().skip(first).rev().filter_map(|(_, pod)| *pod).filter(|pod| old(pod));
        let mut left = most.saturating_sub(unavailable);
        let (mut sick, mut well) = (Vec::new(), Vec::new());
        for pod in candidates {
            if self.parallel() && !self.available(pod) {
                // It is no loss.
                sick.push(Step::Delete(pod.clone()));
            } else if left > 0 {
                left -= 1;
                well.push(Step::Delete(pod.clone()));
            }
        }
        steps.extend(sick.into_iter().chain(well));
    }
}
