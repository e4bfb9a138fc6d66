//! The autoscaling group. Upstream: pkg/apis/autoscaling/{v1,v2}/defaults.go.

use serde_json::json;

use super::draft::Draft;

pub(super) fn v1(autoscaler: &mut Draft<'_>) {
    autoscaler.make("spec").default("minReplicas", 1);
}

pub(super) fn v2(autoscaler: &mut Draft<'_>) {
    let mut spec = autoscaler.make("spec");
    spec.default("minReplicas", 1);
    spec.default_zero(
        "metrics",
        json!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }]),
    );
    let Some(mut behavior) = spec.get("behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let mut up = behavior.make("scaleUp");
    up.default("stabilizationWindowSeconds", 0);
    up.default("selectPolicy", "Max");
    up.default("policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]));
    let mut down = behavior.make("scaleDown");
    down.default("selectPolicy", "Max");
    down.default("policies", json!([percent]));
}
