//! What pods want of the company of other pods: affinity, anti-affinity and topology spread.
//!
//! Upstream: k8s.io/kube-scheduler framework AffinityTerm, plugins/podtopologyspread/common.go.

use coracle_api::selector::LabelSelector;
use coracle_client::Item;
use coracle_client::placement::{Labels, NodeAffinity};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::pod::PodView;
use crate::snapshot::Snapshot;

/// The wishes of a pod that has any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Company {
    pub required: Box<[PodTerm]>,
    pub forbidden: Box<[PodTerm]>,
    /// With weights; negative for pods that are to be avoided.
    pub preferred: Box<[(i64, PodTerm)]>,
    pub spread: Box<[Spread]>,
}

/// Pods of these labels and namespaces, near by the label of nodes that is the topology.
#[derive(Debug, Clone, PartialEq)]
pub struct PodTerm {
    pub topology: Box<str>,
    selector: LabelSelector,
    namespaces: Box<[Box<str>]>,
    namespace_selector: Option<LabelSelector>,
}

/// A bound on how unevenly pods of these labels may be spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    pub topology: Box<str>,
    pub selector: LabelSelector,
    pub most_skew: i64,
    /// Below so many domains, one that is empty is thought to exist.
    pub least_domains: Option<usize>,
    /// A bound, not a wish.
    pub hard: bool,
    /// Which nodes count: by the pod's node affinity, and by taints it tolerates.
    pub by_affinity: bool,
    pub by_taints: bool,
}

impl PodTerm {
    /// Whether `pod` is one that a pod in `namespace` means by this term.
    pub fn means(&self, namespace: &str, pod: &Item<PodView>, snapshot: &Snapshot) -> bool {
        let there = &*pod.key.namespace;
        let listed = self.namespaces.iter().any(|name| **name == *there);
        let own = self.namespaces.is_empty() && self.namespace_selector.is_none() && there == namespace;
        let selected = || {
            let labels = snapshot.namespace(there);
            self.namespace_selector.as_ref().is_some_and(|it| labels.is_some_and(|labels| it.matches(labels)))
        };
        (listed || own || selected()) && self.selector.matches(&*pod.labels)
    }
}

/// A pod's affinity as it stands in the object.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Written {
    pub node_affinity: NodeAffinity,
    pod_affinity: Affinity,
    pod_anti_affinity: Affinity,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Affinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Vec<Term>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    preferred: Vec<Weighted>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Weighted {
    weight: i64,
    pod_affinity_term: Term,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Term {
    label_selector: Option<Value>,
    namespaces: Box<[Box<str>]>,
    namespace_selector: Option<Value>,
    topology_key: Box<str>,
    match_label_keys: Vec<Box<str>>,
    mismatch_label_keys: Vec<Box<str>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct WrittenSpread {
    max_skew: i64,
    topology_key: Box<str>,
    when_unsatisfiable: Box<str>,
    label_selector: Option<Value>,
    min_domains: Option<usize>,
    node_affinity_policy: Box<str>,
    node_taints_policy: Box<str>,
    match_label_keys: Vec<Box<str>>,
}

impl Company {
    /// `None` for a pod without wishes.
    pub fn read(affinity: &Written, spread: &[WrittenSpread], labels: &Labels) -> Option<Box<Self>> {
        let terms = |terms: &[Term]| terms.iter().filter_map(|term| term.read(labels)).collect::<Box<[PodTerm]>>();
        let weighted = |list: &[Weighted], sign: i64| {
            let read = |it: &Weighted| Some((sign * it.weight, it.pod_affinity_term.read(labels)?));
            list.iter().filter_map(read).collect::<Vec<_>>()
        };
        let preferred =
            [weighted(&affinity.pod_affinity.preferred, 1), weighted(&affinity.pod_anti_affinity.preferred, -1)];
        let company = Self {
            required: terms(&affinity.pod_affinity.required),
            forbidden: terms(&affinity.pod_anti_affinity.required),
            preferred: preferred.concat().into(),
            spread: spread.iter().filter_map(|constraint| constraint.read(labels)).collect(),
        };
        (company != Self::default()).then(|| Box::new(company))
    }
}

impl Term {
    fn read(&self, labels: &Labels) -> Option<PodTerm> {
        let keys = [("In", &self.match_label_keys), ("NotIn", &self.mismatch_label_keys)];
        let own = selector(self.label_selector.clone(), &keys, labels)?;
        let namespaces = match &self.namespace_selector {
            Some(selector) => Some(LabelSelector::from_object(Some(selector)).ok()?),
            None => None,
        };
        Some(PodTerm {
            topology: self.topology_key.clone(),
            selector: own,
            namespaces: self.namespaces.clone(),
            namespace_selector: namespaces,
        })
    }
}

impl WrittenSpread {
    fn read(&self, labels: &Labels) -> Option<Spread> {
        Some(Spread {
            topology: self.topology_key.clone(),
            selector: selector(self.label_selector.clone(), &[("In", &self.match_label_keys)], labels)?,
            most_skew: self.max_skew,
            least_domains: self.min_domains,
            hard: &*self.when_unsatisfiable != "ScheduleAnyway",
            by_affinity: &*self.node_affinity_policy != "Ignore",
            by_taints: &*self.node_taints_policy == "Honor",
        })
    }
}

/// The selector, with the pod's own values of some labels added.
fn selector(written: Option<Value>, keys: &[(&str, &Vec<Box<str>>)], labels: &Labels) -> Option<LabelSelector> {
    let mut written = written;
    for (operator, keys) in keys {
        for key in keys.iter() {
            let own = labels.iter().find(|(label, _)| label == key);
            if let (Some((_, value)), Some(selector)) = (own, &mut written) {
                let more = json!({"key": key, "operator": operator, "values": [value]});
                match selector["matchExpressions"].as_array_mut() {
                    // The API server may have done so already.
                    Some(all) => {
                        if !all.contains(&more) {
                            all.push(more);
                        }
                    }
                    None => selector["matchExpressions"] = json!([more]),
                }
            }
        }
    }
    LabelSelector::from_object(written.as_ref()).ok()
}
