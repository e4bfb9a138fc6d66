//! ConfigMaps and Secrets: what is marked immutable stays, and a Secret keeps its type.
//!
//! Upstream: kubernetes pkg/apis/core/validation ValidateConfigMapUpdate, ValidateSecretUpdate.

use coracle_api::{Causes, Resource, Status};
use serde_json::Value;

use crate::registry::metadata;

pub fn check(resource: &Resource, new: &Value, old: &Value) -> Result<(), Status> {
    let mut causes = Causes::new();
    if old["immutable"] == true {
        if new["immutable"] != true {
            causes.forbidden("immutable", "field is immutable when `immutable` is set");
        }
        for name in ["data", "binaryData"] {
            if new.get(name) != old.get(name) {
                causes.forbidden(name, "field is immutable when `immutable` is set");
            }
        }
    }
    if &*resource.plural == "secrets" && new.get("type") != old.get("type") {
        causes.invalid("type", new["type"].clone(), "field is immutable");
    }
    causes.into_result(resource, metadata::text(new, "name"))
}
