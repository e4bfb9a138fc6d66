//! metav1.ListOptions from a query, checked as upstream checks them.
//!
//! Upstream: k8s.io/apimachinery pkg/apis/meta/internalversion/validation.

use std::time::Duration;

use coracle_api::object::Meta;
use coracle_api::selector::{FieldSelector, LabelSelector};
use coracle_api::{Causes, Object, Resource, Status};

use coracle_store::Scope;

use crate::call::Call;
use crate::convert;
use crate::registry::partition;

/// Which objects of a resource a request is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chosen {
    /// `""` for all namespaces.
    pub namespace: String,
    pub namespaced: bool,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// The newest there is.
    Latest,
    /// Anything: also the newest, which costs nothing here.
    Any,
    NotOlderThan(u64),
    Exact(u64),
}

pub struct ListOptions {
    pub chosen: Chosen,
    pub age: Age,
    /// 0 for no limit.
    pub limit: usize,
    pub continue_token: Option<String>,
    pub send_initial_events: Option<bool>,
    pub bookmarks: bool,
    pub timeout: Option<Duration>,
}

impl Chosen {
    /// 400 for selectors that cannot be read.
    pub fn parse(call: &Call, resource: &Resource) -> Result<Self, Status> {
        let labels = call.query.get("labelSelector").unwrap_or_default();
        let fields = call.query.get("fieldSelector").unwrap_or_default();
        // A watch of one name by its path.
        let name = if call.info.is_collection() { call.info.name.as_str() } else { "" };
        if !name.is_empty() && fields.is_empty() {
            return Self::new(resource, &call.info.namespace, labels, &format!("metadata.name={name}"));
        }
        let chosen = Self::new(resource, &call.info.namespace, labels, fields)?;
        if !name.is_empty() && chosen.fields.exact("metadata.name") != Some(name) {
            return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        Ok(chosen)
    }

    pub fn new(resource: &Resource, namespace: &str, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = match labels {
            "" => LabelSelector::everything(),
            text => LabelSelector::parse(text).map_err(Status::bad_request)?,
        };
        let fields = match fields {
            "" => FieldSelector::everything(),
            // What is cut out of an object is cut out of its stored version.
            text => FieldSelector::parse(&convert::field_selector(resource, text), &partition::stored(resource))
                .map_err(Status::bad_request)?,
        };
        let namespace = if resource.namespaced { namespace.to_owned() } else { String::new() };
        Ok(Self { namespace, namespaced: resource.namespaced, labels, fields })
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.matches_meta(object.meta())
    }

    pub fn matches_meta(&self, meta: &Meta) -> bool {
        (self.namespace.is_empty() || *meta.namespace == *self.namespace)
            && (self.fields.is_everything() || self.fields.matches(meta))
            && (self.labels.is_everything() || self.labels.matches(&*meta.labels))
    }

    /// Whether the selectors take every object.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Which changes can concern it: the narrowest that the store knows.
    pub fn scope(&self) -> Scope {
        let name = self.fields.exact("metadata.name");
        match (name, self.fields.exact("spec.nodeName")) {
            (Some(name), _) if !self.namespaced => Scope::Name(name.into()),
            (Some(name), _) if !self.namespace.is_empty() => Scope::Name(format!("{}/{name}", self.namespace).into()),
            (_, Some(node)) if !node.is_empty() => Scope::Index(node.into()),
            _ if self.namespace.is_empty() => Scope::All,
            _ => Scope::Namespace(self.namespace.as_str().into()),
        }
    }

    /// What keys of the chosen objects begin with.
    pub fn prefix(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) }
    }
}

/// The query's resourceVersion; an error is upstream's message for what is no number.
pub fn revision(call: &Call) -> Result<Option<u64>, String> {
    let Some(text) = call.query.get("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")
    })
}

impl ListOptions {
    pub fn parse(call: &Call, resource: &Resource) -> Result<Self, Status> {
        let query = &call.query;
        let watch = call.info.verb == "watch";
        let given = query.get("resourceVersion");
        let mut matching = query.get("resourceVersionMatch");
        let mut send_initial_events = query.optional_flag("sendInitialEvents");
        let continue_token = query.get("continue").map(str::to_owned);
        // Upstream: SetListOptionsDefaults.
        if watch && send_initial_events.is_none() && matching.is_none() && matches!(given, None | Some("0")) {
            send_initial_events = Some(true);
            matching = Some("NotOlderThan");
        }
        let limit = query.number::<i64>("limit")?.filter(|&limit| limit > 0).unwrap_or(0) as usize;
        let timeout = query.number::<i64>("timeoutSeconds")?.filter(|&seconds| seconds > 0);
        let causes = match watch {
            true => check_watch(matching, send_initial_events, continue_token.is_some()),
            false => check_list(matching, given, send_initial_events, continue_token.is_some()),
        };
        causes.into_result(("meta.k8s.io", "ListOptions"), "")?;
        let chosen = Chosen::parse(call, resource)?;
        let revision = match revision(call) {
            // Watches say so in their own way.
            Err(_) if watch => None,
            revision => revision.map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?,
        };
        let age = match (revision, matching) {
            (None, _) => Age::Latest,
            (Some(0), _) => Age::Any,
            (Some(revision), Some("Exact")) => Age::Exact(revision),
            // The first page of a limited list has always been exact.
            (Some(revision), None) if limit > 0 && !watch => Age::Exact(revision),
            (Some(revision), _) => Age::NotOlderThan(revision),
        };
        // What may be of any age comes whole, as from upstream's cache.
        let limit = if age == Age::Any && continue_token.is_none() { 0 } else { limit };
        Ok(Self {
            chosen,
            age,
            limit,
            continue_token,
            send_initial_events,
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout: timeout.map(|seconds| Duration::from_secs(seconds as u64)),
        })
    }
}

const CONTINUED: &str = "resourceVersionMatch is forbidden when continue is provided";

fn check_list(
    matching: Option<&str>,
    revision: Option<&str>,
    send_initial_events: Option<bool>,
    continued: bool,
) -> Causes {
    let mut causes = Causes::new();
    if let Some(matching) = matching {
        const PATH: &str = "resourceVersionMatch";
        if revision.is_none() {
            causes.forbidden(PATH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if continued {
            causes.forbidden(PATH, CONTINUED);
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            causes.not_supported(PATH, matching, &["Exact", "NotOlderThan", ""]);
        }
        if matching == "Exact" && revision == Some("0") {
            causes.forbidden(PATH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
    }
    if send_initial_events.is_some() {
        causes.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    causes
}

fn check_watch(matching: Option<&str>, send_initial_events: Option<bool>, continued: bool) -> Causes {
    const PATH: &str = "resourceVersionMatch";
    let mut causes = Causes::new();
    if send_initial_events.is_some() && matching != Some("NotOlderThan") {
        causes.forbidden(PATH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if let Some(matching) = matching {
        if send_initial_events.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.forbidden(PATH, why);
        }
        if matching != "NotOlderThan" {
            causes.not_supported(PATH, matching, &["NotOlderThan"]);
        }
        if continued {
            causes.forbidden(PATH, CONTINUED);
        }
    }
    causes
}
