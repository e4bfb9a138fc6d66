//! NodeResourcesFit and NodeResourcesBalancedAllocation: what a pod asks for has to be free; emptier and more evenly
//! used nodes are better.

use coracle_client::Item;

use crate::framework::{Happened, Judge, MAX_SCORE, Plugin, Prepared};
use crate::pod::PodView;
use crate::requests::Amounts;
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) struct Fit;
pub(super) struct BalancedAllocation;

struct Fitting<'a>(&'a PodView);
struct Balancing<'a>(&'a PodView);

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn prepare<'a>(&self, pod: &'a Item<PodView>, _: &'a Snapshot) -> Prepared<'a> {
        Prepared::Judge(Box::new(Fitting(pod)))
    }

    fn yields_to_preemption(&self) -> bool {
        true
    }

    fn may_help(&self, happened: Happened) -> bool {
        matches!(happened, Happened::NodeAdded | Happened::NodeResources | Happened::PodLeft)
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn prepare<'a>(&self, pod: &'a Item<PodView>, _: &'a Snapshot) -> Prepared<'a> {
        // A pod that asks for nothing cannot change the balance.
        if pod.requests == Amounts::default() { Prepared::Skip } else { Prepared::Judge(Box::new(Balancing(pod))) }
    }

    fn may_help(&self, _: Happened) -> bool {
        false
    }
}

impl Judge for Fitting<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        let (asked, used, all) = (&self.0.requests, &node.requested, &node.node.allocatable);
        let mut reasons = Vec::new();
        if node.pods.len() as i64 + 1 > node.node.pods {
            reasons.push("Too many pods".to_owned());
        }
        let mut check = |name: &str, asked: i64, used: i64, all: i64| {
            if asked > 0 && asked > all - used {
                reasons.push(format!("Insufficient {name}"));
            }
        };
        check("cpu", asked.milli_cpu, used.milli_cpu, all.milli_cpu);
        check("memory", asked.memory, used.memory, all.memory);
        check("ephemeral-storage", asked.ephemeral_storage, used.ephemeral_storage, all.ephemeral_storage);
        for (name, amount) in &asked.others {
            let of = |amounts: &Amounts| amounts.others.get(name).copied().unwrap_or(0);
            check(name, *amount, of(used), of(all));
        }
        reasons
    }

    /// LeastAllocated over cpu and memory.
    fn score(&self, node: &NodeInfo) -> Option<i64> {
        let (asked, used, all) = (&self.0.scored, &node.scored, &node.node.allocatable);
        let pairs = [(asked.milli_cpu + used.milli_cpu, all.milli_cpu), (asked.memory + used.memory, all.memory)];
        let scores: Vec<i64> = pairs
            .into_iter()
            .filter(|(_, all)| *all > 0)
            .map(|(used, all)| if used > all { 0 } else { (all - used) * MAX_SCORE / all })
            .collect();
        Some(if scores.is_empty() { 0 } else { scores.iter().sum::<i64>() / scores.len() as i64 })
    }
}

impl Judge for Balancing<'_> {
    /// How far the pod improves the balance between cpu and memory; about 75 when it changes little.
    fn score(&self, node: &NodeInfo) -> Option<i64> {
        let all = &node.node.allocatable;
        let before = balance(&node.requested, all);
        let mut with = node.requested.clone();
        with.add(&self.0.requests);
        let half = MAX_SCORE / 2;
        Some(half + (half + balance(&with, all) - before) / 2)
    }
}

/// 100 where cpu and memory are used to the same share, less the further apart they are.
fn balance(used: &Amounts, all: &Amounts) -> i64 {
    let share = |used: i64, all: i64| (all > 0).then(|| (used as f64 / all as f64).min(1.0));
    let deviation = match (share(used.milli_cpu, all.milli_cpu), share(used.memory, all.memory)) {
        (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
