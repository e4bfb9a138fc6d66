//! The paths of a resource and the operations that stand at each.

use crate::resource::{Resource, Subresource};

/// What an operation does, in the words of x-kubernetes-action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Get,
    List,
    Post,
    Put,
    Patch,
    Delete,
    DeleteCollection,
    Connect,
}

/// One operation: the HTTP method, and what it does with which kind.
pub(super) struct Operation<'a> {
    pub(super) method: &'static str,
    pub(super) action: Action,
    /// Group, version, kind.
    pub(super) kind: (&'a str, &'a str, &'a str),
}

/// One path with its operations.
pub(super) struct Path<'a> {
    pub(super) template: String,
    pub(super) namespaced: bool,
    pub(super) named: bool,
    /// A wild tail: proxies.
    pub(super) tail: bool,
    pub(super) subresource: Option<&'a Subresource>,
    pub(super) operations: Vec<Operation<'a>>,
}

/// All paths of a resource.
pub(super) fn of(resource: &Resource) -> Vec<Path<'_>> {
    let root = if resource.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", resource.group) };
    let root = format!("{root}/{}", resource.version);
    let base = if resource.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
    let collection = format!("{base}/{}", resource.plural);
    let kind = (&*resource.group, &*resource.version, &*resource.kind);
    let operations = |wanted: &[(&str, &'static str, Action)]| -> Vec<Operation<'_>> {
        let found = wanted.iter().filter(|(verb, ..)| resource.has_verb(verb));
        found.map(|(_, method, action)| Operation { method, action: *action, kind }).collect()
    };
    let path = |template: String, named, operations| Path {
        template,
        namespaced: resource.namespaced,
        named,
        tail: false,
        subresource: None,
        operations,
    };
    let mut paths = vec![
        path(
            collection.clone(),
            false,
            operations(&[
                ("list", "get", Action::List),
                ("create", "post", Action::Post),
                ("deletecollection", "delete", Action::DeleteCollection),
            ]),
        ),
        path(
            format!("{collection}/{{name}}"),
            true,
            operations(&[
                ("get", "get", Action::Get),
                ("update", "put", Action::Put),
                ("patch", "patch", Action::Patch),
                ("delete", "delete", Action::Delete),
            ]),
        ),
    ];
    if resource.namespaced {
        let everywhere = format!("{root}/{}", resource.plural);
        paths.push(Path { namespaced: false, ..path(everywhere, false, operations(&[("list", "get", Action::List)])) });
    }
    for sub in resource.subresources.iter() {
        paths.extend(of_subresource(&collection, resource, sub));
    }
    paths.retain(|path| !path.operations.is_empty());
    paths
}

fn of_subresource<'a>(collection: &str, resource: &Resource, sub: &'a Subresource) -> Vec<Path<'a>> {
    let kind = (&*sub.group, &*sub.version, &*sub.kind);
    let connects = sub.kind.ends_with("Options");
    let operations = || -> Vec<Operation<'a>> {
        // Proxies take every method, which discovery's verbs do not say.
        let more: &[&str] = if sub.name == "proxy" { &["head", "options"] } else { &[] };
        let verbs = sub.verbs.iter().map(|verb| &**verb).chain(more.iter().copied()).filter_map(|verb| {
            let (method, action) = match verb {
                "head" => ("head", Action::Connect),
                "options" => ("options", Action::Connect),
                "get" => ("get", Action::Get),
                "create" => ("post", Action::Post),
                "update" => ("put", Action::Put),
                "patch" => ("patch", Action::Patch),
                "delete" => ("delete", Action::Delete),
                _ => return None,
            };
            Some(Operation { method, action: if connects { Action::Connect } else { action }, kind })
        });
        verbs.collect()
    };
    // `proxy` alone and `proxy/{path}`.
    let (name, proxied) = (sub.name.as_ref(), sub.name == "proxy");
    let path = |template, tail| Path {
        template,
        namespaced: resource.namespaced,
        named: true,
        tail,
        subresource: Some(sub),
        operations: operations(),
    };
    let template = format!("{collection}/{{name}}/{name}");
    let mut paths = vec![path(template.clone(), false)];
    if proxied {
        paths.push(path(format!("{template}/{{path}}"), true));
    }
    paths
}
