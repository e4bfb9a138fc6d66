//! Service-account tokens: JWTs signed with our own key (ES256), made by the issuer and checked by the authenticator.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_base::crypto::{self, PublicKey, SigningKey};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::User;
use super::service_account::{self, Lookup};

/// Clocks may differ by this many seconds, as go-jose allows.
const LEEWAY: i64 = 60;

/// Verified tokens remembered, so that the signature of a busy client's token is checked once. What a token is bound
/// to is looked up every time.
const REMEMBERED: usize = 1024;

/// The claims of a token. Upstream: kubernetes pkg/serviceaccount/claims.go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Seconds since 1970, as are `iat` and `nbf`.
    pub exp: i64,
    pub iat: i64,
    #[serde(default)]
    pub iss: String,
    #[serde(default)]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Bound,
    #[serde(default)]
    pub nbf: i64,
    #[serde(default)]
    pub sub: String,
}

/// The service account of a token, and the object whose end ends the token too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bound {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reference {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// Why a token counts for nothing. Goes to logs and TokenReview answers, never to the one who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("not a token of this cluster")]
    Foreign,
    #[error("invalid signature")]
    Signature,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
    #[error("service account token is issued in the future")]
    Future,
    #[error("token audiences {0:?} is invalid for the target audiences {1:?}")]
    Audience(Vec<String>, Vec<String>),
    #[error("{0}")]
    Bound(String),
}

/// Signs tokens and publishes the key they are checked with.
pub struct TokenIssuer {
    key: SigningKey,
    key_id: String,
    issuer: String,
    /// `host:port` of this server for those outside.
    external: String,
    audiences: Vec<String>,
}

impl TokenIssuer {
    /// `issuer` is the `iss` of the tokens, an https URL; it is also the audience of tokens for the API server.
    pub fn new(key: SigningKey, issuer: impl Into<String>) -> Self {
        let issuer = issuer.into();
        let key_id = URL_SAFE_NO_PAD.encode(crypto::sha256(&key.public().spki()));
        let external = issuer.trim_start_matches("https://").to_owned();
        Self { key, key_id, external, audiences: vec![issuer.clone(), "coracle".to_owned()], issuer }
    }

    /// `address` (`host:port`) is where those outside find this server's keys.
    pub fn reached_at(self, address: impl Into<String>) -> Self {
        Self { external: address.into(), ..self }
    }

    /// The audiences that the API server answers to; the first is what a token gets that asks for none.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// A compact JWT of `claims`, with `iss` set to ours.
    pub fn sign(&self, mut claims: Claims) -> String {
        claims.iss.clone_from(&self.issuer);
        let header = serde_json::json!({ "alg": "ES256", "kid": self.key_id });
        let claims = serde_json::to_vec(&claims).expect("claims are strings and numbers");
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.as_slice()));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// The answer of `/openid/v1/jwks` (application/jwk-set+json).
    pub fn key_set(&self) -> String {
        let key = self.key.public();
        let (x, y) = key.coordinates();
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        serde_json::json!({ "keys": [
            { "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": x, "y": y }
        ]})
        .to_string()
    }

    /// The answer of `/.well-known/openid-configuration`.
    pub fn discovery(&self) -> String {
        serde_json::json!({
            "issuer": self.issuer,
            "jwks_uri": format!("https://{}/openid/v1/jwks", self.external),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
        .to_string()
    }

    /// Checks tokens of this issuer against the objects that `lookup` finds.
    pub fn authenticator(&self, lookup: Arc<dyn Lookup>) -> TokenAuthenticator {
        TokenAuthenticator {
            key: self.key.public(),
            key_id: self.key_id.clone(),
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            lookup,
            verified: Mutex::default(),
        }
    }
}

/// Tells whose token a token is.
pub struct TokenAuthenticator {
    key: PublicKey,
    key_id: String,
    issuer: String,
    audiences: Vec<String>,
    lookup: Arc<dyn Lookup>,
    /// Claims by the SHA-256 of tokens whose signature was good.
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct Issuer {
    #[serde(default)]
    iss: String,
}

impl TokenAuthenticator {
    #[cfg(test)]
    pub(super) fn lookup(&self) -> &Arc<dyn Lookup> {
        &self.lookup
    }

    /// The user of `token` and which of `audiences` (the API server's when `None`) it is meant for.
    pub fn authenticate(
        &self,
        token: &str,
        audiences: Option<&[String]>,
    ) -> Result<(Arc<User>, Vec<String>), TokenError> {
        self.authenticate_at(token, audiences, Timestamp::now().as_second())
    }

    pub(super) fn authenticate_at(
        &self,
        token: &str,
        audiences: Option<&[String]>,
        now: i64,
    ) -> Result<(Arc<User>, Vec<String>), TokenError> {
        let claims = self.verify(token)?;
        let wanted = audiences.unwrap_or(&self.audiences);
        let matching: Vec<String> = claims.aud.iter().filter(|audience| wanted.contains(audience)).cloned().collect();
        if matching.is_empty() {
            return Err(TokenError::Audience(claims.aud.clone(), wanted.to_vec()));
        }
        if now - LEEWAY > claims.exp {
            return Err(TokenError::Expired);
        }
        if now + LEEWAY < claims.nbf {
            return Err(TokenError::NotYet);
        }
        if now + LEEWAY < claims.iat {
            return Err(TokenError::Future);
        }
        let user = service_account::validate(&claims, self.lookup.as_ref(), now - LEEWAY)?;
        Ok((Arc::new(user), matching))
    }

    /// The claims of a token that is ours by issuer and signature.
    fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let hash = crypto::sha256(token.as_bytes());
        let remembered = || self.verified.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(claims) = remembered().get(&hash) {
            return Ok(claims.clone());
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Foreign)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Foreign);
        let payload = decode(payload)?;
        let Issuer { iss } = serde_json::from_slice(&payload).map_err(|_| TokenError::Foreign)?;
        if iss != self.issuer {
            return Err(TokenError::Foreign);
        }
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Foreign)?;
        let known = header.alg == "ES256" && (header.kid.is_empty() || header.kid == self.key_id);
        if !known || !self.key.verify(signed.as_bytes(), &decode(signature)?) {
            return Err(TokenError::Signature);
        }
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Foreign)?;
        let claims = Arc::new(claims);
        let mut remembered = remembered();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(hash, claims.clone());
        Ok(claims)
    }
}

/// `aud` is a string or a list of strings (RFC 7519).
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(audience) => vec![audience],
        OneOrMany::Many(audiences) => audiences,
    })
}

#[cfg(test)]
pub(crate) mod tests;
