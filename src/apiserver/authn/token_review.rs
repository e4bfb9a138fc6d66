//! TokenReview: another server asks whose token it was given.

use serde_json::{Value, json};

use super::{TokenAuthenticator, User};

/// The status of a TokenReview for `token`; an empty list of audiences means the API server's own.
/// Upstream: kubernetes pkg/registry/authentication/tokenreview/storage.go.
pub fn review(tokens: &TokenAuthenticator, token: &str, audiences: &[String]) -> Value {
    match tokens.authenticate(token, (!audiences.is_empty()).then_some(audiences)) {
        Ok((user, audiences)) => {
            json!({ "authenticated": true, "user": user_info(&user), "audiences": audiences })
        }
        Err(error) => json!({ "user": {}, "error": error.to_string() }),
    }
}

/// authentication.k8s.io/v1 UserInfo.
pub fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}
