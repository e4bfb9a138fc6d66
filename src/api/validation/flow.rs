//! Priority and fairness. Upstream: pkg/apis/flowcontrol/validation.
//!
//! Which subjects and rules a schema lists, and that a level's shape fits its type, the tables' rules say beside these.

use super::checks::Seen;
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

const MAX_PRECEDENCE: i64 = 10_000;
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of hash that dealing a hand of queues may use up.
const MAX_BITS: i64 = 60;
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub(super) fn schema(schema: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let (spec, meta) = (schema.get("spec"), schema.get("metadata"));
    let (precedence, level, method) =
        (spec.get("matchingPrecedence"), spec.get("priorityLevelConfiguration"), spec.get("distinguisherMethod"));
    let number = precedence.number();
    if number <= 0 {
        precedence.invalid_number(causes, "must be a positive value");
    }
    if number > MAX_PRECEDENCE {
        precedence.invalid_number(causes, format!("must not be greater than {MAX_PRECEDENCE}"));
    }
    if number == 1 && meta.get("name").str() != "exempt" {
        precedence.invalid_number(causes, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    if method.is_present() && !["ByNamespace", "ByUser"].contains(&method.get("type").str()) {
        let shown = method.value().cloned().unwrap_or_default();
        causes.not_supported(method.path_of("type"), shown, &["ByNamespace", "ByUser"]);
    }
    if level.get("name").is_empty() {
        level.get("name").required(causes, "must reference a priority level");
    } else {
        level.get("name").keep(names::dns_1123_subdomain, causes);
    }
    spec.get("rules").items().for_each(|rule| policy(rule, causes));
    status(schema, causes);
}

fn policy(rule: Node<'_, '_>, causes: &mut Causes) {
    let (subjects, resources, urls) = (rule.get("subjects"), rule.get("resourceRules"), rule.get("nonResourceRules"));
    if subjects.is_empty() {
        subjects.required(causes, "subjects must contain at least one value");
    }
    subjects.items().for_each(|of| subject(of, causes));
    if resources.is_empty() && urls.is_empty() {
        rule.required(causes, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for rule in resources.items() {
        verbs(rule.get("verbs"), causes);
        for (field, one, other) in [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")] {
            let list = rule.get(field);
            if list.is_empty() {
                list.required(causes, format!("resource rules must supply at least one {one}"));
            }
            alone(list, other, causes);
        }
        let namespaces = rule.get("namespaces");
        if namespaces.is_empty() && !rule.get("clusterScope").bool() {
            let why = "resource rules that are not cluster scoped must supply at least one namespace";
            namespaces.required(causes, why);
        } else if !alone(namespaces, "namespaces", causes) {
            for namespace in namespaces.items() {
                for message in names::dns_1123_label(namespace.str()) {
                    let why = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
                    namespace.invalid_text(causes, why);
                }
            }
        }
    }
    for rule in urls.items() {
        verbs(rule.get("verbs"), causes);
        let paths = rule.get("nonResourceURLs");
        if paths.is_empty() {
            paths.required(causes, "nonResourceURLs must contain at least one value");
        } else if !alone(paths, "non-resource URLs", causes) {
            for path in paths.items() {
                if let Some(why) = url(path.str()) {
                    path.invalid_text(causes, why);
                }
            }
        }
    }
}

/// `*` stands alone in its list; says whether it is there.
fn alone(list: Node<'_, '_>, others: &str, causes: &mut Causes) -> bool {
    let all = list.items().any(|item| item.str() == "*");
    if all && list.len() > 1 {
        list.invalid(causes, format!("if '*' is present, must not specify other {others}"));
    }
    all
}

fn verbs(list: Node<'_, '_>, causes: &mut Causes) {
    if list.is_empty() {
        list.required(causes, "verbs must contain at least one value");
    } else if !alone(list, "verbs", causes) && list.items().any(|verb| !VERBS.contains(&verb.str())) {
        causes.not_supported(list.path(), list.value().cloned().unwrap_or_default(), VERBS);
    }
}

fn url(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || stars == 1 && !path.ends_with("/*") => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

/// Kinds of subjects, and the fields that name them.
const SUBJECTS: &[(&str, &str)] = &[("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];

fn subject(subject: Node<'_, '_>, causes: &mut Causes) {
    let kind = subject.get("kind");
    if !SUBJECTS.iter().any(|(known, _)| *known == kind.str()) {
        return kind.one_of(&["Group", "ServiceAccount", "User"], causes);
    }
    for (of, field) in SUBJECTS {
        let node = subject.get(field);
        if *of != kind.str() {
            subject.forbid(&[field], &format!("{field} is forbidden when subject kind is not '{of}'"), causes);
        } else if node.is_absent() {
            node.required(causes, format!("{field} is required when subject kind is '{of}'"));
        } else {
            let (name, namespace) = (node.get("name"), node.get("namespace"));
            let account = *of == "ServiceAccount";
            if name.need(causes) && account && name.str() != "*" {
                name.keep(names::dns_1123_subdomain, causes);
            }
            if account && namespace.is_empty() {
                namespace.required(causes, "must specify namespace for service account");
            } else if account {
                namespace.keep(names::dns_1123_label, causes);
            }
        }
    }
}

pub(super) fn level(level: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let (spec, meta) = (level.get("spec"), level.get("metadata"));
    let kind = spec.get("type");
    if (meta.get("name").str() == "exempt") != (kind.str() == "Exempt") {
        kind.invalid_text(causes, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    if !["", "Exempt", "Limited"].contains(&kind.str()) {
        kind.one_of(&["Exempt", "Limited"], causes);
    }
    let (limited, exempt) = (spec.get("limited"), spec.get("exempt"));
    match kind.str() {
        "Exempt" => shares(exempt, causes),
        "Limited" => {
            shares(limited, causes);
            response(limited.get("limitResponse"), causes);
            let borrowed = limited.get("borrowingLimitPercent");
            if borrowed.number() < 0 {
                borrowed.invalid(causes, "if specified, must be a non-negative integer");
            }
        }
        _ => {}
    }
    status(level, causes);
}

fn shares(of: Node<'_, '_>, causes: &mut Causes) {
    if of.get("nominalConcurrencyShares").number() < 0 {
        of.get("nominalConcurrencyShares").invalid(causes, "must be a non-negative integer");
    }
    of.get("lendablePercent").in_range(0, 100, causes);
}

fn response(response: Node<'_, '_>, causes: &mut Causes) {
    let (kind, queuing) = (response.get("type"), response.get("queuing"));
    if !["", "Queue", "Reject"].contains(&kind.str()) {
        return kind.one_of(&["Queue", "Reject"], causes);
    }
    if kind.str() != "Queue" || queuing.is_absent() {
        return;
    }
    let (queues, hand, length) = (queuing.get("queues"), queuing.get("handSize"), queuing.get("queueLengthLimit"));
    for node in [length, queues, hand] {
        if node.number() <= 0 {
            node.invalid_number(causes, "must be positive");
        }
    }
    let (deck, size) = (queues.number(), hand.number());
    if deck > MAX_QUEUES {
        queues.invalid_number(causes, format!("must not be greater than {MAX_QUEUES}"));
    }
    if size > deck {
        hand.invalid_number(causes, format!("should not be greater than queues ({deck})"));
    } else if size > 0 && bits(deck, size) > MAX_BITS {
        let why = format!(
            "required entropy bits of deckSize {deck} and handSize {size} should not be greater than {MAX_BITS}"
        );
        hand.invalid_number(causes, why);
    }
}

/// Bits of hash that it takes to deal `hand` cards of a deck, at most.
fn bits(deck: i64, hand: i64) -> i64 {
    ((deck as f64).log2() * hand as f64).ceil() as i64
}

/// Conditions, each type once.
pub(super) fn status(object: Node<'_, '_>, causes: &mut Causes) {
    let status = object.get("status");
    let conditions = status.get("conditions");
    let mut seen = Seen::new();
    for condition in conditions.items() {
        let kind = condition.get("type");
        if !seen.insert(kind.str()) {
            kind.duplicate(causes);
        }
        kind.need(causes);
    }
}
