//! Authentication: who sends a request, from a client certificate or a service-account token.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::Status;
use jiff::Timestamp;

pub mod bootstrap_token;
pub mod certificate;
pub mod service_account;
pub mod token;
pub mod token_request;
pub mod token_review;

pub use bootstrap_token::BootstrapTokens;
pub use service_account::Lookup;
pub use token::{TokenAuthenticator, TokenIssuer};

/// Who acts: what authorization, audit and admission see. Upstream: k8s.io/apiserver pkg/authentication/user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Empty for users that are no objects.
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// May do everything; known to the authorizer, not to RBAC.
pub const MASTERS: &str = "system:masters";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group of the users `system:node:NAME`.
pub const NODES: &str = "system:nodes";

/// Key in `User::extra` that says which credential was used.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

impl User {
    /// An authenticated user: `system:authenticated` is added to `groups`.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let groups = groups.iter().copied().chain([AUTHENTICATED]).map(str::to_owned).collect();
        User { name: name.into(), groups, ..User::default() }
    }

    /// The API server itself, as its own client.
    pub fn api_server() -> Self {
        User::new("system:apiserver", &[MASTERS])
    }

    pub fn anonymous() -> Self {
        User { name: "system:anonymous".to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..User::default() }
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    pub fn is_anonymous(&self) -> bool {
        self.is_in(UNAUTHENTICATED)
    }
}

/// Who is at the other end of a connection, known before its first request.
#[derive(Debug, Clone, Default)]
pub enum Identity {
    /// No client certificate was shown.
    #[default]
    Unknown,
    /// A certificate that one of our CAs signed, or a component of this process.
    Known(Arc<User>),
    /// A certificate that none of our CAs signed, or out of its time. The handshake succeeds all the same, so that
    /// the client gets a Status instead of a broken connection.
    Foreign,
}

/// Paths that answer without credentials; nothing else does.
const PUBLIC_PATHS: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// Decides who sends a request.
pub struct Authenticator {
    tokens: TokenAuthenticator,
    bootstrap: BootstrapTokens,
}

impl Authenticator {
    pub fn new(tokens: TokenAuthenticator, bootstrap: BootstrapTokens) -> Self {
        Self { tokens, bootstrap }
    }

    pub fn tokens(&self) -> &TokenAuthenticator {
        &self.tokens
    }

    /// The user of a request, or the 401 to answer. A bearer token counts only where the connection has no identity of
    /// its own, as upstream tries certificates first. `authorization` is the header's value, `path` the request's path.
    pub fn authenticate(
        &self,
        identity: &Identity,
        authorization: Option<&[u8]>,
        path: &str,
    ) -> Result<Arc<User>, Status> {
        if let Identity::Known(user) = identity {
            return Ok(user.clone());
        }
        match (bearer(authorization), identity) {
            (Some(token), _) => match self.bootstrap.authenticate(token, Timestamp::now()) {
                Some(user) => Ok(Arc::new(user)),
                None => self.tokens.authenticate(token, None).map(|(user, _)| user).map_err(|error| {
                    tracing::debug!(%error, "token refused");
                    unauthorized()
                }),
            },
            (None, Identity::Unknown) if PUBLIC_PATHS.contains(&path) => Ok(Arc::new(User::anonymous())),
            _ => Err(unauthorized()),
        }
    }
}

/// The token of an `Authorization: Bearer TOKEN` header; the scheme is compared without case (RFC 7235).
fn bearer(authorization: Option<&[u8]>) -> Option<&str> {
    let text = std::str::from_utf8(authorization?).ok()?;
    let (scheme, token) = text.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// 401 as upstream says it: never why.
pub fn unauthorized() -> Status {
    Status::unauthorized("Unauthorized")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens_are_cut_from_the_header() {
        assert_eq!(bearer(Some(b"Bearer abc")), Some("abc"));
        assert_eq!(bearer(Some(b"bearer  abc ")), Some("abc"));
        for none in [&b"Basic abc"[..], b"Bearer", b"Bearer ", b"", b"\xff\xfe"] {
            assert_eq!(bearer(Some(none)), None);
        }
    }

    fn authenticator() -> Authenticator {
        let tokens = token::tests::authenticator();
        let lookup = tokens.lookup().clone();
        Authenticator::new(tokens, BootstrapTokens::new("join".to_owned(), lookup))
    }

    #[test]
    fn the_join_token_is_a_bootstrappers() {
        let user = authenticator().authenticate(&Identity::Unknown, Some(b"Bearer join"), "/api").unwrap();
        assert_eq!((user.name.as_str(), user.is_in("system:bootstrappers")), ("system:bootstrap:server", true));
    }

    #[test]
    fn only_health_and_version_are_public() {
        let authenticator = authenticator();
        let user = authenticator.authenticate(&Identity::Unknown, None, "/readyz").unwrap();
        assert_eq!((user.name.as_str(), user.is_anonymous()), ("system:anonymous", true));
        for (identity, path) in [(Identity::Unknown, "/api"), (Identity::Foreign, "/readyz")] {
            assert_eq!(authenticator.authenticate(&identity, None, path).unwrap_err().code, 401);
        }
    }

    #[test]
    fn a_connection_identity_comes_before_a_token() {
        let authenticator = authenticator();
        let identity = Identity::Known(Arc::new(User::new("jane", &[])));
        assert_eq!(authenticator.authenticate(&identity, Some(b"Bearer rubbish"), "/api").unwrap().name, "jane");
        assert!(authenticator.authenticate(&Identity::Unknown, Some(b"Bearer rubbish"), "/healthz").is_err());
    }
}
