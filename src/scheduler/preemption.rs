//! Preemption: which pods of lower priority would have to go so that a pod fits, and where that costs least.
//!
//! Upstream: pkg/scheduler/framework/preemption and plugins/defaultpreemption. A pure function of pod and snapshot.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use coracle_client::{Item, Key};

use crate::budgets::BudgetView;
use crate::cycle::{Judges, passes};
use crate::pod::PodView;
use crate::snapshot::{NodeInfo, Snapshot};

type Pod = Arc<Item<PodView>>;

/// Place that is to be made.
#[derive(Debug, Clone)]
pub struct Preemption {
    pub node: Arc<str>,
    /// The most important first.
    pub victims: Vec<Pod>,
}

/// A node on which it could be done.
struct Candidate {
    name: Arc<str>,
    victims: Vec<Pod>,
    /// How many of them a budget protects.
    protected: usize,
}

/// Nodes tried at least, and as percentage of all.
const CANDIDATES: usize = 100;
const CANDIDATES_PERCENT: usize = 10;

/// Finds the best node, or says why there is none. `nodes` are those that might do once pods have left them; `turn`
/// spreads decisions where not all are tried.
pub fn preempt(
    judges: &Judges<'_>,
    pod: &Item<PodView>,
    snapshot: &Snapshot,
    nodes: &[&NodeInfo],
    budgets: &[Arc<Item<BudgetView>>],
    turn: usize,
) -> Result<Preemption, String> {
    if pod.wants.as_ref().is_some_and(|wants| wants.never_preempts) {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let nominated = snapshot.node(&pod.nominated).filter(|info| nodes.iter().any(|node| node.name == info.name));
    if nominated.is_some_and(|node| node.pods.values().any(|it| it.priority < pod.priority && it.preempted)) {
        return Err("not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    let total = snapshot.nodes().len();
    let most = (nodes.len() * CANDIDATES_PERCENT / 100).max(CANDIDATES);
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut reasons: HashMap<String, usize> = HashMap::new();
    for at in 0..nodes.len() {
        let node = nodes[(turn + at) % nodes.len()];
        match victims(judges, pod, snapshot, node, budgets) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1),
        }
        if candidates.len() >= most && candidates.iter().any(|candidate| candidate.protected == 0) {
            break;
        }
    }
    let unhelpful = total - nodes.len();
    if unhelpful > 0 {
        reasons.insert("Preemption is not helpful for scheduling".to_owned(), unhelpful);
    }
    let best = candidates.into_iter().min_by_key(Candidate::cost);
    best.map(|best| Preemption { node: best.name, victims: best.victims }).ok_or_else(|| {
        let mut parts: Vec<String> = reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort();
        format!("0/{total} nodes are available: {}.", parts.join(", "))
    })
}

impl Candidate {
    /// Fewest protected pods; then the least important ones; then the fewest; then those that started last.
    fn cost(&self) -> (usize, i32, i64, usize, Reverse<i64>) {
        let highest = self.victims.first().map_or(i32::MIN, |pod| pod.priority);
        // Priorities may be negative: more pods must not make a smaller sum.
        let sum = self.victims.iter().map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1).sum();
        let most_important = self.victims.iter().filter(|pod| pod.priority == highest);
        let earliest = most_important.map(|pod| pod.started).min().unwrap_or(i64::MAX);
        (self.protected, highest, sum, self.victims.len(), Reverse(earliest))
    }
}

/// The fewest pods of a node that have to go, those that budgets protect last.
fn victims(
    judges: &Judges<'_>,
    pod: &Item<PodView>,
    snapshot: &Snapshot,
    node: &NodeInfo,
    budgets: &[Arc<Item<BudgetView>>],
) -> Result<Candidate, Vec<String>> {
    let lower = |it: &&Pod| it.priority < pod.priority && !snapshot.is_assumed(&it.key, &it.uid);
    let mut possible: Vec<Pod> = node.pods.values().filter(lower).cloned().collect();
    if possible.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    let mut left = node.clone();
    possible.iter().for_each(|victim| left.give_back(victim));
    passes(judges, pod, snapshot, &left)?;
    possible.sort_by_key(importance);
    let (protected, others) = split(&possible, budgets);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (victim, is_protected) in protected.iter().map(|it| (it, true)).chain(others.iter().map(|it| (it, false))) {
        left.take(victim);
        if passes(judges, pod, snapshot, &left).is_err() {
            left.give_back(victim);
            victims.push(victim.clone());
            violations += usize::from(is_protected);
        }
    }
    victims.sort_by_key(importance);
    Ok(Candidate { name: node.name.clone(), victims, protected: violations })
}

/// Most important first: priority, then age.
fn importance(pod: &Pod) -> (Reverse<i32>, i64, Key) {
    (Reverse(pod.priority), pod.started, pod.key.clone())
}

/// Pods whose budget would be broken, and the others.
fn split(pods: &[Pod], budgets: &[Arc<Item<BudgetView>>]) -> (Vec<Pod>, Vec<Pod>) {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.iter().cloned().partition(|pod| {
        let mut broken = false;
        for (budget, left) in budgets.iter().zip(&mut allowed) {
            let concerns = budget.key.namespace == pod.key.namespace
                && !pod.labels.is_empty()
                && !budget.selector.is_everything()
                && budget.selector.matches(&*pod.labels)
                && !budget.disrupted.iter().any(|name| **name == *pod.key.name);
            if concerns {
                *left -= 1;
                broken |= *left < 0;
            }
        }
        broken
    })
}
