//! PodTopologySpread: pods of a kind are spread over nodes, zones and the like.
//!
//! Upstream: plugins/podtopologyspread. The constraints that upstream makes up for pods of Services are not there.

use std::collections::HashMap;

use coracle_client::Item;
use coracle_client::placement::{label, selects, untolerated};

use crate::framework::{Happened, Judge, MAX_SCORE, Plugin, Prepared};
use crate::pod::PodView;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::terms::Spread;

pub(super) struct PodTopologySpread;

struct Spreading<'a> {
    pod: &'a Item<PodView>,
    snapshot: &'a Snapshot,
    hard: Vec<Counted<'a>>,
    soft: Vec<Counted<'a>>,
}

/// A constraint with how many of its pods each domain has.
struct Counted<'a> {
    spread: &'a Spread,
    domains: HashMap<Box<str>, i64>,
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, pod: &'a Item<PodView>, snapshot: &'a Snapshot) -> Prepared<'a> {
        let constraints = pod.company.as_ref().map_or(&[][..], |company| &company.spread);
        if constraints.is_empty() {
            return Prepared::Skip;
        }
        let counted = |hard: bool| {
            let group: Vec<&Spread> = constraints.iter().filter(|spread| spread.hard == hard).collect();
            let all = group.iter().map(|spread| Counted { spread, domains: domains(spread, &group, pod, snapshot) });
            all.collect()
        };
        let (hard, soft) = (counted(true), counted(false));
        Prepared::Judge(Box::new(Spreading { pod, snapshot, hard, soft }))
    }

    fn yields_to_preemption(&self) -> bool {
        true
    }

    fn may_help(&self, happened: Happened) -> bool {
        !matches!(happened, Happened::NodeResources)
    }
}

/// Counts only nodes that have a place in every constraint of the group.
fn domains(spread: &Spread, group: &[&Spread], pod: &Item<PodView>, snapshot: &Snapshot) -> HashMap<Box<str>, i64> {
    let mut domains: HashMap<Box<str>, i64> = HashMap::new();
    for node in snapshot.nodes() {
        let everywhere = group.iter().all(|it| label(&node.node.labels, &it.topology).is_some());
        let value = label(&node.node.labels, &spread.topology).filter(|_| everywhere && counts(spread, pod, node));
        if let Some(value) = value {
            let there = node.pods.values().filter(|other| matches(spread, pod, other)).count() as i64;
            *domains.entry(value.into()).or_default() += there;
        }
    }
    domains
}

/// Whether the constraint looks at the node at all.
fn counts(spread: &Spread, pod: &PodView, node: &NodeInfo) -> bool {
    let Some(wants) = &pod.wants else { return true };
    let fits = || selects(&wants.node_selector, wants.affinity.required.as_ref(), &node.name, &node.node.labels);
    let bears = || untolerated(&node.node.taints, &wants.tolerations, &["NoSchedule", "NoExecute"]).next().is_none();
    (!spread.by_affinity || fits()) && (!spread.by_taints || bears())
}

fn matches(spread: &Spread, pod: &Item<PodView>, other: &Item<PodView>) -> bool {
    other.key.namespace == pod.key.namespace && !other.deleting && spread.selector.matches(&*other.labels)
}

impl Counted<'_> {
    /// The fewest pods of a domain; none where there are fewer domains than there should be.
    fn least(&self) -> i64 {
        match self.spread.least_domains {
            Some(wanted) if self.domains.len() < wanted => 0,
            _ => self.domains.values().copied().min().unwrap_or(0),
        }
    }
}

impl Judge for Spreading<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        const REASON: &str = "node(s) didn't match pod topology spread constraints";
        for counted in &self.hard {
            let spread = counted.spread;
            let Some(value) = label(&node.node.labels, &spread.topology) else {
                return vec![format!("{REASON} (missing required label)")];
            };
            let mut changed = None;
            if let Some((left, came)) = self.snapshot.difference(node)
                && counts(spread, self.pod, node)
            {
                let number = |pods: &[_]| {
                    pods.iter()
                        .filter(|other: &&std::sync::Arc<Item<PodView>>| matches(spread, self.pod, other))
                        .count() as i64
                };
                let mut domains = counted.domains.clone();
                *domains.entry(value.into()).or_default() += number(&came) - number(&left);
                changed = Some(Counted { spread, domains });
            }
            let counted = changed.as_ref().unwrap_or(counted);
            let own = i64::from(spread.selector.matches(&*self.pod.labels));
            let there = counted.domains.get(value).copied().unwrap_or(0);
            if there + own - counted.least() > spread.most_skew {
                return vec![REASON.to_owned()];
            }
        }
        Vec::new()
    }

    fn score(&self, node: &NodeInfo) -> Option<i64> {
        if self.soft.is_empty() {
            return None;
        }
        let mut score = 0.0;
        for Counted { spread, domains } in &self.soft {
            // A node without a place in one of them is the last choice.
            let Some(value) = label(&node.node.labels, &spread.topology) else { return Some(i64::MAX) };
            let there = domains.get(value).copied().unwrap_or(0);
            score += there as f64 * (domains.len() as f64 + 2.0).ln() + (spread.most_skew - 1) as f64;
        }
        Some(score.round() as i64)
    }

    /// Fewer is better.
    fn normalize(&self, scores: &mut [i64]) {
        let placed = || scores.iter().copied().filter(|score| *score != i64::MAX);
        let (low, high) = (placed().min().unwrap_or(0), placed().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                i64::MAX => 0,
                _ if high == 0 => MAX_SCORE,
                own => MAX_SCORE * (high + low - own) / high,
            };
        }
    }
}
