//! An API server of a few lines: objects as JSON, watched, created, patched and deleted as a node does it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coracle_api::object::Meta;
use coracle_api::{Object, Resource, Status};
use coracle_client::{ObjectEvent, ObjectSource, Selection};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::sync::watch;

#[derive(Clone, Default)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// By URI path, such as `/api/v1/namespaces/n/pods/p`.
    objects: BTreeMap<String, Value>,
    log: Vec<(u64, String, Option<Value>, Value)>,
    pub writes: Vec<String>,
}

impl FakeApi {
    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (code, answer) = api.handle(&parts.method, parts.uri.path(), &body);
                let response =
                    Response::builder().status(code).body(Full::new(Bytes::from(answer.to_string()))).unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        kube::Client::new(service, "default")
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// Every write so far: method and path.
    pub fn writes(&self) -> Vec<String> {
        self.state.lock().unwrap().writes.clone()
    }

    pub fn put(&self, path: &str, object: Value) -> Value {
        let mut state = self.state.lock().unwrap();
        self.store(&mut state, path, object)
    }

    /// What is there afterwards.
    fn store(&self, state: &mut State, path: &str, mut object: Value) -> Value {
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        let before = state.objects.insert(path.to_owned(), object.clone());
        state.log.push((revision, path.to_owned(), before, object.clone()));
        self.changed.send_replace(revision);
        object
    }

    pub fn remove(&self, path: &str) {
        let mut state = self.state.lock().unwrap();
        let Some(before) = state.objects.remove(path) else { return };
        state.revision += 1;
        let revision = state.revision;
        state.log.push((revision, path.to_owned(), Some(before), Value::Null));
        drop(state);
        self.changed.send_replace(revision);
    }

    /// Completes when the object is as wanted.
    pub async fn until(&self, path: &str, mut wanted: impl FnMut(Option<&Value>) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if wanted(self.get(path).as_ref()) {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
        assert!(in_time.is_ok(), "{path} is {:#?}", self.get(path));
    }

    fn handle(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        self.state.lock().unwrap().writes.push(format!("{method} {path}"));
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let missing = |reason: &str, code: u16| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code}),
            )
        };
        if path.ends_with("/token") {
            return (
                201,
                json!({"metadata": {}, "spec": {"audiences": []}, "status": {"token": "a-token", "expirationTimestamp": "2040-01-01T00:00:00Z"}}),
            );
        }
        let target = path.strip_suffix("/status").unwrap_or(path).to_owned();
        match *method {
            Method::POST => {
                let target = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
                if self.get(&target).is_some() {
                    return missing("AlreadyExists", 409);
                }
                let mut object = body;
                if object["metadata"]["uid"].is_null() {
                    object["metadata"]["uid"] = format!("uid-{}", self.state.lock().unwrap().revision).into();
                }
                (201, self.put(&target, object))
            }
            Method::PATCH => {
                // Under one lock: the test may remove the object meanwhile.
                let mut state = self.state.lock().unwrap();
                let Some(mut object) = state.objects.get(&target).cloned() else { return missing("NotFound", 404) };
                if body["metadata"]["uid"].as_str().is_some_and(|uid| object["metadata"]["uid"] != uid) {
                    return missing("Conflict", 409);
                }
                merge(&mut object, &body);
                (200, self.store(&mut state, &target, object))
            }
            Method::DELETE => {
                if self.get(&target).is_none() {
                    return missing("NotFound", 404);
                }
                self.remove(&target);
                (200, json!({"kind": "Status", "status": "Success"}))
            }
            _ => self.get(&target).map_or(missing("NotFound", 404), |object| (200, object)),
        }
    }
}

/// Lists with `type` are merged by it, as conditions are; everything else as RFC 7386 says.
fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    object.remove(key);
                } else {
                    merge(object.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (Value::Array(present), Value::Array(items)) if items.iter().all(|item| item.get("type").is_some()) => {
            let (gone, items): (Vec<_>, Vec<_>) = items.iter().partition(|item| item["$patch"] == "delete");
            present.retain(|present| !gone.iter().any(|item| item["type"] == present["type"]));
            for item in items {
                match present.iter_mut().find(|present| present["type"] == item["type"]) {
                    Some(present) => *present = item.clone(),
                    None => present.push(item.clone()),
                }
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

impl ObjectSource for FakeApi {
    fn list_watch(&self, resource: &Resource, selection: Selection) -> BoxStream<'static, Result<ObjectEvent, Status>> {
        let resource = resource.clone();
        let name = selection.fields.strip_prefix("metadata.name=").map(str::to_owned);
        let selects = move |path: &str| {
            path.contains(&format!("/{}/", resource.plural))
                && name.as_ref().is_none_or(|name| path.ends_with(&format!("/{name}")))
                && selection
                    .namespace
                    .as_ref()
                    .is_none_or(|namespace| path.contains(&format!("/namespaces/{namespace}/")))
        };
        let resource = Resource::find("", "v1", if selects("/pods/") { "pods" } else { "services" }).unwrap();
        let state = self.state.lock().unwrap();
        let mut first = vec![Ok(ObjectEvent::Restarted)];
        first.extend(
            state
                .objects
                .iter()
                .filter(|(path, _)| selects(path))
                .map(|(_, value)| Ok(ObjectEvent::Applied(object(&resource, value)))),
        );
        first.push(Ok(ObjectEvent::Synced(state.revision)));
        let seen = state.revision;
        drop(state);
        let api = self.clone();
        let changed = self.changed.subscribe();
        let later = futures::stream::unfold(
            (api, changed, seen, selects, resource),
            |(api, mut changed, seen, selects, resource)| async move {
                changed.wait_for(|revision| *revision > seen).await.ok()?;
                let state = api.state.lock().unwrap();
                let news = state.log.iter().filter(|(revision, path, ..)| *revision > seen && selects(path));
                let events: Vec<_> = news
                    .map(|(_, _, before, after)| {
                        Ok(match (before, after) {
                            (Some(before), Value::Null) => ObjectEvent::Deleted(object(&resource, before)),
                            (_, after) => ObjectEvent::Applied(object(&resource, after)),
                        })
                    })
                    .collect();
                let seen = state.revision;
                drop(state);
                Some((futures::stream::iter(events), (api, changed, seen, selects, resource)))
            },
        );
        futures::stream::iter(first).chain(later.flatten()).boxed()
    }
}

fn object(resource: &Resource, value: &Value) -> Object {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default();
    let meta = Meta {
        namespace: text("namespace").into(),
        name: text("name").into(),
        uid: text("uid").into(),
        ..Meta::default()
    };
    Object::new(resource.clone(), text("resourceVersion").parse().unwrap_or(0), value.to_string().into(), meta)
}
