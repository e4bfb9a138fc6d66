//! One operation of a path, with its parameters, body and answer.

use std::io::{self, Write};

use super::path::{Action, Operation, Path};
use super::writer::Writer;
use super::{Dialect, META, Served, definition};
use crate::resource::Resource;
use crate::schema::Kind;

/// Query parameters of reads and writes: name and type.
const LIST: [(&str, &str); 11] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("shardSelector", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: [(&str, &str); 3] = [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const DELETE: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const ENCODINGS: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAMS: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// Writes a path as a member of an open object.
pub(super) fn path<W: Write>(
    writer: &mut Writer<W>,
    dialect: Dialect,
    served: Served<'_>,
    resource: &Resource,
    path: &Path<'_>,
) -> io::Result<()> {
    writer.key(&path.template)?;
    writer.object(|writer| {
        for operation in &path.operations {
            writer.key(operation.method)?;
            writer.object(|writer| self::operation(writer, dialect, served, resource, path, operation))?;
        }
        writer.key("parameters")?;
        writer.array(|writer| {
            for (name, _) in
                [("name", path.named), ("namespace", path.namespaced), ("path", path.tail)].iter().filter(|part| part.1)
            {
                parameter(writer, dialect, name, "path", "string")?;
            }
            if path.operations.iter().all(|operation| operation.action == Action::Connect) {
                return Ok(());
            }
            parameter(writer, dialect, "pretty", "query", "string")
        })
    })
}

fn operation<W: Write>(
    writer: &mut Writer<W>,
    dialect: Dialect,
    served: Served<'_>,
    resource: &Resource,
    path: &Path<'_>,
    operation: &Operation<'_>,
) -> io::Result<()> {
    let (group, version, kind) = operation.kind;
    writer.field("operationId", &operation_id(resource, path, operation))?;
    writer.strings("tags", [&*tag(resource)])?;
    let action = operation.action;
    let (body, answer) = body_and_answer(served, resource, operation);
    if dialect == Dialect::V2 {
        let consumes: &[&str] = if action == Action::Patch { &PATCHES } else { &["*/*"] };
        writer.strings("consumes", consumes.iter().copied())?;
        writer
            .strings("produces", if action == Action::Connect { &["*/*"] } else { &ENCODINGS[..] }.iter().copied())?;
        writer.strings("schemes", ["https"])?;
    }
    writer.key("parameters")?;
    writer.array(|writer| {
        if let Some(body) = body.as_ref().filter(|_| dialect == Dialect::V2) {
            writer.object(|writer| {
                writer.field("in", "body")?;
                writer.field("name", "body")?;
                writer.key("required")?;
                writer.raw(if matches!(action, Action::Delete | Action::DeleteCollection) {
                    "false"
                } else {
                    "true"
                })?;
                schema(writer, dialect, body)
            })?;
        }
        let listed: &[&[(&str, &str)]] = match action {
            Action::List => &[&LIST],
            Action::Post | Action::Put => &[&WRITE],
            Action::Patch => &[&WRITE, &[("force", "boolean")]],
            Action::Delete => &[&DELETE],
            Action::DeleteCollection => &[&DELETE, &LIST[1..10]],
            Action::Get | Action::Connect => &[],
        };
        for (name, kind) in listed.iter().copied().flatten() {
            parameter(writer, dialect, name, "query", kind)?;
        }
        options(writer, dialect, served, path, operation)
    })?;
    if let Some(body) = body.filter(|_| dialect == Dialect::V3) {
        writer.key("requestBody")?;
        writer.object(|writer| {
            let types: &[&str] = if action == Action::Patch { &PATCHES } else { &["*/*"] };
            content(writer, dialect, types, &body)?;
            if !matches!(action, Action::Delete | Action::DeleteCollection) {
                writer.key("required")?;
                writer.raw("true")?;
            }
            Ok(())
        })?;
    }
    writer.key("responses")?;
    writer.object(|writer| {
        for (code, description) in codes(action) {
            writer.key(code)?;
            writer.object(|writer| {
                writer.field("description", description)?;
                match &answer {
                    Some(answer) if dialect == Dialect::V3 => {
                        let types = [&ENCODINGS[..], if action == Action::List { &STREAMS } else { &[] }].concat();
                        content(writer, dialect, &types, answer)
                    }
                    Some(answer) => schema(writer, dialect, answer),
                    None => Ok(()),
                }
            })?;
        }
        Ok(())
    })?;
    writer.field("x-kubernetes-action", action_name(action))?;
    writer.key("x-kubernetes-group-version-kind")?;
    definition::gvk(writer, group, version, kind)
}

/// The types of the body and the answer, by name.
fn body_and_answer(
    served: Served<'_>,
    resource: &Resource,
    operation: &Operation<'_>,
) -> (Option<String>, Option<String>) {
    let named = |group: &str, version: &str, kind: &str| {
        served.schema.of_kind(group, version, kind).map(|ty| ty.name().to_owned())
    };
    let (group, version, kind) = operation.kind;
    let own = named(group, version, kind);
    let meta = |name: &str| Some(format!("{META}{name}"));
    match operation.action {
        Action::Get => (None, own),
        Action::List => (None, named(group, version, &resource.list_kind)),
        Action::Post | Action::Put => (own.clone(), own),
        Action::Patch => (meta("Patch"), own),
        Action::Delete | Action::DeleteCollection => (meta("DeleteOptions"), meta("Status")),
        Action::Connect => (None, None),
    }
}

/// Subresources that are connected to take their options in the query.
fn options<W: Write>(
    writer: &mut Writer<W>,
    dialect: Dialect,
    served: Served<'_>,
    path: &Path<'_>,
    operation: &Operation<'_>,
) -> io::Result<()> {
    let (group, version, kind) = operation.kind;
    let kind = if path.subresource.is_some_and(|sub| sub.name == "log") { "PodLogOptions" } else { kind };
    if operation.action != Action::Connect && kind != "PodLogOptions" {
        return Ok(());
    }
    let Some(ty) = served.schema.of_kind(group, version, kind) else { return Ok(()) };
    for field in ty.fields().filter(|field| !matches!(field.name(), "kind" | "apiVersion")) {
        let kind = match field.ty().kind() {
            Kind::Bool => "boolean",
            Kind::Int32 | Kind::Int64 => "integer",
            // Upstream's documents do not show parameters that are structs in Go.
            Kind::Time => continue,
            _ => "string",
        };
        parameter(writer, dialect, field.name(), "query", kind)?;
    }
    Ok(())
}

fn parameter<W: Write>(
    writer: &mut Writer<W>,
    dialect: Dialect,
    name: &str,
    place: &str,
    kind: &str,
) -> io::Result<()> {
    writer.object(|writer| {
        writer.field("name", name)?;
        writer.field("in", place)?;
        if place == "path" {
            writer.key("required")?;
            writer.raw("true")?;
        }
        if dialect == Dialect::V3 {
            writer.key("schema")?;
            return writer.object(|writer| kind_of_parameter(writer, kind));
        }
        kind_of_parameter(writer, kind)
    })
}

fn kind_of_parameter<W: Write>(writer: &mut Writer<W>, kind: &str) -> io::Result<()> {
    writer.field("type", kind)?;
    writer.key("uniqueItems")?;
    writer.raw("true")
}

fn schema<W: Write>(writer: &mut Writer<W>, dialect: Dialect, name: &str) -> io::Result<()> {
    writer.key("schema")?;
    writer.object(|writer| writer.field("$ref", &dialect.reference(name)))
}

fn content<W: Write>(writer: &mut Writer<W>, dialect: Dialect, types: &[&str], name: &str) -> io::Result<()> {
    writer.key("content")?;
    writer.object(|writer| {
        for media in types {
            writer.key(media)?;
            writer.object(|writer| schema(writer, dialect, name))?;
        }
        Ok(())
    })
}

fn codes(action: Action) -> &'static [(&'static str, &'static str)] {
    const OK: (&str, &str) = ("200", "OK");
    const CREATED: (&str, &str) = ("201", "Created");
    const ACCEPTED: (&str, &str) = ("202", "Accepted");
    match action {
        Action::Post => &[OK, CREATED, ACCEPTED, ("401", "Unauthorized")],
        Action::Put | Action::Patch => &[OK, CREATED, ("401", "Unauthorized")],
        Action::Delete => &[OK, ACCEPTED, ("401", "Unauthorized")],
        _ => &[OK, ("401", "Unauthorized")],
    }
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Get => "get",
        Action::List => "list",
        Action::Post => "post",
        Action::Put => "put",
        Action::Patch => "patch",
        Action::Delete => "delete",
        Action::DeleteCollection => "deletecollection",
        Action::Connect => "connect",
    }
}

/// `apps_v1`, `core_v1`, `rbacAuthorization_v1`.
fn tag(resource: &Resource) -> String {
    let group = camel(&resource.group);
    let mut letters = group.chars();
    let group: String = letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect();
    format!("{group}_{}", resource.version)
}

/// `RbacAuthorization` of `rbac.authorization.k8s.io`.
fn camel(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group.trim_end_matches(".k8s.io") };
    group.split(['.', '-']).map(capital).collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// `patchAppsV1NamespacedDeploymentScale`.
fn operation_id(resource: &Resource, path: &Path<'_>, operation: &Operation<'_>) -> String {
    let verb = match operation.action {
        Action::Get => "read",
        Action::List => "list",
        Action::Post => "create",
        Action::Put => "replace",
        Action::Patch => "patch",
        Action::Delete | Action::DeleteCollection => "delete",
        Action::Connect => "connect",
    };
    let infix = match operation.action {
        Action::DeleteCollection => "Collection".to_owned(),
        Action::Connect => capital(operation.method),
        _ => String::new(),
    };
    let scope = if path.namespaced { "Namespaced" } else { "" };
    let everywhere = if resource.namespaced && !path.namespaced { "ForAllNamespaces" } else { "" };
    let sub = path.subresource.map(|sub| capital(&sub.name)).unwrap_or_default();
    let tail = if path.tail { "WithPath" } else { "" };
    format!(
        "{verb}{}{}{infix}{scope}{}{sub}{tail}{everywhere}",
        camel(&resource.group),
        capital(&resource.version),
        resource.kind
    )
}
