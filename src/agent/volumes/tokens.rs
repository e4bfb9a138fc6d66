//! Service account tokens bound to a pod, kept until they have aged (upstream: pkg/kubelet/token/token_manager.go).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_client::Error;
use http::Request;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use serde_json::json;
use tokio::time::Instant;

use crate::pod::PodExt;

#[derive(Debug, Clone)]
pub struct Token {
    pub token: String,
    pub refresh_in: Duration,
}

struct Held {
    token: String,
    refresh_at: Instant,
}

type Key = (Box<str>, Box<str>, i64);

/// Cloning is a reference count.
#[derive(Clone)]
pub struct Tokens {
    client: kube::Client,
    held: Arc<Mutex<HashMap<Key, Held>>>,
}

const DEFAULT_LIFE: i64 = 3600;
/// A token is renewed after four fifths of its life, and at the latest after a day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Tokens {
    pub fn new(client: kube::Client) -> Self {
        Self { client, held: Arc::default() }
    }

    pub async fn get(&self, pod: &Pod, source: &ServiceAccountTokenProjection) -> Result<Token, Error> {
        let life = source.expiration_seconds.unwrap_or(DEFAULT_LIFE);
        let audience = source.audience.as_deref().unwrap_or_default();
        let key: Key = (pod.uid().into(), audience.into(), life);
        let now = Instant::now();
        let held = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.get(&key).filter(|held| held.refresh_at > now).map(|held| (held.token.clone(), held.refresh_at))
        };
        if let Some((token, refresh_at)) = held {
            return Ok(Token { token, refresh_in: refresh_at - now });
        }
        let account = pod.spec().service_account_name.as_deref().unwrap_or("default");
        let audiences: Vec<&str> = Some(audience).filter(|audience| !audience.is_empty()).into_iter().collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": life,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid()},
            },
        });
        let uri = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", pod.namespace());
        let request = Request::post(uri).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&body)?).map_err(kube::Error::HttpError)?;
        let answer: TokenRequest = self.client.request(request).await?;
        let token = answer.status.and_then(|status| status.token);
        let token = token.ok_or_else(|| Error::Other("the API answered without a token".to_owned()))?;
        let refresh_in = Duration::from_secs(life.max(1) as u64).mul_f64(0.8).min(LONGEST);
        let held = Held { token: token.clone(), refresh_at: now + refresh_in };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(key, held);
        Ok(Token { token, refresh_in })
    }

    /// The pod is over.
    pub fn forget(&self, uid: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).retain(|(owner, ..), _| **owner != *uid);
    }
}
