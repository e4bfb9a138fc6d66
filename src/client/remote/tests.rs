//! List, watch, resume and relist against a server that answers from a script.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use coracle_api::resource::Row;
use http::Response;
use http_body_util::Full;

use super::*;

static ROW: Row = Row {
    group: Cow::Borrowed(""),
    version: Cow::Borrowed("v1"),
    kind: Cow::Borrowed("Pod"),
    list_kind: Cow::Borrowed("PodList"),
    plural: Cow::Borrowed("pods"),
    singular: Cow::Borrowed("pod"),
    short_names: Cow::Borrowed(&[]),
    categories: Cow::Borrowed(&[]),
    namespaced: true,
    verbs: Cow::Borrowed(&[]),
    subresources: Cow::Borrowed(&[]),
    type_name: Cow::Borrowed(""),
    storage: (Cow::Borrowed(""), Cow::Borrowed("v1")),
    selectable: Cow::Borrowed(&[(
        Cow::Borrowed("spec.nodeName"),
        Cow::Borrowed(&[Cow::Borrowed("spec"), Cow::Borrowed("nodeName")]),
    )]),
};

/// What a watch or list of `script` gives its reader, in words, and the queries it sent.
async fn play(script: &[(u16, &str)], events: usize) -> (String, String) {
    let answers: Arc<Mutex<VecDeque<_>>> =
        Arc::new(Mutex::new(script.iter().map(|(code, body)| (*code, body.to_string())).collect()));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let query = request.uri().to_string();
        log.lock().unwrap().push(query.split("&timeoutSeconds").next().unwrap().to_owned());
        let (code, body) = answers.lock().unwrap().pop_front().unwrap_or((200, String::new()));
        async move { Ok::<_, Infallible>(Response::builder().status(code).body(Full::from(body)).unwrap()) }
    });
    let source = RemoteSource::new(kube::Client::new(service, "default"));
    let selection = Selection { namespace: Some("a".into()), fields: "spec.nodeName=n1".into(), ..Default::default() };
    let stream = source.list_watch(&Resource::of_row(&ROW), selection);
    let told: Vec<String> = stream.take(events).map(|event| in_words(&event)).collect().await;
    let asked = asked
        .lock()
        .unwrap()
        .join("\n")
        .replace("/api/v1/namespaces/a/pods", "")
        .replace("&fieldSelector=spec.nodeName%3Dn1", "");
    (told.join(" "), asked)
}

fn in_words(event: &Result<ObjectEvent, Status>) -> String {
    match event {
        Ok(ObjectEvent::Restarted) => "restarted".to_owned(),
        Ok(ObjectEvent::Applied(object)) => {
            let meta = object.meta();
            assert!(object.json().starts_with(br#"{"kind":"Pod""#), "{:?}", object.json());
            format!("+{}@{}[{}]", meta.name, object.revision(), meta.fields.join(","))
        }
        Ok(ObjectEvent::Deleted(object)) => format!("-{}@{}", object.meta().name, object.revision()),
        Ok(ObjectEvent::Synced(revision)) => format!("synced@{revision}"),
        Err(status) => format!("{}:{}", status.code, status.reason),
    }
}

const PAGE_ONE: &str = r#"{"metadata":{"resourceVersion":"9","continue":"x=1"},"items":[{"metadata":{"name":"a","namespace":"a","resourceVersion":"3"},"spec":{"nodeName":"n1"}}]}"#;
const PAGE_TWO: &str =
    r#"{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"b","namespace":"a","resourceVersion":"4"}}]}"#;
const EMPTY: &str = r#"{"metadata":{"resourceVersion":"20"},"items":null}"#;
const CHANGES: &str = concat!(
    r#"{"type":"MODIFIED","object":{"kind":"Pod","metadata":{"name":"a","resourceVersion":"11"}}}"#,
    "\n",
    r#"{"type":"DELETED","object":{"kind":"Pod","metadata":{"name":"b","resourceVersion":"12"}}}"#,
    "\n",
    r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"15"}}}"#,
    "\n",
);
const EXPIRED: &str = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}
"#;
const FORBIDDEN: &str = r#"{"kind":"Status","code":403,"reason":"Forbidden","message":"no"}"#;

#[tokio::test(start_paused = true)]
async fn pages_then_changes_then_resume_after_the_bookmark() {
    let (told, asked) = play(&[(200, PAGE_ONE), (200, PAGE_TWO), (200, CHANGES), (200, CHANGES)], 8).await;
    assert_eq!(told, "restarted +a@3[n1] +b@4[] synced@9 +a@11[] -b@12 +a@11[] -b@12");
    let asked: Vec<_> = asked.lines().take(4).collect();
    assert_eq!(
        asked,
        [
            "?limit=500&continue=",
            "?limit=500&continue=x%3D1",
            "?watch=true&allowWatchBookmarks=true&resourceVersion=9",
            "?watch=true&allowWatchBookmarks=true&resourceVersion=15",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_too_old_asks_for_a_new_list() {
    for expired in [(200, EXPIRED), (410, "{\"code\":410,\"reason\":\"Expired\",\"message\":\"\"}")] {
        let (told, _) = play(&[(200, PAGE_TWO), expired, (200, EMPTY)], 5).await;
        assert_eq!(told, "restarted +b@4[] synced@9 restarted synced@20");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_tried_again() {
    let (told, _) = play(&[(403, FORBIDDEN), (502, "bad gateway"), (200, "not json"), (200, EMPTY)], 8).await;
    assert_eq!(told, "restarted 403:Forbidden restarted 502: restarted 500:InternalError restarted synced@20");
}
