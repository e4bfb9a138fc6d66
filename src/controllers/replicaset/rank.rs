//! Which pods go first when there are too many.
//!
//! Upstream: ActivePodsWithRanks in pkg/controller/controller_utils.go.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use coracle_client::Item;

use crate::pods::PodView;

/// `pods` in the order in which they are to be deleted. `related` are the active pods whose company counts; `now` is
/// seconds since the epoch.
pub(crate) fn first_to_go(
    pods: &[Arc<Item<PodView>>],
    related: &[Arc<Item<PodView>>],
    now: i64,
) -> Vec<Arc<Item<PodView>>> {
    let mut company: HashMap<&str, usize> = HashMap::new();
    for pod in related {
        *company.entry(&pod.node).or_default() += 1;
    }
    let mut pods = pods.to_vec();
    pods.sort_by(|a, b| {
        let on_node = |pod: &PodView| company.get(&*pod.node).copied().unwrap_or(0);
        a.node
            .is_empty()
            .cmp(&b.node.is_empty())
            .reverse()
            .then(a.phase.cmp(&b.phase))
            .then(a.ready.cmp(&b.ready))
            .then(a.deletion_cost.cmp(&b.deletion_cost))
            .then(on_node(b).cmp(&on_node(a)))
            .then_with(|| {
                if a.ready && b.ready { younger(a.ready_since, b.ready_since, a, b, now) } else { Ordering::Equal }
            })
            .then(Reverse(a.restarts).cmp(&Reverse(b.restarts)))
            .then_with(|| younger(Some(a.created), Some(b.created), a, b, now))
    });
    pods
}

/// Younger first, where ages count by their order of magnitude, and UIDs decide between equal ones: so that not all
/// pods of one moment go together.
fn younger(a_time: Option<i64>, b_time: Option<i64>, a: &Item<PodView>, b: &Item<PodView>, now: i64) -> Ordering {
    match (a_time, b_time) {
        (a_time, b_time) if a_time == b_time => Ordering::Equal,
        (Some(a_time), Some(b_time)) => {
            magnitude(now - a_time).cmp(&magnitude(now - b_time)).then_with(|| a.uid.cmp(&b.uid))
        }
        (a_time, b_time) => a_time.is_some().cmp(&b_time.is_some()),
    }
}

/// The binary logarithm of an age in nanoseconds; -1 for ages that are none.
fn magnitude(seconds: i64) -> i64 {
    if seconds <= 0 { -1 } else { (i128::from(seconds) * 1_000_000_000).ilog2().into() }
}

#[cfg(test)]
mod tests {
    use coracle_client::Key;

    use super::*;
    use crate::pods::Phase;

    fn pod(name: &str, change: impl Fn(&mut PodView)) -> Arc<Item<PodView>> {
        let mut value = PodView {
            node: "n1".into(),
            phase: Phase::Running,
            ready: true,
            ready_since: Some(1000),
            created: 900,
            ..PodView::default()
        };
        change(&mut value);
        Arc::new(Item { key: Key::new("a", name), uid: name.into(), revision: 1, value })
    }

    #[test]
    fn the_least_useful_goes_first() {
        let order = [
            pod("unassigned", |pod| pod.node = "".into()),
            pod("pending", |pod| (pod.phase, pod.ready) = (Phase::Pending, false)),
            pod("not-ready", |pod| pod.ready = false),
            pod("cheap", |pod| pod.deletion_cost = -5),
            pod("doubled", |pod| pod.node = "n2".into()),
            pod("just-ready", |pod| pod.ready_since = Some(9_999)),
            pod("restarted", |pod| pod.restarts = (3, 0)),
            pod("young", |pod| pod.created = 9_000),
            pod("steady", |_| ()),
        ];
        let mut shuffled = order.to_vec();
        shuffled.reverse();
        shuffled.swap(0, 4);
        let related = [order[4].clone(), order[4].clone()];
        let names = |pods: &[Arc<Item<PodView>>]| pods.iter().map(|pod| pod.key.name.to_string()).collect::<Vec<_>>();
        let mut related = related.to_vec();
        related.push(order[8].clone());
        assert_eq!(names(&first_to_go(&shuffled, &related, 10_000)), names(&order));
    }

    #[test]
    fn ages_of_one_magnitude_are_told_apart_by_uid() {
        let (a, b) = (pod("a", |pod| pod.created = 100), pod("b", |pod| pod.created = 200));
        let order = first_to_go(&[b, a], &[], 10_000);
        assert_eq!(&*order[0].uid, "a");
    }
}
