//! Bootstrap tokens: what a machine shows that is no node yet. The server's own join token, and those in Secrets.
//!
//! Upstream: kubernetes plugin/pkg/auth/authenticator/token/bootstrap, k8s.io/cluster-bootstrap token/util.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::Resource;
use coracle_base::crypto;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Lookup, User};

/// Group of all that show such a token.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// `bootstrap.kubernetes.io/token`
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const PREFIX: &str = "system:bootstrap:";
const NAMESPACE: &str = "kube-system";

/// Tells whose a bootstrap token is.
pub struct BootstrapTokens {
    /// The secret of the server's own join token, good for ever.
    own: String,
    lookup: Arc<dyn Lookup>,
}

impl BootstrapTokens {
    pub fn new(own: String, lookup: Arc<dyn Lookup>) -> Self {
        Self { own, lookup }
    }

    /// `None` for what is no such token, or no longer.
    pub fn authenticate(&self, token: &str, now: Timestamp) -> Option<User> {
        if crypto::secrets_equal(token.as_bytes(), self.own.as_bytes()) {
            return Some(User::new(format!("{PREFIX}server"), &[BOOTSTRAPPERS]));
        }
        held(token, self.lookup.as_ref(), now)
    }
}

/// Six and sixteen lower-case letters and digits: id and secret.
pub fn split(token: &str) -> Option<(&str, &str)> {
    let word = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    token.split_once('.').filter(|(id, secret)| word(id, 6) && word(secret, 16))
}

/// The name of the Secret that holds the token of this id, in kube-system.
pub fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// The user of a token that a Secret holds.
fn held(token: &str, lookup: &dyn Lookup, now: Timestamp) -> Option<User> {
    let (id, secret) = split(token)?;
    let secrets = Resource::find("", "v1", "secrets")?;
    let object = lookup.get(&secrets, NAMESPACE, &secret_name(id))?;
    let held: Secret = object.decode().ok()?;
    let text = |key: &str| {
        let value = held.data.get(key).map(|value| STANDARD.decode(value)).transpose().ok().flatten();
        String::from_utf8(value.unwrap_or_default()).unwrap_or_default()
    };
    let good = held.metadata.deletion_timestamp.is_none()
        && held.kind == SECRET_TYPE
        && crypto::secrets_equal(text("token-secret").as_bytes(), secret.as_bytes())
        && text("token-id") == id
        && text("usage-bootstrap-authentication") == "true";
    // An end that cannot be read is over.
    let expiration = text("expiration");
    let over = !expiration.is_empty() && expiration.parse::<Timestamp>().map_or(true, |end| end <= now);
    if !good || over {
        return None;
    }
    let more = text("auth-extra-groups");
    let more: Vec<&str> = more.split(',').filter(|group| !group.is_empty()).collect();
    let allowed = |group: &&str| group.starts_with("system:bootstrappers:");
    if !more.iter().all(allowed) {
        return None;
    }
    let groups: Vec<&str> = [BOOTSTRAPPERS].into_iter().chain(more).collect();
    Some(User::new(format!("{PREFIX}{id}"), &groups))
}

#[derive(Deserialize)]
struct Secret {
    metadata: Metadata,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    deletion_timestamp: Option<String>,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use coracle_api::Object;
    use coracle_api::object::Meta;
    use serde_json::json;

    use super::*;

    /// One Secret.
    struct One(serde_json::Value);

    impl Lookup for One {
        fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Object> {
            let meta = Meta { namespace: namespace.into(), name: name.into(), ..Meta::default() };
            let found = (namespace, name) == ("kube-system", "bootstrap-token-abcdef");
            found.then(|| Object::new(resource.clone(), 1, Bytes::from(self.0.to_string()), meta))
        }

        fn list(&self, _: &Resource, _: &str) -> Vec<Object> {
            Vec::new()
        }
    }

    fn secret(changes: &[(&str, &str)]) -> serde_json::Value {
        let mut data = json!({});
        let usual = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", "system:bootstrappers:workers"),
            ("expiration", "2026-06-01T00:00:00Z"),
        ];
        for (key, value) in usual.iter().chain(changes) {
            data[key] = json!(STANDARD.encode(value));
        }
        json!({"metadata": {}, "type": SECRET_TYPE, "data": data})
    }

    fn groups(secret: serde_json::Value, token: &str) -> Option<Vec<String>> {
        let tokens = BootstrapTokens::new("own".to_owned(), Arc::new(One(secret)));
        tokens.authenticate(token, "2026-05-01T00:00:00Z".parse().unwrap()).map(|user| user.groups)
    }

    #[test]
    fn a_token_counts_while_its_secret_says_so() {
        const TOKEN: &str = "abcdef.0123456789abcdef";
        let good = ["system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"];
        assert_eq!(groups(secret(&[]), TOKEN).unwrap(), good);
        assert_eq!(groups(secret(&[]), "own").unwrap(), ["system:bootstrappers", "system:authenticated"]);
        for refused in ["abcdef.0123456789abcdeg", "abcdeg.0123456789abcdef", "abcdef", "", "abcdef.0123456789abcdef "]
        {
            assert_eq!(groups(secret(&[]), refused), None, "{refused}");
        }
        for (key, value) in [
            ("token-id", "ghijkl"),
            ("expiration", "2026-05-01T00:00:00Z"),
            ("expiration", "soon"),
            ("usage-bootstrap-authentication", "false"),
            ("auth-extra-groups", "system:masters"),
        ] {
            assert_eq!(groups(secret(&[(key, value)]), TOKEN), None, "{key}={value}");
        }
        let mut deleted = secret(&[]);
        deleted["metadata"]["deletionTimestamp"] = json!("2026-04-30T00:00:00Z");
        assert_eq!(groups(deleted, TOKEN), None);
        let mut other = secret(&[]);
        other["type"] = json!("Opaque");
        assert_eq!(groups(other, TOKEN), None);
    }
}
