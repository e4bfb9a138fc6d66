//! The quality of service class of a pod. Upstream: kubernetes pkg/apis/core/helper/qos.

use crate::node::Node;

/// Of a pod's spec. Guaranteed when every container's limits for cpu and memory are set and equal its requests, BestEffort when
/// none has any, else Burstable. Quantities are compared as they are written, after canonicalisation by the decoder.
pub fn class(spec: Node<'_, '_>) -> &'static str {
    let whole = spec.get("resources");
    let mut sum = Sum { any: false, guaranteed: true, count: 0 };
    if whole.is_present() {
        sum.add(whole);
    } else {
        for list in ["initContainers", "containers"] {
            spec.get(list).items().for_each(|container| sum.add(container.get("resources")));
        }
    }
    match (sum.any, sum.guaranteed && sum.count > 0) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

struct Sum {
    any: bool,
    guaranteed: bool,
    count: usize,
}

impl Sum {
    fn add(&mut self, resources: Node<'_, '_>) {
        let is_zero = |quantity: &str| matches!(quantity, "0" | "");
        self.count += 1;
        for name in ["cpu", "memory"] {
            let (request, limit) = (resources.get("requests").key(name).str(), resources.get("limits").key(name).str());
            self.any |= !is_zero(request) || !is_zero(limit);
            self.guaranteed &= !is_zero(limit) && (is_zero(request) || request == limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_class_follows_requests_and_limits() {
        let spec = |resources: Value| json!({ "containers": [{ "resources": resources }] });
        for (resources, expected) in [
            (json!({}), "BestEffort"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
        ] {
            assert_eq!(class(Node::root(&spec(resources.clone()))), expected, "{resources}");
        }
    }
}
