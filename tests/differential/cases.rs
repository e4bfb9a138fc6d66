//! Objects of a kind and what is changed in them: written by hand (`rules/*.rules`), and made from the schema table.
//!
//! A file holds, for each kind, `=== NAME PATH`, lines `skip PREFIX` (fields whose variants are not made), `---`, the base object as
//! YAML, `---`, and one case a line: `path: value`, several changes joined by ` ;; `, no value for "take it away". A case that begins
//! with `update ` (or `update/SUBRESOURCE `) changes the stored base; the others create a changed base. `<a*300>` is 300 times `a`.

use std::path::Path;

use coracle_api::schema::{Field, Kind, Schema, Type};
use serde_json::{Value, json};

pub struct Base {
    pub name: String,
    /// Of the collection.
    pub path: String,
    pub object: Value,
    pub cases: Vec<Case>,
    skip: Vec<String>,
}

#[derive(Clone)]
pub struct Case {
    /// The kind's name and the line.
    pub name: String,
    /// `None` for a create.
    pub update: Option<String>,
    changes: Vec<(String, Option<Value>)>,
}

/// The bases of a file.
pub fn read(file: &Path) -> Vec<Base> {
    let text = std::fs::read_to_string(file).expect("it is UTF-8");
    text.split("=== ").skip(1).map(base).collect()
}

fn base(block: &str) -> Base {
    let (head, rest) = block.split_once("\n---\n").expect("a head");
    let (object, cases) = rest.split_once("\n---").expect("a base object");
    let mut lines = head.lines();
    let (name, path) = lines.next().and_then(|line| line.split_once(' ')).expect("NAME PATH");
    let object: Value = serde_yaml::from_str(object).unwrap_or_else(|error| panic!("{name}: {error}"));
    Base {
        name: name.to_owned(),
        path: path.to_owned(),
        object,
        cases: cases
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| Case::read(name, line))
            .collect(),
        skip: lines.filter_map(|line| line.strip_prefix("skip ")).map(str::to_owned).collect(),
    }
}

impl Case {
    fn read(kind: &str, line: &str) -> Self {
        let (update, changes) = match line.strip_prefix("update").and_then(|rest| rest.split_once(' ')) {
            Some((subresource, rest)) => (Some(subresource.trim_start_matches('/').to_owned()), rest),
            None => (None, line),
        };
        let changes = changes.split(" ;; ").map(|change| {
            let (path, value) = change.split_once(':').unwrap_or_else(|| panic!("{kind}: no colon in {line}"));
            let value = value.trim();
            let value = (!value.is_empty()).then(|| {
                let parsed = serde_yaml::from_str(&repeated(value));
                parsed.unwrap_or_else(|error| panic!("{kind}: {line}: {error}"))
            });
            (path.to_owned(), value)
        });
        Self { name: format!("{kind}: {line}"), update, changes: changes.collect() }
    }

    fn made(kind: &str, update: bool, path: &str, value: Option<Value>) -> Self {
        let shown = value.as_ref().map(Value::to_string).unwrap_or_default();
        let shown = if shown.len() > 60 { format!("{}…", &shown[..40]) } else { shown };
        let verb = if update { "update " } else { "" };
        Self {
            name: format!("{kind}: {verb}{path}: {shown} (made)"),
            update: update.then(String::new),
            changes: vec![(path.to_owned(), value)],
        }
    }

    /// The object with the case's changes.
    pub fn apply(&self, object: &Value) -> Value {
        let mut changed = object.clone();
        for (path, value) in &self.changes {
            set(&mut changed, &tokens(path), value.clone());
        }
        changed
    }
}

/// `<a*300>`
fn repeated(text: &str) -> String {
    let Some((before, rest)) = text.split_once('<') else { return text.to_owned() };
    let parsed = rest.split_once('>').and_then(|(inside, after)| {
        let (unit, count) = inside.split_once('*')?;
        Some(format!("{before}{}{}", unit.repeat(count.parse().ok()?), repeated(after)))
    });
    parsed.unwrap_or_else(|| text.to_owned())
}

/// `a.b[0][k.e/y]` in its parts.
fn tokens(path: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (token, after) = inside.split_once(']').expect("a closing bracket");
            tokens.push(token.to_owned());
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
    }
    tokens
}

fn set(place: &mut Value, path: &[String], value: Option<Value>) {
    let Some((first, rest)) = path.split_first() else {
        *place = value.unwrap_or_default();
        return;
    };
    let index = first.parse::<usize>().ok().filter(|_| !place.is_object());
    if let Some(index) = index {
        if !place.is_array() {
            *place = json!([]);
        }
        let list = place.as_array_mut().expect("made a list above");
        if rest.is_empty() && value.is_none() {
            if index < list.len() {
                list.remove(index);
            }
            return;
        }
        while list.len() <= index {
            list.push(Value::Null);
        }
        return set(&mut list[index], rest, value);
    }
    if !place.is_object() {
        *place = json!({});
    }
    let fields = place.as_object_mut().expect("made a map above");
    if rest.is_empty() && value.is_none() {
        fields.remove(first);
        return;
    }
    set(fields.entry(first.clone()).or_insert(Value::Null), rest, value);
}

impl Base {
    fn ty(&self) -> Type<'static> {
        let text = |field: &str| self.object[field].as_str().expect("a base says its kind");
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        Schema::builtin().of_kind(group, version, text("kind")).expect("a served kind")
    }

    /// Cases that create the base with one field at a limit of its type.
    pub fn made_creates(&self) -> Vec<Case> {
        self.made(&self.object, false, &boundaries)
    }

    /// Cases that change one field of the stored base.
    pub fn made_updates(&self, stored: &Value) -> Vec<Case> {
        self.made(stored, true, &changes)
    }

    fn made(&self, object: &Value, update: bool, values: &Values) -> Vec<Case> {
        let mut found = Vec::new();
        for field in self.ty().fields() {
            let name = field.name();
            let own = !(matches!(name, "apiVersion" | "kind" | "metadata") || update && name == "status");
            if own && (object.get(name).is_some() || !update && name != "status") {
                walk(field, name, object.get(name), values, &mut found);
            }
        }
        let skipped = |path: &str| self.skip.iter().any(|prefix| path.starts_with(prefix.as_str()));
        found.retain(|(path, _)| !skipped(path));
        found.into_iter().map(|(path, value)| Case::made(&self.name, update, &path, value)).collect()
    }
}

/// Values to try in the place of one; the field's type, and the value that is there.
type Values = dyn Fn(Type<'static>, Option<&Value>) -> Vec<Option<Value>>;

fn walk(
    field: Field<'static>,
    path: &str,
    value: Option<&Value>,
    values: &Values,
    found: &mut Vec<(String, Option<Value>)>,
) {
    visit(field.ty(), path, value, values, found);
}

fn visit(
    ty: Type<'static>,
    path: &str,
    value: Option<&Value>,
    values: &Values,
    found: &mut Vec<(String, Option<Value>)>,
) {
    found.extend(values(ty, value).into_iter().map(|value| (path.to_owned(), value)));
    match (ty.kind(), value) {
        (Kind::Struct, Some(Value::Object(fields))) => {
            for field in ty.fields() {
                walk(field, &format!("{path}.{}", field.name()), fields.get(field.name()), values, found);
            }
        }
        (Kind::List, Some(Value::Array(items))) => {
            let element = ty.element().expect("a list has an element");
            for (index, item) in items.iter().enumerate() {
                visit(element, &format!("{path}[{index}]"), Some(item), values, found);
            }
        }
        (Kind::Map, Some(Value::Object(entries))) => {
            let element = ty.element().expect("a map has an element");
            for (key, item) in entries {
                visit(element, &format!("{path}[{key}]"), Some(item), values, found);
            }
        }
        _ => {}
    }
}

/// Limits of a type, and the field's absence.
fn boundaries(ty: Type<'static>, value: Option<&Value>) -> Vec<Option<Value>> {
    let mut tried: Vec<Value> = match (ty.kind(), value) {
        (Kind::Struct, Some(_)) => vec![json!({})],
        (Kind::List, Some(Value::Array(items))) => {
            let doubled = items.first().map(|first| {
                let mut items = items.clone();
                items.push(first.clone());
                Value::Array(items)
            });
            doubled.into_iter().chain([json!([])]).collect()
        }
        (Kind::Map, Some(_)) => vec![json!({}), json!({"Bad Key!": if is_text(ty) { json!("-") } else { json!("1") }})],
        (Kind::String, Some(_)) => vec![json!(""), json!("Bad_Value!"), json!("a".repeat(300))],
        (Kind::String, None) => vec![json!("Bad Value!")],
        (Kind::Int32 | Kind::Int64, Some(_)) => vec![json!(-1), json!(0), json!(1), json!(i32::MAX)],
        (Kind::Int32 | Kind::Int64, None) => vec![json!(-1)],
        (Kind::Bool, Some(value)) => vec![json!(*value != json!(true))],
        (Kind::Bool, None) => vec![json!(true)],
        (Kind::Quantity, Some(_)) => vec![json!("-1"), json!("0"), json!("1500m")],
        (Kind::Quantity, None) => vec![json!("-1")],
        (Kind::IntOrString, Some(_)) => vec![json!(-1), json!(0), json!("101%"), json!("Bad!")],
        (Kind::IntOrString, None) => vec![json!(-1)],
        _ => Vec::new(),
    };
    tried.retain(|tried| Some(tried) != value);
    let mut tried: Vec<Option<Value>> = tried.into_iter().map(Some).collect();
    if value.is_some() {
        tried.push(None);
    }
    tried
}

fn is_text(map: Type<'static>) -> bool {
    map.element().is_some_and(|element| element.kind() == Kind::String)
}

/// Values that are most likely valid, but others.
fn changes(ty: Type<'static>, value: Option<&Value>) -> Vec<Option<Value>> {
    let other = match (ty.kind(), value) {
        (Kind::String, Some(Value::String(text))) => Some(json!(format!("{text}x"))),
        (Kind::Int32 | Kind::Int64, Some(Value::Number(number))) => Some(json!(number.as_i64().unwrap_or(0) + 1)),
        (Kind::Int32 | Kind::Int64, None) => Some(json!(1)),
        (Kind::Bool, value) => Some(json!(value != Some(&json!(true)))),
        (Kind::Quantity, Some(_)) => Some(json!("7")),
        (Kind::List, Some(Value::Array(items))) if !items.is_empty() => Some(Value::Array(items[1..].to_vec())),
        (Kind::Map, Some(_)) if is_text(ty) => Some(json!({"other": "value"})),
        _ => None,
    };
    let gone = value.map(|_| None);
    other.map(Some).into_iter().chain(gone).collect()
}
