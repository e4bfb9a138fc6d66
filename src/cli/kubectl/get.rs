//! `kubectl get`: the server's tables, or the objects themselves.

use std::io::Write;
use std::process::ExitCode;

use coracle_client::path;
use futures::AsyncReadExt;
use serde_json::{Value, json};

use super::line::Line;
use super::manifest;
use super::session::Session;
use super::target::{self, Target};
use crate::Failure;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

pub async fn run(session: &Session, line: &Line) -> Result<ExitCode, Failure> {
    if let Some(target) = line.value("raw") {
        return raw(session, target).await;
    }
    let targets = match line.values("filename") {
        [] => target::parse(&line.words)?,
        files => manifest::targets(files)?,
    };
    match line.value("output") {
        None | Some("wide") => tables(session, line, &targets).await,
        Some(form @ ("yaml" | "json" | "name")) => objects(session, line, &targets, form).await,
        Some(other) => Err(Failure::usage(format!("output {other:?} is not built in: use wide, yaml, json or name"))),
    }
}

/// What the server answers at this path, as it is.
async fn raw(session: &Session, target: &str) -> Result<ExitCode, Failure> {
    let mut body = Vec::new();
    session.stream(target).await?.read_to_end(&mut body).await?;
    std::io::stdout().write_all(&body)?;
    Ok(ExitCode::SUCCESS)
}

/// The requests of a target: one per name, or one for the collection.
fn requests(session: &Session, line: &Line, target: &Target) -> Vec<String> {
    let namespace = (!line.is_set("all-namespaces")).then_some(session.namespace.as_str());
    let selectors = [
        ("labelSelector", line.value("selector").unwrap_or_default()),
        ("fieldSelector", line.value("field-selector").unwrap_or_default()),
    ];
    if target.names.is_empty() {
        return vec![target::collection(&target.resource, namespace, &selectors)];
    }
    target.names.iter().map(|name| path::object(&target.resource, &session.namespace, name)).collect()
}

async fn tables(session: &Session, line: &Line, targets: &[Target]) -> Result<ExitCode, Failure> {
    let (mut found, mut failed) = (false, false);
    for target in targets {
        let mut table = Table::default();
        for request in requests(session, line, target) {
            match session.get(&request, TABLE).await {
                Ok(answer) => table.add(&answer, line.value("output") == Some("wide")),
                Err(error) => {
                    failed |= !(line.is_set("ignore-not-found") && error.to_string().contains("(NotFound)"));
                    if failed {
                        eprintln!("{error}");
                    }
                }
            }
        }
        if table.rows.is_empty() {
            continue;
        }
        if std::mem::replace(&mut found, true) {
            println!();
        }
        let shown = Shown {
            namespaces: line.is_set("all-namespaces") && target.resource.namespaced,
            headers: !line.is_set("no-headers"),
            labels: line.is_set("show-labels"),
            prefix: (targets.len() > 1).then(|| target::display(&target.resource, "")),
        };
        print!("{}", table.render(&shown));
    }
    if !found && !failed {
        match line.is_set("all-namespaces") || targets.iter().all(|target| !target.resource.namespaced) {
            true => eprintln!("No resources found"),
            false => eprintln!("No resources found in {} namespace.", session.namespace),
        }
    }
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

async fn objects(session: &Session, line: &Line, targets: &[Target], form: &str) -> Result<ExitCode, Failure> {
    let mut items = Vec::new();
    let mut only_one = targets.len() == 1;
    for target in targets {
        only_one &= target.names.len() == 1;
        for request in requests(session, line, target) {
            let mut answer = session.get(&request, "application/json").await?;
            match answer.get_mut("items").map(Value::take) {
                Some(Value::Array(list)) => items.extend(list.into_iter().map(|mut item| {
                    // Items of a typed list do not say what they are.
                    item["apiVersion"] = json!(target.resource.api_version());
                    item["kind"] = json!(&*target.resource.kind);
                    (target, item)
                })),
                _ => items.push((target, answer)),
            }
        }
    }
    if form == "name" {
        for (target, item) in &items {
            println!("{}", target::display(&target.resource, item["metadata"]["name"].as_str().unwrap_or_default()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
    for item in &mut items {
        if let Some(metadata) = item["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
    }
    let whole = match (only_one, items.len()) {
        (true, 1) => items.remove(0),
        _ => json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": items }),
    };
    match form {
        "json" => println!("{}", serde_json::to_string_pretty(&whole)?),
        _ => print!("{}", serde_yaml::to_string(&whole)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Rows of the server's tables for one resource.
#[derive(Default)]
struct Table {
    headers: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    namespace: String,
    labels: String,
    cells: Vec<String>,
}

struct Shown {
    namespaces: bool,
    headers: bool,
    labels: bool,
    /// Put before the names where several types are shown.
    prefix: Option<String>,
}

impl Table {
    /// Columns with a priority are for wide output.
    fn add(&mut self, answer: &Value, wide: bool) {
        let none = Vec::new();
        let columns = answer["columnDefinitions"].as_array().unwrap_or(&none);
        let shown: Vec<usize> =
            (0..columns.len()).filter(|&index| wide || columns[index]["priority"].as_i64().unwrap_or(0) == 0).collect();
        if self.headers.is_empty() {
            self.headers = shown.iter().map(|&index| text(&columns[index]["name"]).to_uppercase()).collect();
        }
        for row in answer["rows"].as_array().unwrap_or(&none) {
            let metadata = &row["object"]["metadata"];
            let labels = metadata["labels"].as_object().into_iter().flatten();
            let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={}", text(value))).collect();
            self.rows.push(Row {
                namespace: text(&metadata["namespace"]),
                labels: if labels.is_empty() { "<none>".to_owned() } else { labels.join(",") },
                cells: shown.iter().map(|&index| text(&row["cells"][index])).collect(),
            });
        }
    }

    fn render(&self, shown: &Shown) -> String {
        let mut lines: Vec<Vec<String>> = Vec::with_capacity(self.rows.len() + 1);
        if shown.headers {
            let namespace = shown.namespaces.then(|| "NAMESPACE".to_owned());
            let labels = shown.labels.then(|| "LABELS".to_owned());
            lines.push(namespace.into_iter().chain(self.headers.iter().cloned()).chain(labels).collect());
        }
        for row in &self.rows {
            let mut cells = row.cells.clone();
            if let (Some(prefix), Some(name)) = (&shown.prefix, cells.first_mut()) {
                name.insert_str(0, prefix);
            }
            let namespace = shown.namespaces.then(|| row.namespace.clone());
            lines.push(namespace.into_iter().chain(cells).chain(shown.labels.then(|| row.labels.clone())).collect());
        }
        let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut output = String::new();
        for line in &lines {
            let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            output.push_str(padded.join("   ").trim_end());
            output.push('\n');
        }
        output
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.lines().next().unwrap_or_default().to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_padded_and_wide_columns_hidden() {
        let answer = json!({
            "columnDefinitions": [{ "name": "Name", "priority": 0 }, { "name": "Ready", "priority": 0 }, { "name": "IP", "priority": 1 }],
            "rows": [
                { "cells": ["a", "1/1", "10.0.0.1"], "object": { "metadata": { "namespace": "web", "labels": { "x": "y" } } } },
                { "cells": ["long-name", 2, null], "object": { "metadata": { "namespace": "web" } } },
            ],
        });
        let render = |wide, shown: Shown| {
            let mut table = Table::default();
            table.add(&answer, wide);
            table.render(&shown)
        };
        let plain = Shown { namespaces: false, headers: true, labels: false, prefix: None };
        assert_eq!(render(false, plain), "NAME        READY\na           1/1\nlong-name   2\n");
        let full = Shown { namespaces: true, headers: false, labels: true, prefix: Some("pod/".to_owned()) };
        assert_eq!(
            render(true, full),
            "web   pod/a           1/1   10.0.0.1   x=y\nweb   pod/long-name   2                <none>\n"
        );
    }
}
