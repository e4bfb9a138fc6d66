//! Refuses what the rules of a kind do not allow: 422 with every cause.

use coracle_api::node::Node;
use coracle_api::{Causes, Resource, Status, validation};
use serde_json::Value;

use super::metadata;

/// `old` is `None` for a new object.
pub fn check(resource: &Resource, subresource: &str, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let mut causes = Causes::new();
    match old {
        None => validation::create(resource, Node::root(new), &mut causes),
        Some(old) => validation::update(resource, Node::root(new), Node::root(old), subresource, &mut causes),
    }
    causes.into_result(resource, metadata::text(new, "name"))
}
