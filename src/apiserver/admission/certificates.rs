//! Certificate requests: whose they are, who may approve and sign them, and that none asks for all rights.
//!
//! Upstream: kubernetes plugin/pkg/admission/certificates (approval, signing, subjectrestriction) and the part of
//! pkg/registry/certificates/certificates/strategy.go that stamps the requester.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::Status;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use x509_parser::x509::X509Name;

use super::{Operation, Request};
use crate::authn::{MASTERS, User};
use crate::authz::{Attributes, Authorizer, ResourceTarget, Target};

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

fn concerns(request: &Request<'_>) -> bool {
    request.is("certificates.k8s.io", "certificatesigningrequests")
}

/// Writes who asks into a new request, whatever its author says.
pub fn stamp(request: &Request<'_>, new: &mut Value) {
    if !concerns(request) || request.operation != Operation::Create {
        return;
    }
    let user = &request.facts.user;
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for (field, value) in [
        ("username", json!(user.name)),
        ("uid", json!(user.uid)),
        ("groups", json!(user.groups)),
        ("extra", json!(user.extra)),
    ] {
        let empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        match empty {
            true => spec.remove(field),
            false => spec.insert(field.to_owned(), value),
        };
    }
}

pub fn check(authorizer: &Authorizer, request: &Request<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !concerns(request) {
        return Ok(());
    }
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let refused = |why: String| Err(Status::forbidden(request.resource, name, why));
    let signer = old.unwrap_or(new)["spec"]["signerName"].as_str().unwrap_or_default();
    let user = &request.facts.user;
    match (request.operation, request.subresource) {
        (Operation::Update, "approval") if !may(authorizer, user, "approve", signer) => {
            refused(format!("user not permitted to approve requests with signerName {signer:?}"))
        }
        (Operation::Update, "status") => {
            let differs = |field: &str| old.is_none_or(|old| old["status"][field] != new["status"][field]);
            if (differs("certificate") || differs("conditions")) && !may(authorizer, user, "sign", signer) {
                return refused(format!("user not permitted to sign requests with signerName {signer:?}"));
            }
            Ok(())
        }
        (Operation::Create, "") if signer == CLIENT_SIGNER => match organizations(new) {
            Err(why) => refused(format!("failed to parse CSR: {why}")),
            Ok(groups) if groups.iter().any(|group| group == MASTERS) => {
                refused(format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"))
            }
            Ok(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether `user` has the right on this signer, or on all signers of its domain (`example.com/*`).
/// Upstream: kubernetes pkg/certauthorization.
fn may(authorizer: &Authorizer, user: &User, verb: &str, signer: &str) -> bool {
    let allowed = |name: &str| {
        let target =
            ResourceTarget { group: "certificates.k8s.io", resource: "signers", name, ..ResourceTarget::default() };
        authorizer.authorize(&Attributes { user, verb, target: Target::Resource(target) }).allowed()
    };
    let domain = signer.split('/').next().unwrap_or_default();
    allowed(signer) || allowed(&format!("{domain}/*"))
}

/// The common name that a request asks for.
pub fn common_name(request: &Value) -> Result<String, String> {
    let names = subject(request, |subject| {
        subject.iter_common_name().filter_map(|name| name.as_str().ok()).next().map(str::to_owned)
    })?;
    Ok(names.unwrap_or_default())
}

fn organizations(request: &Value) -> Result<Vec<String>, String> {
    subject(request, |subject| {
        subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect()
    })
}

fn subject<T>(request: &Value, read: impl FnOnce(&X509Name<'_>) -> T) -> Result<T, String> {
    let text = STANDARD.decode(request["spec"]["request"].as_str().unwrap_or_default()).map_err(|e| e.to_string())?;
    let pem = pem::parse(text).map_err(|error| error.to_string())?;
    let (_, parsed) = X509CertificationRequest::from_der(pem.contents()).map_err(|error| error.to_string())?;
    Ok(read(&parsed.certification_request_info.subject))
}
