//! What a client proves itself with: bearer tokens and certificates.

use std::sync::{Arc, LazyLock};

use coracle_api::{Object, Resource};
use coracle_apiserver::authn::service_account::Lookup;
use coracle_apiserver::authn::token::Claims;
use coracle_apiserver::authn::{TokenAuthenticator, TokenIssuer, certificate};
use coracle_base::crypto::SigningKey;

struct Nothing;

impl Lookup for Nothing {
    fn get(&self, _: &Resource, _: &str, _: &str) -> Option<Object> {
        None
    }

    fn list(&self, _: &Resource, _: &str) -> Vec<Object> {
        Vec::new()
    }
}

static ISSUER: LazyLock<TokenIssuer> = LazyLock::new(|| TokenIssuer::new(SigningKey::generate(), "https://issuer"));
static TOKENS: LazyLock<TokenAuthenticator> = LazyLock::new(|| ISSUER.authenticator(Arc::new(Nothing)));

/// None of them is good: no service account is there.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(TOKENS.authenticate(text, None).is_err());
}

pub fn token_seeds() -> Vec<Vec<u8>> {
    let claims: Claims = serde_json::from_value(serde_json::json!({
        "aud": ["https://issuer"], "exp": 4_000_000_000_u64, "iat": 1, "nbf": 1, "jti": "i", "iss": "https://issuer",
        "sub": "system:serviceaccount:a:b", "kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "b", "uid": "u"}},
    }))
    .expect("claims");
    vec![ISSUER.sign(claims).into_bytes(), b"eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.".to_vec()]
}

pub fn certificates(data: &[u8]) {
    if let Some(user) = certificate::user(data) {
        assert!(!user.name.is_empty());
    }
}

/// A P-256 certificate of `O=system:masters, CN=admin` in DER.
pub fn certificate_seeds() -> Vec<Vec<u8>> {
    vec![include_bytes!("seeds/certificate.der").to_vec()]
}
