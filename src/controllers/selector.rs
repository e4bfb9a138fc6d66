//! What triggers need to know of a workload or a budget: which pods it selects.

use coracle_api::Object;
use coracle_api::selector::LabelSelector;
use coracle_client::Project;
use serde::Deserialize;

/// Of a Deployment, DaemonSet, StatefulSet or PodDisruptionBudget; one whose selector cannot be read is left out.
pub struct SelectorView {
    pub selector: LabelSelector,
}

impl Project for SelectorView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Workload {
            spec: Spec,
        }
        #[derive(Deserialize)]
        struct Spec {
            selector: Option<serde_json::Value>,
        }
        let workload: Workload = object.decode().ok()?;
        Some(Self { selector: LabelSelector::from_object(workload.spec.selector.as_ref()).ok()? })
    }
}
