//! What words like `pods`, `deploy/nginx` or `svc,ep web` name.

use coracle_api::Resource;
use coracle_base::url;
use coracle_client::path;

use crate::Failure;
use crate::nearest::hint;

/// A resource, and the names of some of its objects; all of them when there are none.
#[derive(Debug)]
pub struct Target {
    pub resource: Resource,
    pub names: Vec<String>,
}

/// `TYPE[,TYPE] [NAME]...` or `TYPE/NAME...`.
pub fn parse(words: &[String]) -> Result<Vec<Target>, Failure> {
    let Some((first, names)) = words.split_first() else {
        return Err(Failure::usage("say which resource, as `pods` or `deployment/nginx`"));
    };
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| {
                let (kind, name) = word
                    .split_once('/')
                    .ok_or_else(|| Failure::usage(format!("{word:?} is not TYPE/NAME, as the other words are")))?;
                Ok(Target { resource: resource(kind)?, names: vec![name.to_owned()] })
            })
            .collect();
    }
    let kinds = if first == "all" { ALL } else { first };
    kinds.split(',').map(|kind| Ok(Target { resource: resource(kind)?, names: names.to_vec() })).collect()
}

/// The category `all`, as upstream fills it.
const ALL: &str = "pods,replicationcontrollers,services,daemonsets.apps,deployments.apps,replicasets.apps,\
                   statefulsets.apps,horizontalpodautoscalers.autoscaling,cronjobs.batch,jobs.batch";

/// A plural, singular, short name or kind, with `.group` where it is not clear.
pub fn resource(word: &str) -> Result<Resource, Failure> {
    let lower = word.to_lowercase();
    let (name, group) = lower.split_once('.').map_or((lower.as_str(), None), |(name, group)| (name, Some(group)));
    let matches = |resource: &Resource| {
        let named = *resource.plural == *name
            || *resource.singular == *name
            || resource.kind.to_lowercase() == name
            || resource.short_names.iter().any(|short| **short == *name);
        named && group.is_none_or(|group| *resource.group == *group) && resource.has_verb("get")
    };
    Resource::all().find(matches).ok_or_else(|| {
        let plurals: Vec<Resource> = Resource::all().filter(|resource| resource.has_verb("get")).collect();
        let names = plurals.iter().map(|resource| &*resource.plural);
        Failure::usage(format!("the server doesn't have a resource type {word:?}{}", hint(name, names, "")))
    })
}

/// `deployment.apps/nginx`
pub fn display(resource: &Resource, name: &str) -> String {
    let dot = if resource.group.is_empty() { "" } else { "." };
    format!("{}{dot}{}/{name}", resource.singular, resource.group)
}

/// The path of the collection, with a query of the parameters that are not empty.
pub fn collection(resource: &Resource, namespace: Option<&str>, parameters: &[(&str, &str)]) -> String {
    with_query(path::collection(resource, namespace), parameters)
}

pub fn with_query(path: String, parameters: &[(&str, &str)]) -> String {
    let parameters = parameters.iter().filter(|(_, value)| !value.is_empty());
    let query: Vec<String> = parameters.map(|(name, value)| format!("{name}={}", url::encode(value))).collect();
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> String {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let targets = parse(&words).unwrap();
        targets
            .iter()
            .map(|target| format!("{} [{}]", target.resource.plural, target.names.join(" ")))
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn words_name_resources() {
        assert_eq!(targets("po"), "pods []");
        assert_eq!(targets("Deployment.apps nginx web"), "deployments [nginx web]");
        assert_eq!(targets("svc,deploy"), "services [], deployments []");
        assert_eq!(targets("pod/a svc/b"), "pods [a], services [b]");
        assert!(targets("all").starts_with("pods [], replicationcontrollers []"));
    }

    #[test]
    fn wrong_types_name_the_nearest() {
        let error = resource("deploymnet").unwrap_err().to_string();
        assert_eq!(error, "the server doesn't have a resource type \"deploymnet\": did you mean deployments?");
        assert!(parse(&["pod/a".to_owned(), "b".to_owned()]).is_err());
    }
}
