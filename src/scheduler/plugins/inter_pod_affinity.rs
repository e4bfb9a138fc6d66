//! InterPodAffinity: pods that want to be near others, or far from them.
//!
//! Upstream: plugins/interpodaffinity.

use std::collections::HashMap;

use coracle_client::Item;
use coracle_client::placement::label;

use crate::framework::{Happened, Judge, MAX_SCORE, Plugin, Prepared};
use crate::pod::PodView;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::terms::PodTerm;

pub(super) struct InterPodAffinity;

/// By a label of nodes and its value.
type Counts = HashMap<(Box<str>, Box<str>), i64>;

struct Neighbours<'a> {
    pod: &'a Item<PodView>,
    snapshot: &'a Snapshot,
    near: Near,
    points: Counts,
}

/// How many pods that matter are where.
#[derive(Default, Clone)]
struct Near {
    /// Those that all required terms mean.
    required: Counts,
    forbidden: Counts,
    /// Those that do not want this one.
    unwelcome: Counts,
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, pod: &'a Item<PodView>, snapshot: &'a Snapshot) -> Prepared<'a> {
        if pod.company.is_none() && !snapshot.has_company() {
            return Prepared::Skip;
        }
        let mut this = Neighbours { pod, snapshot, near: Near::default(), points: Counts::new() };
        for node in snapshot.nodes() {
            for other in node.pods.values() {
                let mut near = std::mem::take(&mut this.near);
                this.count(&mut near, node, other, 1);
                this.near = near;
                this.score_of(node, other);
            }
        }
        let asks = pod.company.as_ref().is_some_and(|it| !it.required.is_empty() || !it.forbidden.is_empty());
        if !asks && this.near.unwelcome.is_empty() && this.points.is_empty() {
            return Prepared::Skip;
        }
        Prepared::Judge(Box::new(this))
    }

    fn yields_to_preemption(&self) -> bool {
        true
    }

    fn may_help(&self, happened: Happened) -> bool {
        matches!(happened, Happened::NodeAdded | Happened::NodeLabels | Happened::PodLeft | Happened::PodPlaced)
    }
}

fn place(node: &NodeInfo, term: &PodTerm) -> Option<(Box<str>, Box<str>)> {
    let value = label(&node.node.labels, &term.topology)?;
    Some((term.topology.clone(), value.into()))
}

impl Neighbours<'_> {
    fn required(&self) -> &[PodTerm] {
        self.pod.company.as_ref().map_or(&[], |company| &company.required)
    }

    fn forbidden(&self) -> &[PodTerm] {
        self.pod.company.as_ref().map_or(&[], |company| &company.forbidden)
    }

    /// Counts another pod on a node in, or out (`change` -1).
    fn count(&self, near: &mut Near, node: &NodeInfo, other: &Item<PodView>, change: i64) {
        let (mine, theirs) = (&self.pod.key.namespace, &other.key.namespace);
        let add = |counts: &mut Counts, term: &PodTerm| {
            if let Some(place) = place(node, term) {
                *counts.entry(place).or_default() += change;
            }
        };
        let means = |term: &PodTerm| term.means(mine, other, self.snapshot);
        if !self.required().is_empty() && self.required().iter().all(means) {
            self.required().iter().for_each(|term| add(&mut near.required, term));
        }
        self.forbidden().iter().filter(|term| means(term)).for_each(|term| add(&mut near.forbidden, term));
        for term in other.company.iter().flat_map(|company| &company.forbidden) {
            if term.means(theirs, self.pod, self.snapshot) {
                add(&mut near.unwelcome, term);
            }
        }
    }

    /// What another pod's being there is worth to either.
    fn score_of(&mut self, node: &NodeInfo, other: &Item<PodView>) {
        let mut add = |term: &PodTerm, weight: i64| {
            if let Some(place) = place(node, term) {
                *self.points.entry(place).or_default() += weight;
            }
        };
        for (weight, term) in self.pod.company.iter().flat_map(|company| &company.preferred) {
            if term.means(&self.pod.key.namespace, other, self.snapshot) {
                add(term, *weight);
            }
        }
        for company in other.company.iter() {
            let required = company.required.iter().map(|term| (1, term));
            let preferred = company.preferred.iter().map(|(weight, term)| (*weight, term));
            for (weight, term) in required.chain(preferred) {
                if term.means(&other.key.namespace, self.pod, self.snapshot) {
                    add(term, weight);
                }
            }
        }
    }

    /// The counts with the pods that `node` has more or fewer than the snapshot.
    fn near(&self, node: &NodeInfo) -> Option<Near> {
        let (left, came) = self.snapshot.difference(node)?;
        let mut near = self.near.clone();
        left.iter().for_each(|other| self.count(&mut near, node, other, -1));
        came.iter().for_each(|other| self.count(&mut near, node, other, 1));
        Some(near)
    }

    /// The first pod of a group that wants to be together may be anywhere.
    fn is_first(&self, near: &Near) -> bool {
        let means = |term: &PodTerm| term.means(&self.pod.key.namespace, self.pod, self.snapshot);
        near.required.values().all(|count| *count <= 0) && self.required().iter().all(means)
    }
}

impl Judge for Neighbours<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        let changed = self.near(node);
        let near = changed.as_ref().unwrap_or(&self.near);
        let is_there = |counts: &Counts, term: &PodTerm| {
            place(node, term).is_some_and(|place| counts.get(&place).is_some_and(|count| *count > 0))
        };
        let places = self.required().iter().all(|term| place(node, term).is_some());
        let together = self.required().iter().all(|term| is_there(&near.required, term));
        let reason = if !self.required().is_empty() && !(places && (together || self.is_first(near))) {
            "node(s) didn't match pod affinity rules"
        } else if self.forbidden().iter().any(|term| is_there(&near.forbidden, term)) {
            "node(s) didn't match pod anti-affinity rules"
        } else if near
            .unwelcome
            .iter()
            .any(|((key, value), count)| *count > 0 && label(&node.node.labels, key) == Some(value))
        {
            "node(s) didn't satisfy existing pods anti-affinity rules"
        } else {
            return Vec::new();
        };
        vec![reason.to_owned()]
    }

    fn score(&self, node: &NodeInfo) -> Option<i64> {
        let here = |((key, value), points): (&(Box<str>, Box<str>), &i64)| {
            (label(&node.node.labels, key) == Some(value)).then_some(*points)
        };
        Some(self.points.iter().filter_map(here).sum())
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (Some(low), Some(high)) = (scores.iter().copied().min(), scores.iter().copied().max()) else { return };
        for score in scores {
            *score = if high > low { MAX_SCORE * (*score - low) / (high - low) } else { 0 };
        }
    }
}
