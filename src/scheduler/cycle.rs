//! One scheduling decision: a pure function of the pod and the snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_client::Item;

use crate::budgets::BudgetView;
use crate::framework::{Judge, Plugin, Prepared};
use crate::pod::PodView;
use crate::preemption::{Preemption, preempt};
use crate::snapshot::{NodeInfo, Snapshot};

/// Why no node will do.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Upstream's words: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).`
    pub message: String,
    /// The plugins that refused.
    pub plugins: Vec<&'static str>,
    /// Where place can be made by others' leaving.
    pub preemption: Option<Preemption>,
}

/// The plugins that have something to say about a pod, each with its judgement.
pub type Judges<'a> = [(&'a dyn Plugin, Box<dyn Judge + 'a>)];

/// The node for a pod. Of equally good ones, `turn` decides; count it up from decision to decision.
pub fn schedule(
    plugins: &[Box<dyn Plugin>],
    pod: &Item<PodView>,
    snapshot: &Snapshot,
    budgets: &dyn Fn() -> Vec<Arc<Item<BudgetView>>>,
    turn: usize,
) -> Result<Arc<str>, Refusal> {
    let total = snapshot.nodes().len();
    if total == 0 {
        let message = "no nodes available to schedule pods".to_owned();
        return Err(Refusal { message, plugins: Vec::new(), preemption: None });
    }
    let mut judges: Vec<(&dyn Plugin, Box<dyn Judge + '_>)> = Vec::with_capacity(plugins.len());
    for plugin in plugins {
        match plugin.prepare(pod, snapshot) {
            Prepared::Skip => {}
            Prepared::Refuse(reason) => {
                let message = format!("0/{total} nodes are available: {reason}.");
                return Err(Refusal { message, plugins: vec![plugin.name()], preemption: None });
            }
            Prepared::Judge(judge) => judges.push((&**plugin, judge)),
        }
    }
    // Place was made there: others are not looked at as long as it will do.
    if let Some(node) = snapshot.node(&pod.nominated).filter(|node| passes(&judges, pod, snapshot, node).is_ok()) {
        return Ok(node.name.clone());
    }
    match filter(&judges, pod, snapshot) {
        Ok(feasible) => Ok(best(&judges, &feasible, turn).name.clone()),
        Err(refused) => Err(refused.explain(&judges, pod, snapshot, budgets, turn)),
    }
}

/// The reasons against a node, first as it is, then as it is once those came that go before the pod.
pub fn passes(
    judges: &Judges<'_>,
    pod: &Item<PodView>,
    snapshot: &Snapshot,
    node: &NodeInfo,
) -> Result<(), Vec<String>> {
    match refusal(judges, pod, snapshot, node) {
        None => Ok(()),
        Some((_, reasons)) => Err(reasons),
    }
}

fn refusal<'j>(
    judges: &'j Judges<'_>,
    pod: &Item<PodView>,
    snapshot: &Snapshot,
    node: &NodeInfo,
) -> Option<(&'j dyn Plugin, Vec<String>)> {
    let judge = |node: &NodeInfo| {
        judges.iter().find_map(|(plugin, judge)| {
            let reasons = judge.filter(node);
            (!reasons.is_empty()).then_some((*plugin, reasons))
        })
    };
    judge(node).or_else(|| judge(&snapshot.with_nominated(node, &pod.key, pod.priority)?))
}

/// That every node was refused, and why.
#[derive(Default)]
struct Refused<'s> {
    reasons: BTreeMap<String, usize>,
    plugins: Vec<&'static str>,
    /// Nodes that may do once pods have left them.
    yielding: Vec<&'s NodeInfo>,
}

fn filter<'s>(
    judges: &Judges<'_>,
    pod: &Item<PodView>,
    snapshot: &'s Snapshot,
) -> Result<Vec<&'s NodeInfo>, Refused<'s>> {
    let mut feasible = Vec::new();
    let mut refused = Refused::default();
    for node in snapshot.nodes() {
        let Some((plugin, why)) = refusal(judges, pod, snapshot, node) else {
            feasible.push(node);
            continue;
        };
        if !refused.plugins.contains(&plugin.name()) {
            refused.plugins.push(plugin.name());
        }
        if plugin.yields_to_preemption() {
            refused.yielding.push(node);
        }
        why.into_iter().for_each(|reason| *refused.reasons.entry(reason).or_default() += 1);
    }
    if feasible.is_empty() { Err(refused) } else { Ok(feasible) }
}

impl Refused<'_> {
    fn explain(
        self,
        judges: &Judges<'_>,
        pod: &Item<PodView>,
        snapshot: &Snapshot,
        budgets: &dyn Fn() -> Vec<Arc<Item<BudgetView>>>,
        turn: usize,
    ) -> Refusal {
        let total = snapshot.nodes().len();
        let mut parts: Vec<String> =
            self.reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort();
        let (preemption, more) = match preempt(judges, pod, snapshot, &self.yielding, &budgets(), turn) {
            Ok(found) => {
                let (node, count) = (&found.node, found.victims.len());
                let more = format!("found a potential placement for pod on node {node}, preempting {count} victims");
                (Some(found), more)
            }
            Err(why) => (None, why),
        };
        let message = format!("0/{total} nodes are available: {}. preemption: {more}", parts.join(", "));
        Refusal { message, plugins: self.plugins, preemption }
    }
}

fn best<'s>(judges: &Judges<'_>, feasible: &[&'s NodeInfo], turn: usize) -> &'s NodeInfo {
    let mut totals = vec![0; feasible.len()];
    if feasible.len() > 1 {
        for (plugin, judge) in judges {
            let scores: Option<Vec<i64>> = feasible.iter().map(|node| judge.score(node)).collect();
            let Some(mut scores) = scores else { continue };
            judge.normalize(&mut scores);
            totals.iter_mut().zip(scores).for_each(|(total, score)| *total += score * plugin.weight());
        }
    }
    let highest = totals.iter().copied().max().unwrap_or(0);
    let ties: Vec<usize> = (0..feasible.len()).filter(|index| totals[*index] == highest).collect();
    feasible[ties[turn % ties.len()]]
}
