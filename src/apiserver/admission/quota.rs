//! ResourceQuota: what a namespace may hold in all. What a write takes is added to the quotas' status with it, in the
//! same transaction.
//!
//! Upstream: k8s.io/apiserver pkg/admission/plugin/resourcequota.

use coracle_api::quantity::Quantity;
use coracle_api::quota::{self, Amounts};
use coracle_api::{Resource, Status};
use coracle_store::{Expect, Op};
use jiff::Timestamp;
use serde_json::Value;

use crate::registry::{Registry, Stored, metadata, put, tree};

/// The changes of quotas that go with the write of `new` in place of `old`; 403 when one does not allow it.
pub fn charge(
    registry: &Registry,
    resource: &Resource,
    new: &Value,
    old: Option<&Value>,
) -> Result<Vec<Op<Stored>>, Status> {
    let namespace = metadata::text(new, "namespace");
    if namespace.is_empty() {
        return Ok(Vec::new());
    }
    // Only these take more or less while they live.
    let changes =
        resource.group.is_empty() && matches!(&*resource.plural, "pods" | "services" | "persistentvolumeclaims");
    if old.is_some() && !changes {
        return Ok(Vec::new());
    }
    let quotas = Resource::find("", "v1", "resourcequotas").ok_or_else(Status::no_such_path)?;
    let mut ops = Vec::new();
    for object in registry.all(&quotas, namespace) {
        let mut quota = tree(&object)?;
        if let Some(used) = used_after(resource, &quota, new, old)? {
            for (name, amount) in used {
                quota["status"]["used"][name] = amount.to_string().into();
            }
            ops.push(put(&quotas, &quota, Expect::Revision(object.revision())));
        }
    }
    Ok(ops)
}

/// What the quota's status is to say; `None` when it stays.
fn used_after(resource: &Resource, quota: &Value, new: &Value, old: Option<&Value>) -> Result<Option<Amounts>, Status> {
    let hard = amounts(&quota["status"]["hard"]);
    let concerned = |name: &String| quota::concerns(resource, name);
    let names: Vec<&String> = hard.keys().filter(|name| concerned(name)).collect();
    let (covers, covered) =
        (quota::in_scope(quota, resource, new), old.is_some_and(|old| quota::in_scope(quota, resource, old)));
    if names.is_empty() || !(covers || covered) {
        return Ok(None);
    }
    let (name, own) = (metadata::text(quota, "name"), metadata::text(new, "name"));
    let refuse = |why: String| Err(Status::forbidden(resource, own, why));
    let pods = resource.group.is_empty() && resource.plural == "pods";
    if pods
        && old.is_none()
        && let Some(why) = quota::missing(new, names.iter().map(|name| name.as_str()))
    {
        return refuse(format!("failed quota: {name}: {why}"));
    }
    let used = amounts(&quota["status"]["used"]);
    if names.iter().any(|name| !used.contains_key(*name)) {
        let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",");
        return refuse(format!("status unknown for quota: {name}, resources: {names}"));
    }
    let now = Timestamp::now();
    let usage = |object: &Value, counts: bool| {
        if counts { quota::usage(resource, object, now) } else { Amounts::new() }
    };
    let (after, before) = (usage(new, covers), old.map(|old| usage(old, covered)).unwrap_or_default());
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or(Quantity::ZERO);
    let delta = |name: &str| of(&after, name) - of(&before, name);
    let grows = |name: &&&String| delta(name) > Quantity::ZERO;
    let over: Vec<&&String> =
        names.iter().filter(grows).filter(|name| of(&used, name) + delta(name) > of(&hard, name)).collect();
    if !over.is_empty() {
        let list = |of: &dyn Fn(&str) -> Quantity| {
            over.iter().map(|name| format!("{name}={}", of(name))).collect::<Vec<_>>().join(",")
        };
        let (asked, had, most) = (list(&delta), list(&|name| of(&used, name)), list(&|name| of(&hard, name)));
        return refuse(format!("exceeded quota: {name}, requested: {asked}, used: {had}, limited: {most}"));
    }
    // What shrinks is found by the controller, which counts anew.
    let grown = names.iter().filter(grows).map(|name| ((*name).clone(), delta(name))).collect();
    let mut changed: Amounts = names.iter().filter(grows).map(|name| ((*name).clone(), of(&used, name))).collect();
    quota::add(&mut changed, &grown);
    Ok((!changed.is_empty()).then_some(changed))
}

fn amounts(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), Quantity::from_value(value).ok()?))).collect()
}
