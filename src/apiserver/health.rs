//! `/healthz`, `/livez`, `/readyz`: named checks that other parts of the process supply.
//!
//! Upstream: k8s.io/apiserver pkg/server/healthz/healthz.go.

use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderValue, Response, StatusCode, header};

use crate::body::Body;
use coracle_base::url::Query;

/// `Err` says in a few words what is wrong.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Default)]
pub struct Health {
    checks: RwLock<Vec<(&'static str, Check)>>,
    /// Shown by `/readyz` only: not ready is no reason to be restarted.
    readiness: RwLock<Vec<(&'static str, Check)>>,
}

impl Health {
    /// A part that must work; shown by all three paths.
    pub fn add(&self, name: &'static str, check: Check) {
        self.checks.write().unwrap_or_else(PoisonError::into_inner).push((name, check));
    }

    /// A part that must have come up before clients are sent here.
    pub fn add_readiness(&self, name: &'static str, check: Check) {
        self.readiness.write().unwrap_or_else(PoisonError::into_inner).push((name, check));
    }

    /// The answer for a path of `healthz`, `livez` or `readyz`, with a check's name where the path has one.
    pub fn answer(&self, path: &str, query: &Query) -> Option<Response<Body>> {
        let mut parts = path.trim_matches('/').splitn(2, '/');
        let kind = parts.next()?;
        let only = parts.next();
        let mut checks = self.checks.read().unwrap_or_else(PoisonError::into_inner).clone();
        checks.insert(0, ("ping", Arc::new(|| Ok(()))));
        if kind == "readyz" {
            checks.extend(self.readiness.read().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        if let Some(only) = only {
            checks.retain(|(name, _)| *name == only);
            if checks.is_empty() {
                return None;
            }
        }
        let (mut text, mut failed) = (String::new(), false);
        for (name, check) in checks {
            if excluded.contains(&name) {
                text.push_str(&format!("[+]{name} excluded: ok\n"));
                continue;
            }
            match check() {
                Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
                Err(why) => {
                    failed = true;
                    tracing::info!(check = name, why, "health check failed");
                    text.push_str(&format!("[-]{name} failed: reason withheld\n"));
                }
            }
        }
        let (code, body) = match (failed, query.optional_flag("verbose").is_some()) {
            (true, _) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{text}{kind} check failed\n")),
            (false, true) => (StatusCode::OK, format!("{text}{kind} check passed\n")),
            (false, false) => (StatusCode::OK, "ok".to_owned()),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_readiness_check_fails_readyz_alone() {
        let health = Health::default();
        health.add("store", Arc::new(|| Ok(())));
        health.add_readiness("informers", Arc::new(|| Err("not synced".to_owned())));
        let code = |path: &str, query: &str| {
            health.answer(path, &Query::parse(query)).map_or(404, |response| response.status().as_u16())
        };
        for (path, query, expected) in [
            ("/livez", "", 200),
            ("/readyz", "", 500),
            ("/readyz", "exclude=informers", 200),
            ("/readyz/store", "verbose", 200),
            ("/healthz/none", "", 404),
        ] {
            assert_eq!(code(path, query), expected, "{path}?{query}");
        }
    }
}
