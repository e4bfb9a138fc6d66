//! Where a pod may run: affinity, spreading, tolerations, gates. Upstream: pkg/apis/core/validation validateAffinity,
//! validateTopologySpreadConstraints, ValidateTolerations.

use crate::causes::Causes;
use crate::names;
use crate::node::Node;
use crate::validation::checks::Seen;
use crate::validation::labels;

pub(super) fn affinity(affinity: Node<'_, '_>, causes: &mut Causes) {
    let nodes = affinity.get("nodeAffinity");
    let required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_present() {
        node_selector(required, causes);
    }
    for term in nodes.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(term, causes);
        node_selector_term(term.get("preference"), false, causes);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.get(kind);
        for term in pods.get("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_term(term, causes);
        }
        for term in pods.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(term, causes);
            pod_term(term.get("podAffinityTerm"), causes);
        }
    }
}

fn weight(term: Node<'_, '_>, causes: &mut Causes) {
    let weight = term.get("weight");
    if !(1..=100).contains(&weight.number()) {
        weight.invalid_number(causes, "must be in the range 1-100");
    }
}

/// Also of volumes and device classes.
pub(in crate::validation) fn node_selector(selector: Node<'_, '_>, causes: &mut Causes) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.is_empty() {
        terms.required(causes, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(term, true, causes);
    }
}

/// `values`: whether values must be those of labels.
fn node_selector_term(term: Node<'_, '_>, values: bool, causes: &mut Causes) {
    for expression in term.get("matchExpressions").items() {
        let (operator, list, key) = (expression.get("operator"), expression.get("values"), expression.get("key"));
        match operator.str() {
            "In" | "NotIn" if list.is_empty() => {
                list.required(causes, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !list.is_empty() => {
                list.forbidden(causes, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if list.len() != 1 => {
                list.required(causes, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => operator.invalid_text(causes, "not a valid selector operator"),
        }
        key.keep(names::qualified_name, causes);
        for value in list.items().filter(|_| values) {
            value.keep(names::label_value, causes);
        }
    }
    for field in term.get("matchFields").items() {
        let (operator, list, key) = (field.get("operator"), field.get("values"), field.get("key"));
        match operator.str() {
            "In" | "NotIn" if list.len() != 1 => {
                list.required(
                    causes,
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                );
            }
            "In" | "NotIn" => {}
            _ => operator.invalid_text(causes, "not a valid selector operator"),
        }
        if key.str() == "metadata.name" {
            list.items().for_each(|name| name.keep(names::dns_1123_subdomain, causes));
        } else {
            key.invalid_text(causes, "not a valid field selector key");
        }
    }
}

fn pod_term(term: Node<'_, '_>, causes: &mut Causes) {
    labels::label_selector(term.get("labelSelector"), causes);
    labels::label_selector(term.get("namespaceSelector"), causes);
    for name in term.get("namespaces").items() {
        for message in names::dns_1123_label(name.str()) {
            causes.invalid(term.path_of("namespace"), name.str(), message);
        }
    }
    label_keys(term, causes);
    let key = term.get("topologyKey");
    if key.is_empty() {
        key.required(causes, "can not be empty");
    }
    key.keep(names::qualified_name, causes);
}

/// Labels of the pod itself by which its selector is completed. The merge puts them into the selector before.
fn label_keys(term: Node<'_, '_>, causes: &mut Causes) {
    let (matching, differing, selector) =
        (term.get("matchLabelKeys"), term.get("mismatchLabelKeys"), term.get("labelSelector"));
    for keys in [matching, differing] {
        if !keys.is_empty() && selector.is_absent() {
            keys.forbidden(causes, "must not be specified when labelSelector is not set");
            continue;
        }
        keys.items().for_each(|key| key.keep(names::qualified_name, causes));
    }
    let mut known: Vec<&str> = selector.get("matchLabels").entries().map(|(key, _)| key).collect();
    for expression in selector.get("matchExpressions").items() {
        let key = expression.get("key").str();
        let place = matching.items().rposition(|given| given.str() == key);
        if let Some(index) = place.filter(|_| known.contains(&key)) {
            causes.invalid(format!("{}[{index}]", term.path()), key, "exists in both matchLabelKeys and labelSelector");
        }
        known.push(key);
    }
    for key in matching.items() {
        if differing.items().any(|other| other.str() == key.str()) {
            key.invalid(causes, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

pub(super) fn spread(constraints: Node<'_, '_>, causes: &mut Causes) {
    for (index, constraint) in constraints.items().enumerate() {
        let (key, action, domains) =
            (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"), constraint.get("minDomains"));
        constraint.get("maxSkew").positive(causes);
        if key.is_empty() {
            key.required(causes, "can not be empty");
        }
        action.one_of(&["DoNotSchedule", "ScheduleAnyway"], causes);
        let again = constraints.items().skip(index + 1).any(|later| {
            later.get("topologyKey").str() == key.str() && later.get("whenUnsatisfiable").str() == action.str()
        });
        if again {
            let path = constraint.path_of("{topologyKey, whenUnsatisfiable}");
            causes.duplicate(path, format!("{{{}, {}}}", key.str(), action.str()));
        }
        if domains.is_present() {
            domains.positive(causes);
            if action.str() != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.str());
                domains.invalid(causes, why);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.get(field).one_of_if_present(&["Honor", "Ignore"], causes);
        }
        label_keys(constraint, causes);
        labels::label_selector(constraint.get("labelSelector"), causes);
    }
}

pub(in crate::validation) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(in crate::validation) fn tolerations(tolerations: Node<'_, '_>, causes: &mut Causes) {
    for toleration in tolerations.items() {
        let (key, operator, effect) = (toleration.get("key"), toleration.get("operator"), toleration.get("effect"));
        let value = toleration.get("value").str();
        key.keep_if_set(names::qualified_name, causes);
        if key.is_empty() && operator.str() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            operator.invalid_text(causes, why);
        }
        if toleration.get("tolerationSeconds").is_present() && effect.str() != "NoExecute" {
            effect.invalid_text(causes, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.str() {
            "" | "Equal" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    causes.invalid(operator.path(), value, messages.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                causes.invalid(operator.path(), value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => operator.not_supported(causes, &["Equal", "Exists", "Lt", "Gt"]),
            _ => operator.not_supported(causes, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            effect.one_of(EFFECTS, causes);
        }
    }
}

pub(super) fn gates(gates: Node<'_, '_>, causes: &mut Causes) {
    let mut seen = Seen::new();
    for gate in gates.items() {
        let name = gate.get("name").str();
        for message in names::qualified_name(name) {
            causes.invalid(gate.path(), name, message);
        }
        if !seen.insert(name) {
            causes.duplicate(gate.path(), name);
        }
    }
}
