//! One request on its way through the chain and a verb: who asks what, and what is to be said beside the answer.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use coracle_api::{Causes, Status};
use http::{HeaderMap, Method, Request, header};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use serde_json::json;

use crate::authn::User;
use crate::body::Body;
use crate::request_info::RequestInfo;
use coracle_base::url::Query;

/// Upstream's limit on what a client may send, in bytes.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// A request after authentication.
pub struct Call {
    pub method: Method,
    pub path: String,
    pub info: RequestInfo,
    pub query: Query,
    pub headers: HeaderMap,
    pub user: Arc<User>,
    /// From this process: exempt from limits of load.
    pub component: bool,
    /// No wire in between: nothing is compressed.
    pub local: bool,
    /// Sent as `Warning` headers, each once.
    pub warnings: Vec<String>,
}

impl Call {
    pub fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    pub fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether nothing shall be stored; 422 for options that mean nothing.
    pub fn dry_run(&self) -> Result<bool, Status> {
        let values: Vec<&str> = self.query.all("dryRun").collect();
        let mut causes = Causes::new();
        if values.iter().any(|value| *value != "All") {
            causes.not_supported("dryRun", json!(values), &["All"]);
        }
        if let Some(value) = self.query.get("fieldValidation")
            && !matches!(value, "Ignore" | "Warn" | "Strict")
        {
            causes.not_supported("fieldValidation", value, &["", "Ignore", "Strict", "Warn"]);
        }
        if let Some(manager) = self.query.get("fieldManager") {
            check_manager(manager, &mut causes);
        }
        causes.into_result(options_kind(self.info.verb), "")?;
        Ok(!values.is_empty())
    }
}

/// Upstream: apimachinery pkg/apis/meta/v1/validation ValidateFieldManager.
fn check_manager(manager: &str, causes: &mut Causes) {
    const LONGEST: usize = 128;
    if manager.len() > LONGEST {
        causes.too_long("fieldManager", LONGEST);
    }
    // Only the first: what follows was not looked at by anyone.
    if let Some((at, character)) = manager.char_indices().find(|(_, character)| character.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
        causes.invalid("fieldManager", manager, why);
    }
}

fn options_kind(verb: &str) -> (&'static str, &'static str) {
    let kind = match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        _ => "DeleteOptions",
    };
    ("meta.k8s.io", kind)
}

/// Reads a body up to the limit; 413 above it.
pub async fn read_body(request: &mut Request<Body>) -> Result<Bytes, Status> {
    let mut body = std::mem::take(request.body_mut());
    let too_large = || Status::request_entity_too_large(format!("limit is {BODY_LIMIT}"));
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        discard(body).await;
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("reading the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + joined.len() + data.len() > BODY_LIMIT {
            discard(body).await;
            return Err(too_large());
        }
        // One frame is the common case and is not copied.
        if first.is_empty() && joined.is_empty() {
            first = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&std::mem::take(&mut first));
            }
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// Reads on, for a client that looks at the answer only once it has sent everything; within reason.
async fn discard(mut body: Body) {
    let mut left = 8 * BODY_LIMIT;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), reading).await;
}
