//! `pods/eviction`: a delete that budgets may refuse.
//!
//! Upstream: kubernetes pkg/registry/core/pod/storage/eviction.go.

use coracle_api::selector::LabelSelector;
use coracle_api::status::Cause;
use coracle_api::{Object, Resource, Status};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::{read, require};
use crate::body::Body;
use crate::call::Call;
use crate::registry::write::delete::{DeleteOptions, Preconditions};
use crate::registry::write::{Edit, Writer};
use crate::registry::{Registry, metadata, tree};
use crate::server::ApiServer;
use crate::verbs::answer;
use crate::verbs::create::writer;

/// Evictions that a budget has granted and its controller has not seen carried out, at most.
const MOST_DISRUPTED: usize = 2000;
const CAUSE: &str = "DisruptionBudget";
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

pub(super) async fn answer(
    server: &ApiServer,
    call: &mut Call,
    pods: &Resource,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    require(call, Method::POST)?;
    let (eviction, dry_run) = read(call, request, "policy", "v1", "Eviction").await?;
    let given = metadata::text(&eviction, "name");
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    if !given.is_empty() && given != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options: DeleteOptions = match eviction.get("deleteOptions") {
        Some(options) => serde::Deserialize::deserialize(options)
            .map_err(|error: serde_json::Error| Status::bad_request(error.to_string()))?,
        None => DeleteOptions::default(),
    };
    let dry_run = dry_run || !options.dry_run.is_empty();
    let pod = server.inner.registry.find(pods, &namespace, &name).await?;
    let permission = permission(&server.inner.registry, &pod)?;
    let mut writer = writer(server, call, dry_run);
    let pinned = match &permission {
        Permission::Free { pinned } => *pinned,
        Permission::Budget(budget) => {
            take(&mut writer, &namespace, budget, &name).await?;
            false
        }
    };
    let result = evict(&mut writer, pods, &pod, &options, pinned).await;
    // The pod became ready in between: then its budget has a say.
    if pinned && result.as_ref().is_err_and(Status::is_conflict) && options.preconditions.is_none() {
        return Err(Status::too_many_requests(REFUSED, 10));
    }
    result?;
    answer::done(call, &Status::success(Some(201), None), StatusCode::CREATED)
}

enum Permission {
    /// No budget is asked; `pinned`: as long as the pod is as it was seen.
    Free { pinned: bool },
    /// The budget of that name has to grant it.
    Budget(String),
}

fn permission(registry: &Registry, pod: &Object) -> Result<Permission, Status> {
    let seen = tree(pod)?;
    let phase = seen["status"]["phase"].as_str().unwrap_or_default();
    if metadata::is_deleting(&seen) || matches!(phase, "Succeeded" | "Failed") {
        return Ok(Permission::Free { pinned: false });
    }
    if phase == "Pending" {
        return Ok(Permission::Free { pinned: true });
    }
    let resource = budgets();
    let mut selecting = Vec::new();
    for budget in registry.all(&resource, &pod.meta().namespace) {
        let budget = tree(&budget)?;
        let selector = budget["spec"].get("selector").filter(|selector| !selector.is_null());
        if LabelSelector::from_object(selector).is_ok_and(|selector| selector.matches(&*pod.meta().labels)) {
            selecting.push(budget);
        }
    }
    if selecting.len() > 1 {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::plain(500, "", why));
    }
    let Some(budget) = selecting.pop() else { return Ok(Permission::Free { pinned: false }) };
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    let enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    if !is_ready(&seen) && (always || enough) {
        return Ok(Permission::Free { pinned: true });
    }
    Ok(Permission::Budget(metadata::text(&budget, "name").to_owned()))
}

fn budgets() -> Resource {
    Resource::find("policy", "v1", "poddisruptionbudgets").expect("the catalog holds budgets")
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Takes one disruption off the budget.
async fn take(writer: &mut Writer<'_>, namespace: &str, name: &str, pod: &str) -> Result<(), Status> {
    let edit = Edit { namespace, name, subresource: "status", create: false, whole: false };
    let dry_run = writer.dry_run;
    let mut change = |old: Option<&Value>| {
        let Some(old) = old else { return Err(Status::not_found(&budgets(), name)) };
        check(old, name)?;
        let mut new = old.clone();
        let status = &mut new["status"];
        let left = status["disruptionsAllowed"].as_i64().unwrap_or(0) - 1;
        status["disruptionsAllowed"] = left.into();
        if left == 0 {
            exhausted(status);
        }
        if !dry_run {
            status["disruptedPods"][pod] = metadata::now().into();
        }
        Ok(new)
    };
    writer.update(&budgets(), &edit, &mut change).await.map(drop)
}

fn exhausted(status: &mut Value) {
    let generation = status["observedGeneration"].clone();
    let conditions = status["conditions"].as_array_mut().into_iter().flatten();
    for condition in conditions.filter(|condition| condition["type"] == "DisruptionAllowed") {
        if condition["status"] != "False" {
            condition["lastTransitionTime"] = metadata::now().into();
        }
        condition["status"] = "False".into();
        condition["reason"] = "InsufficientPods".into();
        condition["message"] = "".into();
        condition["observedGeneration"] = generation.clone();
    }
}

/// Whether the budget allows one more disruption.
fn check(budget: &Value, name: &str) -> Result<(), Status> {
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let caused = |mut error: Status, why: String| {
        let cause = Cause { reason: CAUSE.to_owned(), message: why, field: String::new() };
        error.details.get_or_insert_default().causes.push(cause);
        Err(error)
    };
    let forbidden = |why: &str, more: &str| {
        let error = Status::forbidden(("policy", "poddisruptionbudget"), name, why);
        caused(error, format!("The disruption budget {name} does not allow evicting pods currently: {more}"))
    };
    if number("observedGeneration") < metadata::generation(budget) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return caused(Status::too_many_requests(REFUSED, 10), why);
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return forbidden(why, why);
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            "too many pending evictions not confirmed by PDB controller",
        );
    }
    if allowed > 0 {
        return Ok(());
    }
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let condition = conditions.find(|it| it["type"] == "DisruptionAllowed" && it["status"] == "False");
    let said = |field: &str| condition.and_then(|it| it[field].as_str()).unwrap_or_default();
    let (message, reason) = (said("message"), said("reason"));
    let (healthy, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let why = if !message.is_empty() && reason == "SyncFailed" {
        format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}")
    } else if healthy <= desired {
        format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
    } else if !message.is_empty() {
        format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    };
    caused(Status::too_many_requests(REFUSED, 0), why)
}

/// Says so in the pod's status, then deletes it.
async fn evict(
    writer: &mut Writer<'_>,
    pods: &Resource,
    pod: &Object,
    options: &DeleteOptions,
    pinned: bool,
) -> Result<(), Status> {
    let (namespace, name) = (&*pod.meta().namespace, &*pod.meta().name);
    let mut options = options.clone();
    if pinned {
        let revision = &mut options.preconditions.get_or_insert_with(Preconditions::default).resource_version;
        revision.get_or_insert_with(|| pod.revision().to_string());
    }
    if !writer.dry_run {
        let edit = Edit { namespace, name, subresource: "status", create: false, whole: false };
        let wanted = options.preconditions.clone().unwrap_or_default();
        let mut change = |old: Option<&Value>| {
            let Some(old) = old else { return Err(Status::not_found(pods, name)) };
            let differs = |wanted: &Option<String>, field: &str| {
                wanted.as_deref().is_some_and(|wanted| !wanted.is_empty() && wanted != metadata::text(old, field))
            };
            if differs(&wanted.uid, "uid") || differs(&wanted.resource_version, "resourceVersion") {
                return Err(Status::modified(pods, name));
            }
            let mut new = old.clone();
            mark(&mut new);
            Ok(new)
        };
        let marked = writer.update(pods, &edit, &mut change).await?;
        if let Some(revision) = options.preconditions.as_mut().and_then(|wanted| wanted.resource_version.as_mut()) {
            *revision = marked.object().revision().to_string();
        }
    }
    writer.delete(pods, namespace, name, &options).await.map(drop)
}

/// Sets the condition DisruptionTarget.
fn mark(pod: &mut Value) {
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": metadata::now(),
    });
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|own| own["type"] == "DisruptionTarget") {
        Some(own) => {
            if own["status"] == "True" {
                condition["lastTransitionTime"] = own["lastTransitionTime"].clone();
            }
            *own = condition;
        }
        None => conditions.push(condition),
    }
}
