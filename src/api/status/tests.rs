//! Statuses as clients receive them.

use expect_test::{Expect, expect};

use super::*;

fn check(status: Status, expected: Expect) {
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(Status::parse(text.as_bytes()).as_ref(), Some(&status), "what is written reads back");
    expected.assert_eq(&text);
}

#[test]
fn errors_about_objects() {
    check(
        Status::not_found(("apps", "deployments"), "web"),
        expect![[
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"web\" not found","reason":"NotFound","details":{"name":"web","group":"apps","kind":"deployments"},"code":404}"#
        ]],
    );
    check(
        Status::modified(("", "pods"), "a"),
        expect![[
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your changes to the latest version and try again","reason":"Conflict","details":{"name":"a","kind":"pods"},"code":409}"#
        ]],
    );
    check(
        Status::forbidden(("", ""), "", "User \"x\" cannot get path \"/\""),
        expect![[
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"forbidden: User \"x\" cannot get path \"/\"","reason":"Forbidden","details":{},"code":403}"#
        ]],
    );
    check(
        Status::internal("boom"),
        expect![[
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Internal error occurred: boom","reason":"InternalError","details":{"causes":[{"message":"boom"}]},"code":500}"#
        ]],
    );
}

#[test]
fn invalid_names_every_cause() {
    let mut causes = Causes::new();
    causes.required("spec.containers", "");
    causes.invalid("metadata.name", "A_b", "must be lower case");
    causes.not_supported("spec.restartPolicy", "Sometimes", &["Always", "Never"]);
    causes.invalid("spec.replicas", -1, "must be greater than or equal to 0");
    causes.too_many("spec.hosts", 3, 1);
    causes.too_long("metadata.labels", 63);
    causes.forbidden("spec.x", "no");
    causes.duplicate("spec.ports[1]", serde_json::json!({"port": 80}));
    causes.required("spec.containers", "");
    let status = Status::invalid(("", "Pod"), "a", &causes);
    expect![[r#"
        Pod "a" is invalid: [spec.containers: Required value, metadata.name: Invalid value: "A_b": must be lower case, spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.hosts: Too many: 3: must have at most 1 item, metadata.labels: Too long: may not be more than 63 bytes, spec.x: Forbidden: no, spec.ports[1]: Duplicate value: {"port":80}]
    "#]].assert_eq(&format!("{status}\n"));
    assert_eq!(status.details.unwrap().causes.len(), 9);
}

#[test]
fn success_has_no_code_unless_asked() {
    assert_eq!(
        Status::success(Some(201), None).to_string(),
        r#"{"apiVersion":"v1","code":201,"kind":"Status","metadata":{},"status":"Success"}"#
    );
    assert_eq!(Status::parse(br#"{"kind":"Status","status":"Success"}"#), None);
    assert_eq!(Status::parse(br#"{"kind":"Pod"}"#), None);
}
