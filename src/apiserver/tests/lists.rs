//! Lists: pages, selectors, forms, encodings.

use super::*;

#[tokio::test]
async fn pages_are_exact_at_the_first_ones_revision() {
    let fixture = Fixture::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        fixture.configmap(name).await;
    }
    let first = fixture.get(&format!("{CONFIGMAPS}?limit=2")).await.body;
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    fixture.ask(&format!("DELETE {CONFIGMAPS}/d"), "", Body::Empty).await;
    fixture.configmap("f").await;
    let (mut names, mut page) = (Vec::new(), first.clone());
    loop {
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
        assert_eq!(revision(&page), revision(&first));
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        page = fixture.get(&format!("{CONFIGMAPS}?limit=2&continue={token}")).await.body;
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn selectors_choose() {
    let fixture = Fixture::new().await;
    for name in ["a", "b", "c"] {
        fixture.configmap(name).await;
    }
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("labelSelector=app%3Da", vec!["a"]),
        ("labelSelector=app+in+(a,b)", vec!["a", "b"]),
        ("labelSelector=app!%3Da", vec!["b", "c"]),
        ("fieldSelector=metadata.name%3Dc", vec!["c"]),
        ("fieldSelector=metadata.name!%3Dc&labelSelector=app", vec!["a", "b"]),
        ("resourceVersion=0", vec!["a", "b", "c"]),
    ] {
        let list = fixture.get(&format!("{CONFIGMAPS}?{query}")).await;
        let items = list.body["items"].as_array().unwrap();
        let names: Vec<_> = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{query}");
        assert!(items.iter().all(|item| item.get("kind").is_none()), "items of typed lists have no kind");
    }
    let list = fixture.get("/api/v1/configmaps").await.body;
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
}

#[tokio::test]
async fn clients_choose_the_form() {
    let fixture = Fixture::new().await;
    fixture.configmap("a").await;
    let one = format!("{CONFIGMAPS}/a");
    for (target, accept, kind) in [
        (CONFIGMAPS, "application/json;as=Table;v=v1;g=meta.k8s.io", "Table"),
        (&one, "application/json;as=Table;v=v1;g=meta.k8s.io", "Table"),
        (CONFIGMAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "PartialObjectMetadataList"),
        (&one, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "PartialObjectMetadata"),
        (&one, "application/json", "ConfigMap"),
    ] {
        let answer = fixture.accept(target, accept).await;
        assert_eq!((answer.code, &answer.body["kind"]), (200, &json!(kind)), "{accept}: {}", answer.text);
    }
    let partial = fixture.accept(&one, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await.body;
    assert_eq!((&partial["metadata"]["labels"]["app"], partial.get("data")), (&json!("a"), None));
    let table = fixture.accept(CONFIGMAPS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.body;
    assert_eq!(
        (&table["rows"][0]["cells"][0], &table["rows"][0]["object"]["kind"]),
        (&json!("a"), &json!("PartialObjectMetadata"))
    );
    let yaml = fixture.accept(&one, "application/yaml").await;
    assert!(yaml.text.contains("kind: ConfigMap"), "{}", yaml.text);
}

#[tokio::test]
async fn a_long_list_goes_out_in_pieces_and_is_whole() {
    let fixture = Fixture::new().await;
    let filling = "x".repeat(200 << 10);
    for index in 0..8 {
        fixture.create(CONFIGMAPS, json!({"metadata": {"name": format!("n{index}")}, "data": {"a": filling}})).await;
    }
    let response = fixture.send(Request::get(CONFIGMAPS).body(Body::Empty).unwrap()).await;
    assert!(matches!(response.body(), Body::Stream(_)));
    let list = read(response).await.body;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(8));
    let peer = Peer { address: Some("10.0.0.1:1".parse().unwrap()), ..fixture.peer.clone() };
    let request = Request::get(CONFIGMAPS).header("Accept-Encoding", "gzip").body(Body::Empty).unwrap();
    let response = fixture.server.handle(request, &peer).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut plain).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), list);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let fixture = Fixture::new().await;
    for name in ["a", "b"] {
        fixture.configmap(name).await;
    }
    let answer = fixture.ask(&format!("DELETE {CONFIGMAPS}?labelSelector=app%3Da"), "", Body::Empty).await;
    assert_eq!((answer.code, answer.body["items"].as_array().map(Vec::len)), (200, Some(1)), "{}", answer.text);
    let left = fixture.get(CONFIGMAPS).await.body;
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
}

#[tokio::test]
async fn events_are_served_in_both_groups() {
    let fixture = Fixture::new().await;
    let event = json!({
        "metadata": {"name": "e"}, "reason": "Started", "message": "it runs", "type": "Normal",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "source": {"component": "kubelet"},
    });
    fixture.create("/api/v1/namespaces/default/events", event).await;
    let target = "/apis/events.k8s.io/v1/namespaces/default/events";
    let newer = fixture.get(&format!("{target}/e")).await.body;
    assert_eq!((&newer["note"], &newer["regarding"]["name"]), (&json!("it runs"), &json!("p")), "{newer}");
    assert_eq!((&newer["apiVersion"], newer.get("message")), (&json!("events.k8s.io/v1"), None));
    let chosen = fixture.get(&format!("{target}?fieldSelector=regarding.name%3Dp,type%3DNormal")).await.body;
    assert_eq!(chosen["items"][0]["note"], "it runs", "{chosen}");
    assert_eq!(fixture.get(&format!("{target}?fieldSelector=regarding.name%3Dq")).await.body["items"], json!([]));
    let table = fixture.accept("/api/v1/events", "application/json;as=Table;v=v1;g=meta.k8s.io").await.body;
    assert_eq!(table["columnDefinitions"][0]["name"], "Last Seen", "{table}");
}

#[tokio::test]
async fn a_page_whose_revision_is_gone_can_be_continued_inconsistently() {
    let fixture = Fixture::new().await;
    for name in ["a", "b", "c"] {
        fixture.configmap(name).await;
    }
    let page = fixture.get(&format!("{CONFIGMAPS}?limit=1")).await.body;
    let token = page["metadata"]["continue"].as_str().unwrap();
    // More bytes than the history of a resource holds.
    for round in 0..12 {
        let data = json!({"data": {"x": round.to_string().repeat(500_000)}}).to_string();
        let line = format!("PATCH {CONFIGMAPS}/c");
        assert_eq!(fixture.ask(&line, "application/merge-patch+json", data).await.code, 200);
    }
    let gone = fixture.get(&format!("{CONFIGMAPS}?limit=1&continue={token}")).await;
    assert_eq!((gone.code, gone.body["reason"].as_str()), (410, Some("Expired")), "{}", gone.text);
    let token = gone.body["metadata"]["continue"].as_str().unwrap();
    let rest = fixture.get(&format!("{CONFIGMAPS}?continue={token}")).await.body;
    let names: Vec<&str> =
        rest["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["b", "c"]);
}

#[tokio::test]
async fn protobuf_lists_are_those_that_upstream_would_send() {
    use coracle_api::codec::{self, protobuf};
    use coracle_api::schema::Schema;

    let fixture = Fixture::new().await;
    for number in 0..40 {
        let data = json!({"metadata": {"name": format!("m{number:02}")}, "data": {"x": "y".repeat(number * 2000)}});
        fixture.create(CONFIGMAPS, data).await;
    }
    for (target, list, metadata) in [
        (CONFIGMAPS.to_owned(), "io.k8s.api.core.v1.ConfigMapList", false),
        (format!("{CONFIGMAPS}?limit=3"), "io.k8s.api.core.v1.ConfigMapList", false),
        (CONFIGMAPS.to_owned(), "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList", true),
    ] {
        let form = if metadata { ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" } else { "" };
        let accept = format!("application/vnd.kubernetes.protobuf{form}");
        let request = Request::get(&target).header(header::ACCEPT, accept).body(Body::Empty).unwrap();
        let bytes = fixture.send(request).await.into_body().collect().await.unwrap().to_bytes();
        let json_form = if metadata { "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" } else { "" };
        let mut expected = fixture.accept(&target, json_form).await.body;
        if metadata {
            // Items in protobuf carry no type.
            for item in expected["items"].as_array_mut().unwrap() {
                item.as_object_mut().unwrap().retain(|name, _| name == "metadata");
            }
        }
        let ty = Schema::builtin().find(list).unwrap();
        assert_eq!(protobuf::decode(ty, &bytes).unwrap(), expected, "{target}");
        assert_eq!(codec::encode(ty, coracle_api::object::Encoding::Protobuf, &expected).unwrap(), bytes, "{target}");
    }
}
