//! `kubectl delete`: by name, label or file, until the objects are gone.

use std::process::ExitCode;

use coracle_api::Resource;
use coracle_client::path;
use http::Method;
use serde_json::{Value, json};

use super::line::Line;
use super::session::Session;
use super::target::{self, display};
use super::{manifest, wait};
use crate::Failure;

/// An object to delete.
struct Doomed {
    resource: Resource,
    namespace: String,
    name: String,
}

pub async fn run(session: &Session, line: &Line) -> Result<ExitCode, Failure> {
    let doomed = match line.values("filename") {
        [] => chosen(session, line).await?,
        files => manifest::read(files)?
            .into_iter()
            .map(|manifest| Doomed {
                namespace: manifest.namespace.unwrap_or_else(|| session.namespace.clone()),
                resource: manifest.resource,
                name: manifest.name,
            })
            .collect(),
    };
    let options = options(line)?;
    let mut failed = false;
    let mut waiting = Vec::new();
    for Doomed { resource, namespace, name } in doomed {
        let target = path::object(&resource, &namespace, &name);
        match session.send(Method::DELETE, &target, "application/json", &options).await {
            Ok(answer) => {
                let scope = if resource.namespaced { format!(" from {namespace} namespace") } else { String::new() };
                let how = if line.is_set("force") { "force deleted" } else { "deleted" };
                println!("{} {name:?} {how}{scope}", target::display(&resource, "").trim_end_matches('/'));
                let uid = answer["metadata"]["uid"].as_str().or(answer["details"]["uid"].as_str());
                waiting.push((target, uid.unwrap_or_default().to_owned()));
            }
            Err(error) if line.is_set("ignore-not-found") && error.to_string().contains("(NotFound)") => {}
            Err(error) => {
                failed = true;
                eprintln!("{}: {error}", display(&resource, &name));
            }
        }
    }
    if line.value("wait") != Some("false") {
        for (target, uid) in waiting {
            wait::gone(session, &target, &uid).await?;
        }
    }
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// The objects that words and selectors name.
async fn chosen(session: &Session, line: &Line) -> Result<Vec<Doomed>, Failure> {
    let mut doomed = Vec::new();
    let selector = line.value("selector").unwrap_or_default();
    for target in target::parse(&line.words)? {
        let resource = target.resource;
        if !target.names.is_empty() {
            let of = |name| Doomed { resource: resource.clone(), namespace: session.namespace.clone(), name };
            doomed.extend(target.names.into_iter().map(of));
            continue;
        }
        if selector.is_empty() && !line.is_set("all") {
            return Err(Failure::usage(
                "resource(s) were provided, but no name was specified: name them, or use -l or --all",
            ));
        }
        let namespace = (!line.is_set("all-namespaces")).then_some(session.namespace.as_str());
        let request = target::collection(&resource, namespace, &[("labelSelector", selector)]);
        let list = session.get(&request, "application/json").await?;
        for item in list["items"].as_array().into_iter().flatten() {
            let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
            doomed.push(Doomed { resource: resource.clone(), namespace: text("namespace"), name: text("name") });
        }
    }
    Ok(doomed)
}

fn options(line: &Line) -> Result<Value, Failure> {
    let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
    let grace = match line.value("grace-period") {
        Some(text) => {
            Some(text.parse::<i64>().map_err(|_| Failure::usage(format!("--grace-period {text}: not seconds")))?)
        }
        None if line.is_set("force") => Some(0),
        None if line.is_set("now") => Some(1),
        None => None,
    };
    if let Some(grace) = grace.filter(|grace| *grace >= 0) {
        options["gracePeriodSeconds"] = json!(grace);
    }
    Ok(options)
}
