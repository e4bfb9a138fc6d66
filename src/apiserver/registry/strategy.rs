//! What differs between resources when they are written: a row of flags and small functions, most of them the same.
//!
//! Upstream: the strategy.go files of kubernetes pkg/registry.

use coracle_api::schema::Schema;
use coracle_api::{Object, Resource, Status, codec};
use coracle_store::Op;
use serde_json::{Map, Value, json};

use super::{Registry, Stored, metadata, partition};

pub mod certificate;
pub mod claim;
pub mod lease;
pub mod namespace;
pub mod pod;
pub mod service;
pub mod workload;

type Beside = fn(&Registry, Option<&Value>, Option<&mut Value>) -> Result<Vec<Op<Stored>>, Status>;

/// Flags and functions of a resource.
pub struct Strategy {
    /// Whether `metadata.generation` counts changes of the desired state.
    pub generation: bool,
    /// Whether a client may give `status` when it creates the object (nodes do).
    pub status_on_create: bool,
    /// Whether PUT and apply of an absent object create it. Apply always may.
    pub create_on_update: bool,
    /// Whether PUT without a resourceVersion overwrites.
    pub unconditional_update: bool,
    /// Whether delete answers with the object instead of a Status.
    pub returns_deleted: bool,
    pub prepare_create: fn(&mut Value),
    /// New, old and the subresource that is written (`""` for the object itself).
    pub prepare_update: fn(&mut Value, &Value, &str),
    /// Writes that commit together with the object's: `(registry, old, new)`, `None` for absent. May fill fields of the new one.
    pub beside: Beside,
    /// Whether `beside` fills fields of a new object: then it begins anew after a conflict.
    pub allocates: bool,
    /// Whether a change, from old to new, need not be durable.
    pub is_renewal: fn(&Value, &Value) -> bool,
    /// Seconds that the object lives on after a delete, given what the client asked for.
    pub grace: fn(&Value, Option<i64>) -> i64,
}

const PLAIN: Strategy = Strategy {
    generation: false,
    status_on_create: false,
    create_on_update: false,
    unconditional_update: true,
    returns_deleted: false,
    prepare_create: |_| {},
    prepare_update: |_, _, _| {},
    beside: |_, _, _| Ok(Vec::new()),
    allocates: false,
    is_renewal: |_, _| false,
    grace: |_, _| 0,
};

static DEFAULT: Strategy = PLAIN;
static GENERATION: Strategy = Strategy { generation: true, ..PLAIN };
static CREATE_ON_UPDATE: Strategy = Strategy { create_on_update: true, ..PLAIN };
static CONDITIONAL: Strategy = Strategy { unconditional_update: false, ..PLAIN };
static LEASE: Strategy =
    Strategy { create_on_update: true, unconditional_update: false, is_renewal: lease::is_renewal, ..PLAIN };
static RETURNED: Strategy = Strategy { returns_deleted: true, ..PLAIN };
static CSI: Strategy = Strategy { returns_deleted: true, unconditional_update: false, ..PLAIN };
static DISRUPTION: Strategy = Strategy { generation: true, unconditional_update: false, ..PLAIN };
static NODE: Strategy = Strategy { status_on_create: true, ..PLAIN };
static TEMPLATE: Strategy = Strategy { generation: true, returns_deleted: true, ..PLAIN };
const WORKLOAD: Strategy = Strategy { generation: true, prepare_update: workload::prepare_update, ..PLAIN };
static COUNTED: Strategy = WORKLOAD;
static DAEMONS: Strategy =
    Strategy { prepare_create: workload::prepare_daemons, prepare_update: workload::update_daemons, ..WORKLOAD };
static JOB: Strategy = Strategy { prepare_create: workload::prepare_job, generation: true, ..PLAIN };
static CERTIFICATE_REQUEST: Strategy = Strategy { prepare_update: certificate::prepare_update, ..PLAIN };
static CLAIM: Strategy = Strategy {
    returns_deleted: true,
    prepare_create: claim::prepare_create,
    prepare_update: claim::prepare_update,
    ..PLAIN
};
static VOLUME: Strategy = Strategy {
    returns_deleted: true,
    prepare_create: |tree| {
        tree["status"] = json!({ "phase": "Pending", "lastPhaseTransitionTime": metadata::now() });
    },
    ..PLAIN
};
static NAMESPACE: Strategy = Strategy {
    returns_deleted: true,
    prepare_create: namespace::prepare_create,
    prepare_update: namespace::prepare_update,
    ..PLAIN
};
static POD: Strategy = Strategy {
    generation: true,
    returns_deleted: true,
    prepare_create: pod::prepare_create,
    prepare_update: pod::prepare_update,
    grace: pod::grace,
    ..PLAIN
};
static SERVICE: Strategy = Strategy {
    create_on_update: true,
    returns_deleted: true,
    prepare_create: service::prepare_create,
    prepare_update: service::prepare_update,
    beside: service::beside,
    allocates: true,
    ..PLAIN
};

impl Strategy {
    pub fn of(resource: &Resource) -> &'static Strategy {
        match (&*resource.group, &*resource.plural) {
            ("", "pods") => &POD,
            ("", "services") => &SERVICE,
            ("", "namespaces") => &NAMESPACE,
            ("", "nodes") => &NODE,
            ("", "persistentvolumeclaims") => &CLAIM,
            ("", "persistentvolumes") => &VOLUME,
            ("", "podtemplates") => &TEMPLATE,
            ("", "serviceaccounts" | "resourcequotas") => &RETURNED,
            ("", "endpoints" | "events" | "limitranges") | ("events.k8s.io", _) | ("rbac.authorization.k8s.io", _) => {
                &CREATE_ON_UPDATE
            }
            ("coordination.k8s.io", _) => &LEASE,
            ("", "replicationcontrollers")
            | ("apps", "deployments" | "replicasets" | "statefulsets")
            | ("batch", "cronjobs") => &COUNTED,
            ("apps", "daemonsets") => &DAEMONS,
            ("batch", "jobs") => &JOB,
            ("certificates.k8s.io", "certificatesigningrequests") => &CERTIFICATE_REQUEST,
            ("policy", _) => &DISRUPTION,
            ("storage.k8s.io", "csidrivers" | "csinodes" | "volumeattachments") => &CSI,
            ("storage.k8s.io", "csistoragecapacities")
            | ("node.k8s.io", _)
            | ("admissionregistration.k8s.io", _)
            | ("certificates.k8s.io", "clustertrustbundles") => &CONDITIONAL,
            ("storage.k8s.io", _) | ("resource.k8s.io", _) => &RETURNED,
            ("networking.k8s.io", "ingresses" | "ingressclasses" | "networkpolicies")
            | ("discovery.k8s.io", _)
            | ("scheduling.k8s.io", "priorityclasses")
            | ("flowcontrol.apiserver.k8s.io", _)
            | ("autoscaling", _)
            | ("apiextensions.k8s.io", _) => &GENERATION,
            _ => &DEFAULT,
        }
    }

    /// Whether `status` belongs to those who serve the object, not to those who want it.
    pub fn has_status(resource: &Resource) -> bool {
        resource.subresources.iter().any(|subresource| subresource.name == "status")
    }
}

/// Keeps of a new object what its creator may give, and starts its generation.
pub fn prepare_create(resource: &Resource, tree: &mut Value) {
    let strategy = Strategy::of(resource);
    if Strategy::has_status(resource) && !strategy.status_on_create && tree.get("status").is_some() {
        tree["status"] = zero_status(resource);
    }
    if strategy.generation {
        metadata::of(tree).insert("generation".to_owned(), json!(1));
    }
    (strategy.prepare_create)(tree);
}

/// The status that Go's zero value shows.
fn zero_status(resource: &Resource) -> Value {
    let stored = partition::stored(resource);
    let field = stored.ty(Schema::builtin()).and_then(|ty| ty.field("status"));
    field.map_or_else(|| Value::Object(Map::new()), |field| codec::zero(field.ty()))
}

/// Keeps of an update what the subresource may change, and counts the generation.
pub fn prepare_update(resource: &Resource, new: &mut Value, old: &Value, subresource: &str) {
    let strategy = Strategy::of(resource);
    match subresource {
        "" if Strategy::has_status(resource) => keep(new, old, "status"),
        "status" | "approval" => {
            let names: Vec<String> =
                fields(new).chain(fields(old)).filter(|&name| !is_own(name)).map(str::to_owned).collect();
            for name in names {
                keep(new, old, &name);
            }
        }
        _ => {}
    }
    (strategy.prepare_update)(new, old, subresource);
    if strategy.generation && !matches!(subresource, "status" | "approval" | "binding") && desired_differs(new, old) {
        let next = metadata::generation(old) + 1;
        metadata::of(new).insert("generation".to_owned(), json!(next));
    }
}

/// Top-level fields that a status update may carry.
fn is_own(name: &str) -> bool {
    matches!(name, "metadata" | "status" | "apiVersion" | "kind")
}

fn fields(tree: &Value) -> impl Iterator<Item = &str> {
    tree.as_object().into_iter().flat_map(Map::keys).map(String::as_str)
}

fn desired_differs(new: &Value, old: &Value) -> bool {
    let differs = |name: &str| !is_own(name) && new.get(name) != old.get(name);
    fields(new).chain(fields(old)).any(differs)
}

/// Puts the old value of a top-level field, or its absence, into the new object.
pub fn keep(new: &mut Value, old: &Value, name: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    match old.get(name) {
        Some(value) => fields.insert(name.to_owned(), value.clone()),
        None => fields.remove(name),
    };
}

/// Seconds of grace that `object` gets.
pub fn grace(object: &Object, tree: &Value, asked: Option<i64>) -> i64 {
    (Strategy::of(object.resource()).grace)(tree, asked)
}

#[cfg(test)]
mod tests;
