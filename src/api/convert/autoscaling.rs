//! HorizontalPodAutoscaler: autoscaling/v1 has one CPU figure and keeps everything else of v2 in annotations.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const DROPPED: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// CPU utilization in percent that an autoscaler without metrics aims at.
const DEFAULT_UTILIZATION: i32 = 80;

/// A field of a metric: source, JSON pointer in v2, name in v1, and what v1 shows when it is not set (`""`: nothing).
type Move = (&'static str, &'static str, &'static str, &'static str);

const SPEC: [Move; 16] = [
    ("resource", "/target/averageUtilization", "targetAverageUtilization", ""),
    ("resource", "/target/averageValue", "targetAverageValue", ""),
    ("containerResource", "/target/averageUtilization", "targetAverageUtilization", ""),
    ("containerResource", "/target/averageValue", "targetAverageValue", ""),
    ("pods", "/metric/name", "metricName", ""),
    ("pods", "/metric/selector", "selector", ""),
    ("pods", "/target/averageValue", "targetAverageValue", "0"),
    // v1's `target` is v2's `describedObject`: it is moved after v2's own `target` was read.
    ("object", "/target/value", "targetValue", "0"),
    ("object", "/target/averageValue", "averageValue", ""),
    ("object", "/metric/name", "metricName", ""),
    ("object", "/metric/selector", "selector", ""),
    ("object", "/describedObject", "target", ""),
    ("external", "/metric/name", "metricName", ""),
    ("external", "/metric/selector", "metricSelector", ""),
    ("external", "/target/value", "targetValue", ""),
    ("external", "/target/averageValue", "targetAverageValue", ""),
];

const STATUS: [Move; 16] = [
    ("resource", "/current/averageUtilization", "currentAverageUtilization", ""),
    ("resource", "/current/averageValue", "currentAverageValue", "0"),
    ("containerResource", "/current/averageUtilization", "currentAverageUtilization", ""),
    ("containerResource", "/current/averageValue", "currentAverageValue", "0"),
    ("pods", "/metric/name", "metricName", ""),
    ("pods", "/metric/selector", "selector", ""),
    ("pods", "/current/averageValue", "currentAverageValue", "0"),
    ("object", "/current/value", "currentValue", "0"),
    ("object", "/current/averageValue", "averageValue", ""),
    ("object", "/metric/name", "metricName", ""),
    ("object", "/metric/selector", "selector", ""),
    ("object", "/describedObject", "target", ""),
    ("external", "/metric/name", "metricName", ""),
    ("external", "/metric/selector", "metricSelector", ""),
    ("external", "/current/value", "currentValue", "0"),
    ("external", "/current/averageValue", "currentAverageValue", ""),
];

pub(super) fn v2_to_v1(object: &mut Map<String, Value>) {
    let mut kept: Vec<(&str, Value)> = Vec::new();
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        let metrics = list(spec.remove("metrics"));
        let cpu = metrics.iter().find_map(cpu_target).cloned();
        let others: Vec<Value> =
            metrics.iter().filter(|metric| cpu_target(metric).is_none()).map(|metric| old(metric, &SPEC)).collect();
        if !others.is_empty() {
            kept.push((METRICS, Value::Array(others)));
        }
        if let Some(cpu) = cpu {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), cpu);
        }
        if let Some(behavior) = spec.remove("behavior") {
            kept.push((BEHAVIOR, recased(&behavior, capital)));
        }
    }
    if let Some(Value::Object(status)) = object.get_mut("status") {
        let metrics = list(status.remove("currentMetrics"));
        let cpu = metrics
            .iter()
            .rfind(|metric| is_cpu(metric))
            .and_then(|metric| metric.pointer("/resource/current/averageUtilization"));
        if let Some(cpu) = cpu {
            status.insert("currentCPUUtilizationPercentage".to_owned(), cpu.clone());
        }
        if !metrics.is_empty() {
            kept.push((CURRENT_METRICS, metrics.iter().map(|metric| old(metric, &STATUS)).collect()));
        }
        let conditions = list(status.remove("conditions"));
        if !conditions.is_empty() {
            kept.push((CONDITIONS, Value::Array(conditions)));
        }
    }
    take_annotations(object);
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    for (name, value) in kept {
        metadata["annotations"][name] = Value::String(value.to_string());
    }
}

pub(super) fn v1_to_v2(object: &mut Map<String, Value>) {
    let mut annotations = take_annotations(object);
    let mut kept =
        |name: &str| annotations.remove(name).and_then(|text| serde_json::from_str::<Value>(text.as_str()?).ok());
    let (metrics, behavior) = (list(kept(METRICS)), kept(BEHAVIOR));
    let (current, conditions) = (kept(CURRENT_METRICS), kept(CONDITIONS));
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        let cpu = |value: Value| json!({"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":value}}});
        let mut metrics: Vec<Value> = metrics.iter().map(|metric| with_target_type(new(metric, &SPEC))).collect();
        metrics.extend(spec.remove("targetCPUUtilizationPercentage").map(cpu));
        if metrics.is_empty() {
            metrics.push(cpu(DEFAULT_UTILIZATION.into()));
        }
        spec.insert("metrics".to_owned(), Value::Array(metrics));
        if let Some(behavior) = behavior {
            spec.insert("behavior".to_owned(), recased(&behavior, lower));
        }
    }
    if let Some(Value::Object(status)) = object.get_mut("status") {
        if let Some(cpu) = status.remove("currentCPUUtilizationPercentage") {
            let metric = json!({"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":cpu}}});
            status.insert("currentMetrics".to_owned(), json!([metric]));
        }
        if let Some(Value::Array(current)) = current {
            status.insert("currentMetrics".to_owned(), current.iter().map(|metric| new(metric, &STATUS)).collect());
        }
        if let Some(conditions) = conditions {
            status.insert("conditions".to_owned(), conditions);
        }
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    if let Some(Value::Array(list)) = value { list } else { Vec::new() }
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn cpu_target(metric: &Value) -> Option<&Value> {
    metric.pointer("/resource/target/averageUtilization").filter(|_| is_cpu(metric))
}

/// Takes the annotations that carry what the other version has; none of them outlives a conversion.
fn take_annotations(object: &mut Map<String, Value>) -> Map<String, Value> {
    let mut taken = Map::new();
    let annotations = object.get_mut("metadata").and_then(|meta| meta.get_mut("annotations"));
    if let Some(Value::Object(annotations)) = annotations {
        for name in DROPPED {
            taken.extend(annotations.remove(name).map(|value| (name.to_owned(), value)));
        }
    }
    taken
}

/// A metric of v2 in v1's form.
fn old(metric: &Value, moves: &[Move]) -> Value {
    let mut out = metric.clone();
    for (source, body) in metric.as_object().into_iter().flatten().filter(|(_, body)| body.is_object()) {
        let mut old = Map::new();
        for name in ["name", "container"] {
            old.extend(body.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        for (_, from, to, unset) in moves.iter().filter(|one| one.0 == source) {
            match body.pointer(from) {
                Some(value) => _ = old.insert((*to).to_owned(), value.clone()),
                None if !unset.is_empty() => _ = old.insert((*to).to_owned(), (*unset).into()),
                None => {}
            }
        }
        out[source.as_str()] = Value::Object(old);
    }
    out
}

/// A metric of v1 in v2's form, without the type of its target.
fn new(metric: &Value, moves: &[Move]) -> Value {
    let mut out = metric.clone();
    for (source, body) in metric.as_object().into_iter().flatten().filter(|(_, body)| body.is_object()) {
        let mut new = Value::Object(Map::new());
        for name in ["name", "container"] {
            if let Some(value) = body.get(name) {
                new[name] = value.clone();
            }
        }
        for (_, to, from, _) in moves.iter().filter(|one| one.0 == source) {
            if let Some(value) = body.get(from) {
                match to[1..].split_once('/') {
                    Some((outer, inner)) => new[outer][inner] = value.clone(),
                    None => new[&to[1..]] = value.clone(),
                }
            }
        }
        out[source.as_str()] = new;
    }
    out
}

/// v1 does not say of what type a target is: what is set tells.
fn with_target_type(mut metric: Value) -> Value {
    for (source, body) in metric.as_object_mut().into_iter().flatten().filter(|(_, body)| body.is_object()) {
        let has = |name: &str| body["target"].get(name).is_some();
        let kind = match source.as_str() {
            "resource" | "containerResource" if has("averageUtilization") => "Utilization",
            "object" if !has("averageValue") => "Value",
            "external" if has("value") => "Value",
            _ => "AverageValue",
        };
        // v1 cannot leave the value out: zero beside an average is no value.
        let zero = source == "object" && kind == "AverageValue" && body["target"]["value"] == "0";
        if let Some(target) = body["target"].as_object_mut().filter(|_| zero) {
            target.remove("value");
        }
        body["target"]["type"] = kind.into();
    }
    metric
}

/// The annotation holds Go's internal type, whose names begin with capitals.
fn recased(value: &Value, case: fn(char) -> char) -> Value {
    match value {
        Value::Object(map) => {
            let renamed = map.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| {
                let mut letters = key.chars();
                let first = letters.next().map(case);
                (first.into_iter().chain(letters).collect(), recased(value, case))
            });
            Value::Object(renamed.collect())
        }
        Value::Array(items) => items.iter().map(|item| recased(item, case)).collect(),
        other => other.clone(),
    }
}

fn capital(letter: char) -> char {
    letter.to_ascii_uppercase()
}

fn lower(letter: char) -> char {
    letter.to_ascii_lowercase()
}
