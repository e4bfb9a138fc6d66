//! Rules that upstream's types carry as `+k8s:` tags, evaluated in one walk over the object and its schema type.
//!
//! Upstream: k8s.io/apimachinery pkg/api/validate, pkg/apis/*/v1/zz_generated.validations.go. Alpha rules are not enforced there, and
//! not here. What an update leaves as it was is not judged again.

use serde_json::Value;

use crate::causes::Causes;
use crate::names;
use crate::node::Node;
use crate::schema::{Field, Kind, Strings, Type};

/// Options that are off in this API level; all others are on.
const OFF: &[&str] =
    &["WorkloadWithJob", "InPlacePodVerticalScalingSchedulerPreemption", "DRAPartitionableDevicesType"];

/// `old` is absent on create.
pub(super) fn check(ty: Type<'_>, new: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    if ty.has_rules() {
        structure(ty, new, old.is_present().then_some(old), causes);
    }
}

/// A rule without its maturity: `maxItems=4` is its name, argument and value.
#[derive(Clone, Copy)]
struct Rule<'s> {
    name: &'s str,
    argument: &'s str,
    value: &'s str,
}

fn parse(text: &str) -> Option<Rule<'_>> {
    let text = text.strip_prefix("beta:").unwrap_or(text);
    let text = text.strip_prefix("+k8s:").unwrap_or(text);
    if text.starts_with("alpha") {
        return None;
    }
    let (head, value) = match text.split_once(")=") {
        Some((head, value)) => (head, value),
        None if text.ends_with(')') => (text, ""),
        None => text.split_once('=').unwrap_or((text, "")),
    };
    let (name, argument) = head.split_once('(').unwrap_or((head, ""));
    let argument = argument.trim_end_matches(')');
    match name {
        "ifEnabled" if !OFF.contains(&argument) => parse(value),
        "ifDisabled" if OFF.contains(&argument) => parse(value),
        "ifEnabled" | "ifDisabled" => None,
        _ => Some(Rule { name, argument, value: value.trim_matches('"') }),
    }
}

fn enforced<'s>(rules: Strings<'s>) -> impl Iterator<Item = Rule<'s>> + Clone {
    rules.filter_map(parse)
}

fn has(rules: Strings<'_>, name: &str) -> bool {
    enforced(rules).any(|rule| rule.name == name)
}

/// `old` is the correlated value, absent on create and for what is new.
fn structure(ty: Type<'_>, new: Node<'_, '_>, old: Option<Node<'_, '_>>, causes: &mut Causes) {
    union(ty, new, old, causes);
    modes(ty, new, old, causes);
    for field in ty.fields().filter(|field| !field.rules().is_empty() || field.ty().has_rules()) {
        let node = new.get(field.name());
        match &old {
            Some(old) => of_field(field, node, Some(old.get(field.name())), causes),
            None => of_field(field, node, None, causes),
        }
    }
}

fn of_field(field: Field<'_>, new: Node<'_, '_>, old: Option<Node<'_, '_>>, causes: &mut Causes) {
    if old.is_some_and(|old| old.value() == new.value()) {
        return;
    }
    let unset = if field.presence().pointer { new.is_absent() } else { new.is_empty() };
    let mut goes_on = true;
    for rule in enforced(field.rules()) {
        let before = causes.len();
        match rule.name {
            "required" if unset => new.required(causes, ""),
            "optional" if unset => return,
            "forbidden" if !unset => new.forbidden(causes, ""),
            "immutable" if old.is_some() => causes.invalid(new.path(), Value::Null, "field is immutable"),
            "maxItems" => {
                let limit = rule.value.parse().unwrap_or(usize::MAX);
                if new.len() > limit {
                    causes.too_many(new.path(), new.len(), limit);
                }
            }
            "update" => change(rule.value, unset, new, old, causes),
            _ => {}
        }
        goes_on &= rule.name == "immutable" || causes.len() == before;
    }
    if !goes_on {
        return;
    }
    for rule in enforced(field.rules()) {
        value(rule, new, causes);
    }
    at_most_one(field, new, causes);
    let keys = keys(field);
    if has(field.rules(), "unique") || has(field.rules(), "listType") && !has(field.rules(), "customUnique") {
        unique(new, &keys, causes);
    }
    inside(field.ty(), &keys, has_set(field), new, old, causes);
}

fn change(what: &str, unset: bool, new: Node<'_, '_>, old: Option<Node<'_, '_>>, causes: &mut Causes) {
    let Some(old) = old else { return };
    let why = match (what, old.is_empty(), unset) {
        ("NoSet", true, false) => "field cannot be set once created",
        ("NoUnset", false, true) => "field cannot be cleared once set",
        ("NoModify", false, false) => "field cannot be modified once set",
        _ => return,
    };
    causes.invalid(new.path(), Value::Null, why);
}

/// The keys of an associative list.
fn keys(field: Field<'_>) -> Vec<&str> {
    let rules = field.rules().filter_map(|rule| rule.rsplit_once("listMapKey="));
    rules.map(|(_, key)| key).collect()
}

fn has_set(field: Field<'_>) -> bool {
    field.rules().any(|rule| rule.ends_with("listType=set") || rule.ends_with("unique=set"))
}

fn same_key(left: &Node<'_, '_>, right: &Node<'_, '_>, keys: &[&str]) -> bool {
    if keys.is_empty() {
        return left.value() == right.value();
    }
    keys.iter().all(|key| left.get(key).value() == right.get(key).value())
}

fn unique(list: Node<'_, '_>, keys: &[&str], causes: &mut Causes) {
    for (index, item) in list.items().enumerate() {
        if list.items().take(index).any(|earlier| same_key(&earlier, &item, keys)) {
            item.duplicate(causes);
        }
    }
}

/// Rules on what a value holds.
fn inside(
    ty: Type<'_>,
    keys: &[&str],
    is_set: bool,
    new: Node<'_, '_>,
    old: Option<Node<'_, '_>>,
    causes: &mut Causes,
) {
    if !ty.has_rules() || new.is_absent() {
        return;
    }
    for rule in enforced(ty.rules()) {
        if rule.name == "enum" && !ty.enum_values().any(|known| known == new.str()) {
            let known: Vec<&str> = ty.enum_values().collect();
            causes.not_supported(new.path(), new.str(), &known);
        }
    }
    match (ty.kind(), ty.element()) {
        (Kind::Struct, _) => structure(ty, new, old.filter(Node::is_present), causes),
        (Kind::List, Some(element)) => {
            for item in new.items() {
                let correlates = is_set || !keys.is_empty();
                let before = old.as_ref().filter(|_| correlates);
                let before = before.and_then(|old| old.items().find(|before| same_key(before, &item, keys)));
                if before.is_none_or(|before| before.value() != item.value()) {
                    inside(element, &[], false, item, before, causes);
                }
            }
        }
        (Kind::Map, Some(element)) => {
            for (key, item) in new.entries() {
                let before = old.as_ref().map(|old| old.key(key)).filter(Node::is_present);
                if before.is_none_or(|before| before.value() != item.value()) {
                    inside(element, &[], false, item, before, causes);
                }
            }
        }
        _ => {}
    }
}

/// Rules on one value.
fn value(rule: Rule<'_>, node: Node<'_, '_>, causes: &mut Causes) {
    let limit = rule.value.parse().unwrap_or(0_i64);
    match rule.name {
        "minimum" if node.number() < limit && !node.is_absent() => {
            node.invalid_number(causes, format!("must be greater than or equal to {limit}"));
        }
        "maximum" if node.number() > limit => {
            node.invalid_number(causes, format!("must be less than or equal to {limit}"));
        }
        "maxLength" if node.str().chars().count() > limit as usize => {
            causes.too_many_characters(node.path(), limit as usize);
        }
        "maxBytes" if node.str().len() > limit as usize => node.too_long(causes, limit as usize),
        "format" if node.is_present() => format(rule.value, node, node.str(), causes),
        "eachVal" => {
            if let Some(inner) = parse(rule.value) {
                node.items().for_each(|item| value(inner, item, causes));
            }
        }
        "eachKey" => {
            // The path is the map's.
            if let Some(inner) = parse(rule.value).filter(|inner| inner.name == "format") {
                node.entries().for_each(|(key, _)| format(inner.value, node, key, causes));
            }
        }
        "subfield" => {
            if let Some(inner) = parse(rule.value) {
                value(inner, node.get(rule.argument), causes);
            }
        }
        _ => {}
    }
}

type Grammar = fn(&str) -> Vec<String>;

const FORMATS: &[(&str, Grammar)] = &[
    ("k8s-short-name", names::dns_1123_label),
    ("k8s-long-name", names::dns_1123_subdomain),
    ("k8s-long-name-caseless", names::dns_1123_subdomain_caseless),
    ("k8s-label-key", names::qualified_name),
    ("k8s-prefixed-label-key", names::prefixed_label_key),
    ("k8s-label-value", names::label_value),
    ("k8s-path-segment-name", names::path_segment),
    ("k8s-uuid", names::uuid),
    ("k8s-extended-resource-name", names::extended_resource),
];

fn format(format: &str, node: Node<'_, '_>, text: &str, causes: &mut Causes) {
    match format {
        "k8s-resource-pool-name" => pool_name(node, text, causes),
        "k8s-resource-fully-qualified-name" => device_name(node, text, true, causes),
        _ => {
            let grammar = FORMATS.iter().find(|(name, _)| *name == format);
            for message in grammar.map_or_else(Vec::new, |(_, grammar)| grammar(text)) {
                // The newer package of the two that explain them counts bytes.
                let message = match message.strip_prefix("must be no more than ") {
                    Some(rest) => format!("must be no more than {}", rest.replace("characters", "bytes")),
                    None => message,
                };
                causes.invalid(node.path(), text, message);
            }
        }
    }
}

fn pool_name(node: Node<'_, '_>, text: &str, causes: &mut Causes) {
    if text.len() > names::DNS_SUBDOMAIN_MAX {
        node.too_long(causes, names::DNS_SUBDOMAIN_MAX);
    }
    for (index, part) in text.split('/').enumerate() {
        if part.is_empty() {
            causes.invalid(node.path(), text, format!("segment {index}: must not be empty"));
            continue;
        }
        for message in names::dns_1123_subdomain(part) {
            causes.invalid(node.path(), part, format!("segment {index}: {message}"));
        }
    }
}

/// The name of an attribute or capacity of a device.
pub(super) fn device_name(node: Node<'_, '_>, text: &str, full: bool, causes: &mut Causes) {
    let identifier = |id: &str, causes: &mut Causes| {
        if id.len() > 32 {
            node.too_long(causes, 32);
        }
        for message in names::c_identifier(id) {
            causes.invalid(node.path(), id, message);
        }
    };
    match text.split('/').collect::<Vec<_>>()[..] {
        [name] => identifier(name, causes),
        [prefix, name] => {
            if prefix.is_empty() {
                causes.invalid(node.path(), "", "prefix must not be empty");
            } else {
                if prefix.len() > 63 {
                    node.too_long(causes, 63);
                }
                for message in names::dns_1123_subdomain(prefix) {
                    causes.invalid(node.path(), prefix, format!("prefix: {message}"));
                }
            }
            if name.is_empty() {
                causes.invalid(node.path(), "", "name must not be empty");
            } else {
                identifier(name, causes);
            }
        }
        _ => {}
    }
    if full && !text.contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        causes.invalid(node.path(), text, why);
    }
}

/// Of the struct's union members exactly one is set.
fn union(ty: Type<'_>, new: Node<'_, '_>, old: Option<Node<'_, '_>>, causes: &mut Causes) {
    let members: Vec<&str> =
        ty.fields().filter(|field| has(field.rules(), "unionMember")).map(|field| field.name()).collect();
    if members.is_empty() {
        return;
    }
    let is_set =
        |node: Node<'_, '_>| node.is_present() && (!node.is_empty() || !node.value().is_some_and(Value::is_array));
    let set = |of: &Node<'_, '_>| members.iter().copied().filter(|name| is_set(of.get(name))).collect::<Vec<_>>();
    let given = set(&new);
    if old.is_some_and(|old| set(&old) == given) {
        return;
    }
    let all = members.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match given.len() {
        0 => causes.invalid(new.path(), "", format!("must specify one of: {all}")),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            causes.invalid(new.path(), shown, format!("must specify exactly one of: {all}"));
        }
    }
}

/// Elements of which at most one may be listed: `item(type: "Approved")=+k8s:zeroOrOneOfMember`.
fn at_most_one(field: Field<'_>, list: Node<'_, '_>, causes: &mut Causes) {
    let items: Vec<(&str, &str)> = enforced(field.rules())
        .filter(|rule| rule.name == "item" && rule.value == "+k8s:zeroOrOneOfMember")
        .filter_map(|rule| rule.argument.split_once(": "))
        .map(|(key, value)| (key, value.trim_matches('"')))
        .collect();
    let shown = |(key, value): &(&str, &str)| format!("{}[{{\"{key}\": \"{value}\"}}]", field.name());
    let given: Vec<String> = items.iter().filter(|(key, value)| list.find(key, value).is_some()).map(&shown).collect();
    if given.len() > 1 {
        let all = items.iter().map(|item| format!("`{}`", shown(item))).collect::<Vec<_>>().join(", ");
        let value = format!("{{{}}}", given.join(", "));
        causes.invalid(list.path(), value, format!("must specify at most one of: {all}"));
    }
}

/// Members that another field, the discriminator, asks for or forbids.
fn modes(ty: Type<'_>, new: Node<'_, '_>, old: Option<Node<'_, '_>>, causes: &mut Causes) {
    let Some(discriminator) = ty.fields().find(|field| has(field.rules(), "modeDiscriminator")) else { return };
    let mode = new.get(discriminator.name());
    for field in ty.fields() {
        for rule in enforced(field.rules()).filter(|rule| rule.name == "ifMode") {
            let member = new.get(field.name());
            let same = old.is_some_and(|old| {
                old.get(discriminator.name()).value() == mode.value() && old.get(field.name()).value() == member.value()
            });
            match (same, mode.str() == rule.argument.trim_matches('"'), member.is_present()) {
                (true, ..) => {}
                (_, false, true) => member.forbidden(causes, ""),
                (_, true, false) if rule.value == "+k8s:required" => member.required(causes, ""),
                _ => {}
            }
        }
    }
}
