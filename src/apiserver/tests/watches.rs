//! Watches over HTTP and sources in the process.

use coracle_api::Resource;
use coracle_client::{ObjectEvent, Selection};
use futures::StreamExt;

use super::*;

/// The events of a watch, read as they come.
struct Watch {
    body: Body,
    pending: Vec<Value>,
}

impl Watch {
    async fn open(fixture: &Fixture, target: &str) -> Self {
        let response = fixture.send(Request::get(target).body(Body::Empty).unwrap()).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), pending: Vec::new() }
    }

    /// Type and name of the next event.
    async fn next(&mut self) -> (String, String, Value) {
        while self.pending.is_empty() {
            let frame = self.body.frame().await.expect("the watch goes on").unwrap().into_data().unwrap();
            let lines = frame.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            self.pending = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        }
        let event = self.pending.remove(0);
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        (event["type"].as_str().unwrap().to_owned(), name, event["object"].clone())
    }
}

#[tokio::test]
async fn watches_end_with_the_server() {
    let fixture = Fixture::new().await;
    let mut watch = Watch::open(&fixture, &format!("{CONFIGMAPS}?watch=1")).await;
    fixture.configmap("a").await;
    assert_eq!(watch.next().await.0, "ADDED");
    let shutdown = coracle_base::shutdown::Shutdown::new();
    shutdown.begin();
    fixture.server.run(shutdown).await;
    assert!(watch.body.frame().await.is_none());
}

#[tokio::test]
async fn a_watch_tells_what_its_selector_sees() {
    let fixture = Fixture::new().await;
    let first = fixture.configmap("a").await;
    let target = format!("{CONFIGMAPS}?watch=1&labelSelector=app%3Da&resourceVersion={}", revision(&first));
    let mut watch = Watch::open(&fixture, &target).await;
    fixture.configmap("b").await;
    let patch = |labels: Value| {
        let body = json!({"metadata": {"labels": labels}}).to_string();
        fixture.ask("PATCH /api/v1/namespaces/default/configmaps/a", "application/merge-patch+json", body)
    };
    patch(json!({"x": "1"})).await;
    let left = patch(json!({"app": "z"})).await.body;
    patch(json!({"app": "a"})).await;
    fixture.ask(&format!("DELETE {CONFIGMAPS}/a"), "", Body::Empty).await;
    let expected = ["MODIFIED", "DELETED", "ADDED", "DELETED"];
    let mut last = revision(&first);
    for kind in expected {
        let (found, name, object) = watch.next().await;
        assert_eq!((found.as_str(), name.as_str()), (kind, "a"));
        assert!(revision(&object) > last, "{object}");
        last = revision(&object);
        if revision(&object) == revision(&left) {
            assert_eq!(object["metadata"]["labels"]["app"], "a", "what left is shown as it was seen last");
        }
    }
}

#[tokio::test]
async fn a_watch_may_begin_with_the_state() {
    let fixture = Fixture::new().await;
    let object = fixture.configmap("a").await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Watch::open(&fixture, &format!("{CONFIGMAPS}?{query}")).await;
    let (kind, name, _) = watch.next().await;
    assert_eq!((kind.as_str(), name.as_str()), ("ADDED", "a"));
    let (kind, _, bookmark) = watch.next().await;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(revision(&bookmark), revision(&object));
    fixture.configmap("b").await;
    assert_eq!(watch.next().await.1, "b");
    assert_eq!(fixture.get(&format!("{CONFIGMAPS}?watch=1&sendInitialEvents=true")).await.code, 422);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_in_time_and_marks_its_place() {
    let fixture = Fixture::new().await;
    let from = revision(&fixture.configmap("first").await);
    let query = format!("watch=1&allowWatchBookmarks=true&timeoutSeconds=90&resourceVersion={from}");
    let mut watch = Watch::open(&fixture, &format!("{CONFIGMAPS}?{query}")).await;
    let object = fixture.configmap("a").await;
    assert_eq!(watch.next().await.0, "ADDED");
    let (kind, _, bookmark) = watch.next().await;
    assert_eq!((kind.as_str(), revision(&bookmark)), ("BOOKMARK", revision(&object)));
    assert!(watch.body.frame().await.is_none());
}

#[tokio::test]
async fn a_source_lists_then_follows() {
    let fixture = Fixture::new().await;
    fixture.configmap("a").await;
    let resource = Resource::find("", "v1", "configmaps").unwrap();
    let source = fixture.server.source(Arc::new(User::api_server()));
    let selection = Selection { namespace: Some("default".to_owned()), ..Selection::default() };
    let mut events = source.list_watch(&resource, selection.clone());
    let mut next = async || match events.next().await.unwrap() {
        Ok(ObjectEvent::Restarted) => "restarted".to_owned(),
        Ok(ObjectEvent::Applied(object)) => format!("applied {}", object.meta().name),
        Ok(ObjectEvent::Deleted(object)) => format!("deleted {}", object.meta().name),
        Ok(ObjectEvent::Synced(_)) => "synced".to_owned(),
        Err(status) => status.reason,
    };
    assert_eq!([next().await, next().await, next().await], ["restarted", "applied a", "synced"]);
    fixture.configmap("b").await;
    assert_eq!(next().await, "applied b");
    fixture.ask(&format!("DELETE {CONFIGMAPS}/a"), "", Body::Empty).await;
    assert_eq!(next().await, "deleted a");
    let mut refused = fixture.server.source(Arc::new(User::new("jane", &[]))).list_watch(&resource, selection);
    assert_eq!(refused.next().await.unwrap().err().unwrap().code, 403);
}

/// Watchers of one view are sent the same memory, not copies of it.
#[tokio::test]
async fn watchers_share_what_a_commit_is_rendered_to() {
    let fixture = Fixture::new().await;
    let from = revision(&fixture.configmap("a").await);
    let target = format!("{CONFIGMAPS}?watch=1&resourceVersion={from}");
    let mut watches = Vec::new();
    for target in [target.clone(), target.clone(), format!("{target}&labelSelector=app%3Db")] {
        watches.push(Watch::open(&fixture, &target).await);
    }
    fixture.configmap("b").await;
    let mut frames = Vec::new();
    for watch in &mut watches {
        frames.push(watch.body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    assert_eq!(frames[0].as_ptr(), frames[1].as_ptr());
    assert_eq!(frames[0], frames[2]);
    assert_ne!(frames[0].as_ptr(), frames[2].as_ptr());
}

/// A state that is larger than a frame is sent in several, and what changed meanwhile comes after it.
#[tokio::test]
async fn a_large_state_is_read_as_it_was_when_the_watch_began() {
    let fixture = Fixture::new().await;
    let large = "x".repeat(40_000);
    for name in ["a", "b", "c", "d"] {
        fixture.create(CONFIGMAPS, json!({"metadata": {"name": name}, "data": {"x": large}})).await;
    }
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Watch::open(&fixture, &format!("{CONFIGMAPS}?{query}")).await;
    assert_eq!(watch.next().await.1, "a");
    fixture.ask(&format!("DELETE {CONFIGMAPS}/d"), "", Body::Empty).await;
    fixture.configmap("e").await;
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let (kind, name, _) = watch.next().await;
        seen.push(format!("{kind} {name}"));
    }
    assert_eq!(seen, ["ADDED b", "ADDED c", "ADDED d", "BOOKMARK ", "DELETED d", "ADDED e"]);
}

#[tokio::test]
async fn events_in_protobuf_hold_what_those_in_json_hold() {
    use coracle_api::codec::protobuf;
    use coracle_api::schema::Schema;

    let fixture = Fixture::new().await;
    let object = fixture.configmap("a").await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    for (form, kind) in [
        ("", "io.k8s.api.core.v1.ConfigMap"),
        (";as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata"),
    ] {
        let accept = format!("application/vnd.kubernetes.protobuf;stream=watch{form}");
        let request = Request::get(format!("{CONFIGMAPS}?{query}")).header(header::ACCEPT, accept);
        let response = fixture.send(request.body(Body::Empty).unwrap()).await;
        assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
        let frame = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
        let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
        let event = &frame[4..4 + length];
        assert_eq!(&event[..7], b"\x0a\x05ADDED");
        let start = event.windows(4).position(|window| window == protobuf::MAGIC).unwrap();
        let ty = Schema::builtin().find(kind).unwrap();
        let decoded = protobuf::decode(ty, &event[start..]).unwrap();
        assert_eq!(decoded["metadata"], object["metadata"]);
        assert_eq!(decoded.get("data"), object.get("data").filter(|_| form.is_empty()));
        assert!(frame.len() > 4 + length, "the bookmark comes after it");
    }
}
