//! What the scheduler remembers of a PodDisruptionBudget: which pods it had better not disrupt.

use std::collections::BTreeMap;

use coracle_api::Object;
use coracle_api::selector::LabelSelector;
use coracle_client::Project;
use serde::Deserialize;

#[derive(Debug)]
pub struct BudgetView {
    pub selector: LabelSelector,
    pub allowed: i32,
    /// Names of pods that it has let go already.
    pub disrupted: Box<[Box<str>]>,
}

impl Project for BudgetView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Decoded {
            spec: Spec,
            #[serde(default)]
            status: Status,
        }
        #[derive(Deserialize)]
        struct Spec {
            selector: Option<serde_json::Value>,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Status {
            disruptions_allowed: i32,
            disrupted_pods: BTreeMap<Box<str>, serde::de::IgnoredAny>,
        }
        let Decoded { spec, status } = object.decode().ok()?;
        Some(Self {
            selector: LabelSelector::from_object(spec.selector.as_ref()).ok()?,
            allowed: status.disruptions_allowed,
            disrupted: status.disrupted_pods.into_keys().collect(),
        })
    }
}
