//! Conversion between the versions of resources that are served in more than one: Events and HorizontalPodAutoscalers.
//!
//! Upstream: pkg/apis/events/v1/conversion.go, pkg/apis/autoscaling/{v1,v2}/conversion.go.

use serde_json::{Map, Value};

use crate::codec;
use crate::resource::Resource;
use crate::schema::Schema;

mod autoscaling;

/// Core's name and that of events.k8s.io for each field of an Event whose name differs.
const EVENT: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("source", "deprecatedSource"),
    ("message", "note"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A normal tree of `resource`'s version as one of the version that is stored; one that is not normal for its type
/// is only renamed.
pub fn to_stored(resource: &Resource, tree: Value) -> Value {
    convert(resource, tree, true)
}

/// A normal tree of the stored version as one of `resource`'s version.
pub fn from_stored(resource: &Resource, tree: Value) -> Value {
    convert(resource, tree, false)
}

fn convert(resource: &Resource, tree: Value, store: bool) -> Value {
    let own = (&*resource.group, &*resource.version);
    let stored = (&*resource.storage.0, &*resource.storage.1);
    let Value::Object(mut map) = tree else { return tree };
    if own == stored {
        return Value::Object(map);
    }
    match (&*resource.kind, store) {
        ("Event", true) => rename(&mut map, EVENT.map(|(core, new)| (new, core))),
        ("Event", false) => rename(&mut map, EVENT),
        ("HorizontalPodAutoscaler", true) => autoscaling::v1_to_v2(&mut map),
        ("HorizontalPodAutoscaler", false) => autoscaling::v2_to_v1(&mut map),
        _ => {}
    }
    let (group, version) = if store { stored } else { own };
    map.insert(
        "apiVersion".to_owned(),
        if group.is_empty() { version.into() } else { format!("{group}/{version}").into() },
    );
    let tree = Value::Object(map);
    let ty = Schema::builtin().of_kind(group, version, &resource.kind);
    ty.and_then(|ty| codec::normalise(ty, &tree).ok()).map_or(tree, |decoded| decoded.value)
}

fn rename<const N: usize>(map: &mut Map<String, Value>, names: [(&str, &str); N]) {
    for (old, new) in names {
        if let Some(value) = map.remove(old) {
            map.insert(new.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(group: &str, version: &str, plural: &str) -> Resource {
        Resource::find(group, version, plural).expect("it is served")
    }

    #[test]
    fn events_keep_everything_on_the_way_there_and_back() {
        let events = resource("events.k8s.io", "v1", "events");
        let new = json!({"kind":"Event","apiVersion":"events.k8s.io/v1","metadata":{"name":"a"},"eventTime":null,"regarding":{"kind":"Pod"},
            "note":"n","reportingController":"c","deprecatedCount":2,"deprecatedSource":{"component":"k"},
            "deprecatedFirstTimestamp":null,"deprecatedLastTimestamp":null});
        let core = to_stored(&events, new.clone());
        assert_eq!(
            core,
            json!({"kind":"Event","apiVersion":"v1","metadata":{"name":"a"},"eventTime":null,"involvedObject":{"kind":"Pod"},
                "message":"n","reportingComponent":"c","reportingInstance":"","count":2,"source":{"component":"k"},
                "firstTimestamp":null,"lastTimestamp":null})
        );
        assert_eq!(from_stored(&events, core), new);
    }

    #[test]
    fn the_first_version_of_an_autoscaler_carries_the_rest_in_annotations() {
        let first = resource("autoscaling", "v1", "horizontalpodautoscalers");
        let stored = json!({"kind":"HorizontalPodAutoscaler","apiVersion":"autoscaling/v2","metadata":{"name":"a"},
            "spec":{"scaleTargetRef":{"kind":"Deployment","name":"d"},"maxReplicas":5,
                "behavior":{"scaleDown":{"stabilizationWindowSeconds":30,"policies":[{"type":"Pods","value":1,"periodSeconds":60}]}},
                "metrics":[
                    {"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"10"}}},
                    {"type":"External","external":{"metric":{"name":"q","selector":{"matchLabels":{"a":"b"}}},"target":{"type":"Value","value":"30"}}},
                    {"type":"Object","object":{"describedObject":{"kind":"Service","name":"s"},"metric":{"name":"o"},"target":{"type":"AverageValue","averageValue":"3"}}},
                    {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":60}}}]},
            "status":{"desiredReplicas":2,"currentMetrics":[{"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":50,"averageValue":"100m"}}}],
                "conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":null}]}});
        let old = from_stored(&first, stored.clone());
        assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 60);
        assert_eq!(old["status"]["currentCPUUtilizationPercentage"], 50);
        let metrics: Value = serde_json::from_str(
            old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].as_str().expect("set"),
        )
        .expect("JSON");
        assert_eq!(metrics[0], json!({"type":"Pods","pods":{"metricName":"m","targetAverageValue":"10"}}));
        assert_eq!(
            metrics[2]["object"],
            json!({"metricName":"o","target":{"kind":"Service","name":"s"},"targetValue":"0","averageValue":"3"})
        );
        assert_eq!(to_stored(&first, old), stored);
    }

    #[test]
    fn an_autoscaler_without_metrics_gets_the_old_default() {
        let first = resource("autoscaling", "v1", "horizontalpodautoscalers");
        let old = json!({"spec":{"scaleTargetRef":{"kind":"D","name":"d"},"maxReplicas":1},"status":{}});
        let stored = to_stored(&first, old);
        assert_eq!(
            stored["spec"]["metrics"][0]["resource"]["target"],
            json!({"type":"Utilization","averageUtilization":80})
        );
    }
}
