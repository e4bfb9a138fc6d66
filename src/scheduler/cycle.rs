//! One scheduling decision: a pure function of the pod and the snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::framework::{Judge, Plugin, Prepared};
use crate::pod::PodView;
use crate::snapshot::{NodeInfo, Snapshot};

/// Why no node will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Upstream's words: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).`
    pub message: String,
    /// The plugins that refused.
    pub plugins: Vec<&'static str>,
}

/// The node for a pod. Of equally good ones, `turn` decides; count it up from decision to decision.
pub fn schedule(
    plugins: &[Box<dyn Plugin>],
    pod: &PodView,
    snapshot: &Snapshot,
    turn: usize,
) -> Result<Arc<str>, Refusal> {
    let total = snapshot.nodes().len();
    if total == 0 {
        return Err(Refusal { message: "no nodes available to schedule pods".to_owned(), plugins: Vec::new() });
    }
    let mut judges: Vec<(&dyn Plugin, Box<dyn Judge + '_>)> = Vec::with_capacity(plugins.len());
    for plugin in plugins {
        match plugin.prepare(pod, snapshot) {
            Prepared::Skip => {}
            Prepared::Refuse(reason) => {
                let message = format!("0/{total} nodes are available: {reason}.");
                return Err(Refusal { message, plugins: vec![plugin.name()] });
            }
            Prepared::Judge(judge) => judges.push((&**plugin, judge)),
        }
    }
    let feasible = filter(&judges, snapshot, total)?;
    Ok(best(&judges, &feasible, turn).name.clone())
}

fn filter<'s>(
    judges: &[(&dyn Plugin, Box<dyn Judge + '_>)],
    snapshot: &'s Snapshot,
    total: usize,
) -> Result<Vec<&'s NodeInfo>, Refusal> {
    let mut feasible = Vec::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut refusing: Vec<&'static str> = Vec::new();
    for node in snapshot.nodes() {
        let refused = judges.iter().find_map(|(plugin, judge)| {
            let reasons = judge.filter(node);
            (!reasons.is_empty()).then(|| (plugin.name(), reasons))
        });
        let Some((name, why)) = refused else {
            feasible.push(node);
            continue;
        };
        if !refusing.contains(&name) {
            refusing.push(name);
        }
        why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
    }
    if !feasible.is_empty() {
        return Ok(feasible);
    }
    let mut parts: Vec<String> = reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    let message = format!("0/{total} nodes are available: {}.", parts.join(", "));
    Err(Refusal { message, plugins: refusing })
}

fn best<'s>(judges: &[(&dyn Plugin, Box<dyn Judge + '_>)], feasible: &[&'s NodeInfo], turn: usize) -> &'s NodeInfo {
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
