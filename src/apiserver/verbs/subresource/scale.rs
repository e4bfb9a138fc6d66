//! `scale`: the number of replicas of a workload as autoscaling/v1 Scale.
//!
//! Upstream: kubernetes pkg/registry/apps/deployment/storage ScaleREST.

use std::borrow::Cow;
use std::sync::LazyLock;

use coracle_api::object::Meta;
use coracle_api::resource::Row;
use coracle_api::schema::Schema;
use coracle_api::selector::LabelSelector;
use coracle_api::{Causes, Object, Resource, Status};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::{Call, read_body};
use crate::registry::write::Edit;
use crate::registry::{entry, metadata, ownership, tree};
use crate::server::ApiServer;
use crate::verbs::answer;
use crate::verbs::create::{facts, writer};
use crate::verbs::patch::{Document, apply_options};
use crate::{decode, failure};

const SCALE: decode::Expected<'static> = decode::Expected { group: "autoscaling", version: "v1", kind: "Scale" };

pub async fn answer(
    server: &ApiServer,
    call: &mut Call,
    resource: &Resource,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    if call.method == Method::GET {
        let object = server.inner.registry.find(resource, &namespace, &name).await?;
        return respond(call, &object);
    }
    let dry_run = call.dry_run()?;
    let body = read_body(&mut request).await?;
    enum Change {
        Put(Value),
        Patch(Document),
    }
    let change = match call.method {
        Method::PUT => Change::Put(decode::object(call, &body, &SCALE)?),
        Method::PATCH => Change::Patch(Document::parse(call, &body)?),
        _ => return Err(failure::method_not_allowed()),
    };
    if let Change::Put(scale) = &change
        && metadata::text(scale, "name") != name
    {
        let given = metadata::text(scale, "name");
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let force = match &change {
        Change::Patch(document) => apply_options(call, document)?,
        Change::Put(_) => false,
    };
    let facts = facts(call);
    let ty = Schema::builtin().of_kind("autoscaling", "v1", "Scale").ok_or_else(failure::no_schema)?;
    let whole = matches!(change, Change::Put(_));
    let edit = Edit { namespace: &namespace, name: &name, subresource: "scale", create: false, whole: false };
    let mut writer = writer(server, call, dry_run);
    writer.applies = matches!(&change, Change::Patch(document) if document.is_apply());
    let updated = writer
        .update(resource, &edit, &mut |old| {
            let Some(old) = old else { return Err(Status::not_found(resource, &name)) };
            let wanted = match &change {
                Change::Put(scale) => scale.clone(),
                Change::Patch(Document::Apply(applied)) => {
                    let merged = ownership::apply_scale(resource, old, applied, &facts, force)?;
                    check_replicas(&name, merged["spec"]["replicas"].as_i64().unwrap_or(0))?;
                    return Ok(merged);
                }
                Change::Patch(document) => {
                    let mut current = scale(old);
                    document.apply(&mut current, ty)?;
                    current
                }
            };
            let revision = metadata::text(&wanted, "resourceVersion");
            if !revision.is_empty() && revision != metadata::text(old, "resourceVersion") {
                return Err(Status::modified(resource, &name));
            }
            let uid = metadata::text(&wanted, "uid");
            if whole && !uid.is_empty() && uid != metadata::text(old, "uid") {
                return Err(Status::modified(resource, &name));
            }
            let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
            check_replicas(&name, replicas)?;
            let mut new = old.clone();
            new["spec"]["replicas"] = json!(replicas);
            Ok(new)
        })
        .await?;
    respond(call, updated.object())
}

/// The Scale of a workload, in the form that the client accepts.
fn respond(call: &Call, workload: &Object) -> Result<Response<Body>, Status> {
    let tree = scale(&tree(workload)?);
    let json = entry::frame_as(&SCALES, &tree).spliced(workload.revision());
    let meta =
        Meta { namespace: workload.meta().namespace.clone(), name: workload.meta().name.clone(), ..Meta::default() };
    let object = Object::new(SCALES.clone(), workload.revision(), json, meta);
    answer::object(call, &SCALES, &object, StatusCode::OK)
}

/// No collection of its own: what `scale` of any workload gives and takes.
static SCALES: LazyLock<Resource> = LazyLock::new(|| {
    let empty = Cow::Borrowed(&[][..]);
    Resource::custom(Row {
        group: "autoscaling".into(),
        version: "v1".into(),
        kind: "Scale".into(),
        list_kind: "ScaleList".into(),
        plural: "scales".into(),
        singular: "scale".into(),
        short_names: empty.clone(),
        categories: empty.clone(),
        namespaced: true,
        verbs: empty,
        subresources: Cow::Borrowed(&[]),
        type_name: "io.k8s.api.autoscaling.v1.Scale".into(),
        storage: ("autoscaling".into(), "v1".into()),
        selectable: Cow::Borrowed(&[]),
    })
});

fn check_replicas(name: &str, replicas: i64) -> Result<(), Status> {
    let mut causes = Causes::new();
    if replicas < 0 {
        causes.invalid("spec.replicas", replicas, "must be greater than or equal to 0");
    }
    causes.into_result(("autoscaling", "Scale"), name)
}

/// The Scale of a workload.
fn scale(workload: &Value) -> Value {
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = workload["metadata"].get(name) {
            metadata[name] = value.clone();
        }
    }
    let mut spec = json!({});
    if let Some(replicas) = workload["spec"]["replicas"].as_i64().filter(|&replicas| replicas != 0) {
        spec["replicas"] = json!(replicas);
    }
    let mut status = json!({ "replicas": workload["status"]["replicas"].as_i64().unwrap_or(0) });
    let selector = &workload["spec"]["selector"];
    // ReplicationControllers select by plain labels.
    let text = match selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        true => LabelSelector::from_object(Some(selector)).map(|selector| selector.to_string()).unwrap_or_default(),
        false => {
            let pairs = selector.as_object().into_iter().flatten();
            pairs
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(",")
        }
    };
    if !text.is_empty() {
        status["selector"] = json!(text);
    }
    json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status })
}
