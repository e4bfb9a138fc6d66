//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or unreachable.
//!
//! Upstream: kubernetes plugin/pkg/admission/defaulttolerationseconds.

use serde_json::{Value, json};

use super::{Operation, Request};

const SECONDS: i64 = 300;
const KEYS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub fn mutate(request: &Request<'_>, pod: &mut Value) {
    if request.operation == Operation::Delete || !request.subresource.is_empty() {
        return;
    }
    let Some(spec) = pod["spec"].as_object_mut() else { return };
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    for key in KEYS {
        let tolerates = |toleration: &Value| {
            let text = |name: &str| toleration[name].as_str().unwrap_or_default();
            (text("key") == key || text("key").is_empty()) && matches!(text("effect"), "NoExecute" | "")
        };
        if !list.iter().any(tolerates) {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
            }));
        }
    }
}
