//! What `kubectl get` shows of an object: meta.k8s.io/v1 Table columns and cells, as data per kind.
//!
//! Upstream: pkg/printers/internalversion/printers.go. Kinds without columns of their own show name and creation time.

mod age;
mod autoscaler;
mod core;
mod event;
mod kinds;
mod machinery;
mod network;
mod pod;
mod workload;

use serde_json::{Value, json};

pub use age::{Now, human_duration};
pub use pod::conditions as row_conditions;

use crate::node::Node;
use crate::resource::Resource;

/// One column: its definition and where its cells come from.
struct Column {
    name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    kind: &'static str,
    format: &'static str,
    /// Shown with `-o wide` only.
    wide: bool,
    cell: Cell,
}

type Path = &'static [&'static str];

/// How a cell is read from a tree.
enum Cell {
    Text(Path),
    /// With what stands for an absent or empty text.
    TextOr(Path, &'static str),
    /// 0 where it is absent.
    Int(Path),
    /// With what an absent flag means.
    Bool(Path, bool),
    /// The number of elements or entries.
    Length(Path),
    /// How long ago a time was.
    Since(Path),
    Made(fn(Node<'_, '_>, &Now) -> Value),
}

const fn column(name: &'static str, kind: &'static str, cell: Cell) -> Column {
    Column { name, kind, format: "", wide: false, cell }
}

const fn text(name: &'static str, path: Path) -> Column {
    column(name, "string", Cell::Text(path))
}

const fn text_or(name: &'static str, path: Path, absent: &'static str) -> Column {
    column(name, "string", Cell::TextOr(path, absent))
}

const fn int(name: &'static str, path: Path) -> Column {
    column(name, "integer", Cell::Int(path))
}

const fn bool(name: &'static str, path: Path, absent: bool) -> Column {
    column(name, "boolean", Cell::Bool(path, absent))
}

const fn made(name: &'static str, cell: fn(Node<'_, '_>, &Now) -> Value) -> Column {
    column(name, "string", Cell::Made(cell))
}

impl Column {
    const fn wide(self) -> Column {
        Column { wide: true, ..self }
    }

    const fn of_type(self, kind: &'static str) -> Column {
        Column { kind, ..self }
    }

    fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": "",
            "priority": i32::from(self.wide),
        })
    }

    fn value(&self, tree: &Value, now: &Now) -> Value {
        let find = |path: Path| path.iter().try_fold(tree, |at, name| at.get(name)).filter(|value| !value.is_null());
        let written = |path: Path| find(path).and_then(Value::as_str).unwrap_or_default();
        match self.cell {
            Cell::Text(path) => written(path).into(),
            Cell::TextOr(path, absent) => match written(path) {
                "" => absent.into(),
                text => text.into(),
            },
            Cell::Int(path) => find(path).and_then(Value::as_i64).unwrap_or_default().into(),
            Cell::Bool(path, absent) => find(path).and_then(Value::as_bool).unwrap_or(absent).into(),
            Cell::Length(path) => match find(path) {
                Some(Value::Array(items)) => items.len().into(),
                Some(Value::Object(entries)) => entries.len().into(),
                _ => 0.into(),
            },
            Cell::Since(path) => age::since(written(path), now).into(),
            Cell::Made(cell) => cell(Node::root(tree), now),
        }
    }
}

const NAME: Column = Column { format: "name", ..text("Name", &["metadata", "name"]) };
const AGE: Column = column("Age", "string", Cell::Since(&["metadata", "creationTimestamp"]));
const FALLBACK: &[Column] = &[NAME, text("Created At", &["metadata", "creationTimestamp"]).of_type("date")];

fn columns(resource: &Resource) -> &'static [Column] {
    kinds::COLUMNS
        .iter()
        .find(|(group, kind, _)| *kind == resource.kind && *group == resource.group)
        .map_or(FALLBACK, |(.., columns)| columns)
}

/// Whether a Table without rows has an empty list of them: upstream's common converter, and that of definitions, has none.
pub fn lists_no_rows(resource: &Resource) -> bool {
    !std::ptr::eq(columns(resource), FALLBACK) && resource.kind != "CustomResourceDefinition"
}

/// `columnDefinitions` of the resource's Table.
pub fn definitions(resource: &Resource) -> Value {
    columns(resource).iter().map(Column::definition).collect()
}

/// `cells` of one row, one for each definition.
pub fn cells(resource: &Resource, tree: &Value, now: &Now) -> Value {
    columns(resource).iter().map(|column| column.value(tree, now)).collect()
}

/// Names joined as upstream does when there may be many: the first three and how many more.
fn some_of(names: &[String], total: usize) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    if total > SHOWN { format!("{shown} + {} more...", total - SHOWN) } else { shown }
}

/// A map of labels as `a=b,c=d`.
fn labels(node: Node<'_, '_>) -> String {
    let pairs: Vec<String> = node.entries().map(|(key, value)| format!("{key}={}", value.str())).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// A metav1.LabelSelector as one line.
fn label_selector(node: Node<'_, '_>) -> String {
    match crate::selector::LabelSelector::from_object(node.value()) {
        Ok(selector) if selector.requirements().is_empty() => "<none>".to_owned(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<error>".to_owned(),
    }
}

#[cfg(test)]
mod tests;
