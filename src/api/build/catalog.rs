//! Writes the static rows of the catalog from the resource table.

use std::fmt::Write;

/// Rust source of `CATALOG`.
pub fn generate(table: &str) -> Result<String, String> {
    let mut rows = Vec::new();
    for (number, line) in table.lines().enumerate() {
        let bad = || format!("resources.txt, line {}: {line}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        } else if let Some(rest) = line.strip_prefix("resource ") {
            rows.push(RowText::new(rest).ok_or_else(bad)?);
        } else {
            let row = rows.last_mut().ok_or_else(bad)?;
            let words: Vec<&str> = line.trim_start().split(' ').collect();
            match words.as_slice() {
                ["verbs", verbs] => row.verbs = list(verbs),
                ["select", label, path] => {
                    row.selectable.push(format!("({}, {})", text(label), list(&path.replace('.', ","))));
                }
                ["sub", name, kind, verbs] => row.subresources.push(subresource(name, kind, verbs).ok_or_else(bad)?),
                _ => return Err(bad()),
            }
        }
    }
    let mut source = format!("static CATALOG: [Row; {}] = [\n", rows.len());
    for row in &rows {
        let _ = writeln!(
            source,
            "Row {{ {}, verbs: {}, subresources: Cow::Borrowed(&[{}]), selectable: Cow::Borrowed(&[{}]) }},",
            row.head,
            row.verbs,
            row.subresources.join(", "),
            row.selectable.join(", ")
        );
    }
    source.push_str("];\n");
    Ok(source)
}

struct RowText {
    head: String,
    verbs: String,
    subresources: Vec<String>,
    selectable: Vec<String>,
}

impl RowText {
    fn new(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut id = words.next()?.split('/');
        let (group, version, plural) = (id.next()?, id.next()?, id.next()?);
        let (mut kind, mut singular, mut type_name) = ("", "", "");
        let (mut short, mut categories, mut namespaced, mut storage) = ("", "", false, (group, version));
        for word in words {
            match word.split_once('=') {
                None if word == "namespaced" => namespaced = true,
                Some(("kind", value)) => kind = value,
                Some(("singular", value)) => singular = value,
                Some(("type", value)) => type_name = value,
                Some(("short", value)) => short = value,
                Some(("categories", value)) => categories = value,
                Some(("storage", value)) => storage = value.split_once('/')?,
                _ => return None,
            }
        }
        let head = format!(
            "group: {}, version: {}, kind: {}, list_kind: {}, plural: {}, singular: {}, type_name: {}, namespaced: {namespaced}, \
             short_names: {}, categories: {}, storage: ({}, {})",
            text(group),
            text(version),
            text(kind),
            text(&format!("{kind}List")),
            text(plural),
            text(singular),
            text(type_name),
            list(short),
            list(categories),
            text(storage.0),
            text(storage.1),
        );
        Some(Self { head, verbs: list(""), subresources: Vec::new(), selectable: Vec::new() })
    }
}

fn subresource(name: &str, kind: &str, verbs: &str) -> Option<String> {
    let mut parts = kind.split('/');
    Some(format!(
        "Subresource {{ name: {}, group: {}, version: {}, kind: {}, verbs: {} }}",
        text(name),
        text(parts.next()?),
        text(parts.next()?),
        text(parts.next()?),
        list(verbs)
    ))
}

fn text(text: &str) -> String {
    format!("Cow::Borrowed({text:?})")
}

fn list(items: &str) -> String {
    let items: Vec<String> = items.split(',').filter(|item| !item.is_empty()).map(text).collect();
    format!("Cow::Borrowed(&[{}])", items.join(", "))
}
