//! Which taints a node's conditions ask for.

use coracle_client::placement::Taint as TaintView;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Condition, status, and the taint it asks for.
const ROWS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// A taint by key and effect.
pub(super) type Wanted = (&'static str, &'static str);

/// `evicting` says whether another node could take the pods: where none is ready, silence says more of the
/// controller's own connection than of the nodes, and pods stay (upstream's full disruption).
pub(super) fn wanted<'a>(status: &dyn Fn(&str) -> Option<&'a str>, unschedulable: bool, evicting: bool) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (condition, value, key) in ROWS {
        if status(condition) == Some(value) {
            wanted.push((key, "NoSchedule"));
            if condition == "Ready" && evicting {
                wanted.push((key, "NoExecute"));
            }
        }
    }
    if unschedulable {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    wanted
}

/// The taints to add and to remove; `None` when all is as wanted.
pub(super) fn changes(present: &[TaintView], wanted: &[Wanted]) -> Option<(Vec<Wanted>, Vec<Wanted>)> {
    let has = |(key, effect): &Wanted| present.iter().any(|taint| &*taint.key == *key && &*taint.effect == *effect);
    let add: Vec<Wanted> = wanted.iter().copied().filter(|taint| !has(taint)).collect();
    let remove: Vec<Wanted> = managed().filter(|taint| has(taint) && !wanted.contains(taint)).collect();
    (!add.is_empty() || !remove.is_empty()).then_some((add, remove))
}

/// Brings a node's taints to what is wanted; says whether anything changed.
pub(super) fn apply(taints: &mut Vec<Taint>, wanted: &[Wanted], now: &Time) -> bool {
    let view = |taint: &Taint| TaintView {
        key: taint.key.as_str().into(),
        effect: taint.effect.as_str().into(),
        ..TaintView::default()
    };
    let present: Vec<TaintView> = taints.iter().map(view).collect();
    let Some((add, remove)) = changes(&present, wanted) else { return false };
    taints.retain(|taint| !remove.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect));
    taints.extend(add.into_iter().map(|(key, effect)| Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        time_added: (effect == "NoExecute").then(|| now.clone()),
        value: None,
    }));
    true
}

/// Every taint this controller may set; others are left alone.
fn managed() -> impl Iterator<Item = Wanted> {
    let no_schedule = ROWS.into_iter().map(|(_, _, key)| (key, "NoSchedule"));
    no_schedule.chain([(UNSCHEDULABLE, "NoSchedule"), (NOT_READY, "NoExecute"), (UNREACHABLE, "NoExecute")])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ready: &str, unschedulable: bool, evicting: bool, present: &[(&str, &str)]) -> String {
        let present: Vec<_> = present
            .iter()
            .map(|(key, effect)| TaintView { key: (*key).into(), effect: (*effect).into(), ..TaintView::default() })
            .collect();
        let wanted = wanted(&|kind| (kind == "Ready").then_some(ready), unschedulable, evicting);
        let short = |list: Vec<Wanted>, sign: char| {
            list.into_iter().map(move |(key, effect)| format!("{sign}{}:{effect}", key.rsplit('/').next().unwrap()))
        };
        match changes(&present, &wanted) {
            None => String::new(),
            Some((add, remove)) => short(add, '+').chain(short(remove, '-')).collect::<Vec<_>>().join(" "),
        }
    }

    #[test]
    fn conditions_become_taints() {
        let unreachable = [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute"), ("mine", "NoSchedule")];
        type Case<'a> = (&'a str, bool, bool, &'a [(&'a str, &'a str)], &'a str);
        let cases: [Case<'_>; 7] = [
            ("True", false, true, &[], ""),
            ("True", true, true, &[], "+unschedulable:NoSchedule"),
            ("False", false, true, &[], "+not-ready:NoSchedule +not-ready:NoExecute"),
            ("Unknown", false, false, &[], "+unreachable:NoSchedule"),
            ("Unknown", false, true, &unreachable, ""),
            (
                "False",
                false,
                true,
                &unreachable,
                "+not-ready:NoSchedule +not-ready:NoExecute -unreachable:NoSchedule -unreachable:NoExecute",
            ),
            ("True", false, true, &unreachable, "-unreachable:NoSchedule -unreachable:NoExecute"),
        ];
        for (ready, unschedulable, evicting, present, expected) in cases {
            assert_eq!(told(ready, unschedulable, evicting, present), expected, "{ready} {present:?}");
        }
    }
}
