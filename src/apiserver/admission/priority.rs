//! Priority: a pod's priority is that of its class; the two system classes exist from the start.
//!
//! Upstream: kubernetes plugin/pkg/admission/priority.

use std::sync::LazyLock;

use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::{Operation, Request};
use crate::registry::{Registry, metadata, tree};

pub static CLASSES: LazyLock<Resource> = LazyLock::new(|| {
    Resource::find("scheduling.k8s.io", "v1", "priorityclasses").expect("the catalog holds priorityclasses")
});

pub fn mutate(registry: &Registry, request: &Request<'_>, pod: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if !request.subresource.is_empty() || !pod["spec"].is_object() {
        return Ok(());
    }
    if let (Operation::Update, Some(old)) = (request.operation, old) {
        for name in ["priority", "preemptionPolicy"] {
            if pod["spec"].get(name).is_none()
                && let Some(value) = old["spec"].get(name)
            {
                pod["spec"][name] = value.clone();
            }
        }
        return Ok(());
    }
    let class = class_of(registry, request, pod)?;
    let (name, value, policy) = class.unwrap_or_else(|| (String::new(), 0, "PreemptLowerPriority".to_owned()));
    let forbid = |why: String| Err(Status::forbidden(request.resource, metadata::text(pod, "name"), why));
    if let Some(given) = pod["spec"]["priority"].as_i64()
        && given != value
    {
        return forbid(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        ));
    }
    if let Some(given) = pod["spec"]["preemptionPolicy"].as_str()
        && given != policy
    {
        return forbid(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        ));
    }
    if !name.is_empty() {
        pod["spec"]["priorityClassName"] = json!(name);
    }
    pod["spec"]["priority"] = json!(value);
    pod["spec"]["preemptionPolicy"] = json!(policy);
    Ok(())
}

/// Name, value and preemption policy of the class that the pod names, or of the default one.
fn class_of(registry: &Registry, request: &Request<'_>, pod: &Value) -> Result<Option<(String, i64, String)>, Status> {
    let class = match pod["spec"]["priorityClassName"].as_str().unwrap_or_default() {
        "" => {
            let classes = registry.all(&CLASSES, "").into_iter().filter_map(|object| tree(&object).ok());
            // The one with the lowest value, should there be several.
            classes.filter(|class| class["globalDefault"] == true).min_by_key(|class| class["value"].as_i64())
        }
        name => {
            let Some(object) = registry.resident(&CLASSES, "", name) else {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(Status::forbidden(request.resource, metadata::text(pod, "name"), why));
            };
            Some(tree(&object)?)
        }
    };
    Ok(class.map(|class| {
        let policy = class["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority");
        (metadata::text(&class, "name").to_owned(), class["value"].as_i64().unwrap_or(0), policy.to_owned())
    }))
}
