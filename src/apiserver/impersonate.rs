//! Acting as another user, for those who may `impersonate` it.
//!
//! Upstream: k8s.io/apiserver pkg/endpoints/filters/impersonation.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::Status;
use coracle_base::url;
use http::HeaderMap;

use crate::authn::{AUTHENTICATED, UNAUTHENTICATED, User, service_account};
use crate::authz::{Attributes, Authorizer, ResourceTarget, Target};

const EXTRA: &str = "impersonate-extra-";

/// The user to act as: `user` itself when no Impersonate header is there; 403 when it may not be the other.
pub fn impersonate(authorizer: &Authorizer, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let list = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let (name, uid, mut groups) = (text("impersonate-user"), text("impersonate-uid"), list("impersonate-group"));
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in headers.keys() {
        if let Some(encoded) = key.as_str().strip_prefix(EXTRA) {
            extra.insert(url::decode(encoded), list(key.as_str()));
        }
    }
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(user);
        }
        return Err(Status::bad_request(format!(
            "requested [{}] without impersonating a user name",
            groups.join(", ")
        )));
    }
    let check = |group, resource, subresource, namespace, name| {
        let target = ResourceTarget { group, resource, subresource, namespace, name, fields: "" };
        authorizer.check(&Attributes { user: &user, verb: "impersonate", target: Target::Resource(target) })
    };
    let account = service_account::split_user_name(&name);
    match account {
        Some((namespace, name)) => check("", "serviceaccounts", "", namespace, name)?,
        None => check("", "users", "", "", &name)?,
    }
    for group in &groups {
        check("", "groups", "", "", group)?;
    }
    const GROUP: &str = "authentication.k8s.io";
    if !uid.is_empty() {
        check(GROUP, "uids", "", "", &uid)?;
    }
    for (key, values) in &extra {
        for value in values {
            check(GROUP, "userextras", key, "", value)?;
        }
    }
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let anonymous = name == "system:anonymous";
    let implied = if anonymous { UNAUTHENTICATED } else { AUTHENTICATED };
    if !groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
        groups.push(implied.to_owned());
    }
    Ok(Arc::new(User { name, uid, groups, extra }))
}
