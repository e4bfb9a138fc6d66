//! TokenRequest: a token for a service account, bound to a pod, secret or node where asked.

use coracle_api::quoting::quote;
use coracle_api::{Causes, Object, Resource, Status};
use coracle_base::crypto;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::service_account::{self, Lookup};
use super::token::{Bound, Claims, Reference, TokenIssuer};

/// What pods ask for by default; such a pod-bound token lives a year, and warns after the hour it asked for.
const DEFAULT_POD_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// spec of authentication.k8s.io/v1 TokenRequest.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    audiences: Option<Vec<String>>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<BoundObject>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BoundObject {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

/// Answers `create serviceaccounts/token`: `body` (a decoded TokenRequest) with metadata, spec defaults and status
/// filled in. Upstream: kubernetes pkg/registry/core/serviceaccount/storage/token.go.
pub fn answer(
    issuer: &TokenIssuer,
    lookup: &dyn Lookup,
    namespace: &str,
    name: &str,
    mut body: Value,
) -> Result<Value, Status> {
    let now = Timestamp::now();
    let spec: Spec = match body.get("spec") {
        Some(spec) => Spec::deserialize(spec).map_err(|error| Status::bad_request(error.to_string()))?,
        None => Spec::default(),
    };
    for (field, wanted) in [("name", name), ("namespace", namespace)] {
        let given = body["metadata"][field].as_str().unwrap_or_default();
        if !given.is_empty() && given != wanted {
            return Err(invalid(
                &format!("metadata.{field}"),
                given,
                &format!("must match the service account {field} if specified"),
            ));
        }
    }
    let account = find(lookup, "serviceaccounts", namespace, name)?;
    let uid = body["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && *uid != *account.meta().uid {
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({})",
            account.meta().uid
        );
        return Err(Status::conflict(("authentication.k8s.io", "TokenRequest"), name, why));
    }
    let seconds = expiration(spec.expiration_seconds.unwrap_or(3600))?;
    let audiences = match spec.audiences {
        Some(audiences) if !audiences.is_empty() => audiences,
        _ => vec![issuer.audiences()[0].clone()],
    };

    let mut bound = Bound {
        namespace: namespace.to_owned(),
        serviceaccount: Reference { name: name.to_owned(), uid: account.meta().uid.to_string() },
        ..Bound::default()
    };
    if let Some(reference) = &spec.bound_object_ref {
        bind(&mut bound, lookup, reference)?;
    }
    let own = audiences.iter().all(|audience| issuer.audiences().contains(audience));
    let extended = bound.pod.is_some() && own && seconds == DEFAULT_POD_SECONDS;
    bound.warnafter = extended.then(|| now.as_second() + seconds);
    let lifetime = if extended { EXTENDED_SECONDS } else { seconds };
    let token = issuer.sign(Claims {
        aud: audiences.clone(),
        exp: now.as_second() + lifetime,
        iat: now.as_second(),
        nbf: now.as_second(),
        jti: crypto::uuid(),
        sub: service_account::user_name(namespace, name),
        kubernetes: bound,
        iss: String::new(),
    });

    let time = |seconds: i64| Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default();
    body["metadata"]["name"] = json!(name);
    body["metadata"]["namespace"] = json!(namespace);
    body["metadata"]["uid"] = json!(*account.meta().uid);
    body["metadata"]["creationTimestamp"] = json!(time(now.as_second()));
    body["spec"]["audiences"] = json!(audiences);
    body["spec"]["expirationSeconds"] = json!(seconds);
    if body["spec"].get("boundObjectRef").is_none() {
        body["spec"]["boundObjectRef"] = Value::Null;
    }
    body["status"] = json!({ "token": token, "expirationTimestamp": time(now.as_second() + seconds) });
    Ok(body)
}

fn bind(bound: &mut Bound, lookup: &dyn Lookup, reference: &BoundObject) -> Result<(), Status> {
    let core = matches!(reference.api_version.as_str(), "v1" | "");
    let (plural, slot, namespace) = match reference.kind.as_str() {
        "Pod" if core => ("pods", &mut bound.pod, bound.namespace.as_str()),
        "Secret" if core => ("secrets", &mut bound.secret, bound.namespace.as_str()),
        "Node" if core => ("nodes", &mut bound.node, ""),
        kind => {
            let (group, version) = reference.api_version.rsplit_once('/').unwrap_or(("", &reference.api_version));
            let text = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(text));
        }
    };
    let object = find(lookup, plural, namespace, &reference.name)?;
    if !reference.uid.is_empty() && *reference.uid != *object.meta().uid {
        return Err(Status::conflict(
            ("", reference.kind.as_str()),
            &reference.name,
            format!(
                "the UID in the bound object reference ({}) does not match the UID in record. \
                 The object might have been deleted and then recreated",
                reference.uid
            ),
        ));
    }
    *slot = Some(Reference { name: reference.name.clone(), uid: object.meta().uid.to_string() });
    if plural == "pods" {
        let pod: Pod = object.decode()?;
        let account = &bound.serviceaccount.name;
        if pod.spec.service_account_name != *account {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                quote(account)
            )));
        }
        bound.node = (!pod.spec.node_name.is_empty()).then(|| {
            let node = Resource::find("", "v1", "nodes").and_then(|nodes| lookup.get(&nodes, "", &pod.spec.node_name));
            Reference {
                name: pod.spec.node_name,
                uid: node.map(|node| node.meta().uid.to_string()).unwrap_or_default(),
            }
        });
    }
    Ok(())
}

#[derive(Deserialize)]
struct Pod {
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    service_account_name: String,
    #[serde(default)]
    node_name: String,
}

fn expiration(seconds: i64) -> Result<i64, Status> {
    let error = |text| Err(invalid("spec.expirationSeconds", seconds, text));
    match seconds {
        ..600 => error("may not specify a duration less than 10 minutes"),
        4_294_967_297.. => error("may not specify a duration larger than 2^32 seconds"),
        _ => Ok(seconds),
    }
}

fn find(lookup: &dyn Lookup, plural: &str, namespace: &str, name: &str) -> Result<Object, Status> {
    let object = Resource::find("", "v1", plural).and_then(|resource| lookup.get(&resource, namespace, name));
    object.ok_or_else(|| Status::not_found(("", plural), name))
}

fn invalid(field: &str, value: impl Into<Value>, why: &str) -> Status {
    let mut causes = Causes::new();
    causes.invalid(field, value, why);
    Status::invalid(("authentication.k8s.io", "TokenRequest"), "", &causes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coracle_base::crypto::SigningKey;

    use super::super::service_account::tests::objects;
    use super::*;

    fn request(name: &str, body: Value) -> Result<Value, Status> {
        answer(&TokenIssuer::new(SigningKey::generate(), "https://here"), &objects(), "ci", name, body)
    }

    #[test]
    fn a_token_is_made_and_is_good() {
        let issuer = TokenIssuer::new(SigningKey::generate(), "https://here");
        let made = answer(&issuer, &objects(), "ci", "builder", json!({ "spec": { "audiences": [] } })).unwrap();
        assert_eq!(
            (&made["spec"]["expirationSeconds"], &made["spec"]["audiences"][0]),
            (&json!(3600), &json!("https://here"))
        );
        let token = made["status"]["token"].as_str().unwrap();
        let (user, _) = issuer.authenticator(Arc::new(objects())).authenticate(token, None).unwrap();
        assert_eq!(user.name, "system:serviceaccount:ci:builder");
    }

    #[test]
    fn refusals_have_upstreams_codes() {
        let bound = |kind: &str, uid: &str| json!({ "spec": { "boundObjectRef": { "kind": kind, "apiVersion": "v1", "name": "job", "uid": uid } } });
        let code = |name: &str, body| request(name, body).map(|_| 0).unwrap_or_else(|status| status.code);
        assert_eq!(code("builder", bound("Pod", "pod-1")), 0);
        assert_eq!(code("builder", bound("Pod", "pod-2")), 409);
        assert_eq!(code("builder", bound("ConfigMap", "")), 400);
        assert_eq!(code("builder", bound("Secret", "")), 404);
        assert_eq!(code("nobody", json!({})), 404);
        assert_eq!(code("builder", json!({ "spec": { "expirationSeconds": 599 } })), 422);
        assert_eq!(code("builder", json!({ "metadata": { "namespace": "other" } })), 422);
    }
}
