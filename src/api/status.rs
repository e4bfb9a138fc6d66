//! Every error that a client may see: metav1.Status with upstream's codes, reasons and causes.
//!
//! Upstream: k8s.io/apimachinery pkg/api/errors/errors.go.

use coracle_base::url::NotANumber;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::causes::Causes;
use crate::quoting::quote;
use crate::resource::Resource;

/// A failed request. `code` and `reason` are what client libraries branch on. Serialises as the whole
/// metav1.Status document; reads back from one (see `Status::parse`).
#[derive(Debug, Clone, PartialEq, thiserror::Error, Deserialize)]
#[error("{message}")]
#[serde(default)]
pub struct Status {
    pub code: u16,
    /// `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, ...
    pub reason: String,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// `metadata.continue`: where a list whose revision is too old may go on.
    #[serde(skip)]
    pub continuation: String,
}

/// metav1.StatusDetails.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural resource for most errors, the kind for `Invalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// metav1.StatusCause: one broken rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `spec.containers[0].image`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// A resource as errors name it: `deployments.apps`, `pods`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupResource<'a> {
    pub group: &'a str,
    pub resource: &'a str,
}

/// A kind as errors name it: `Deployment.apps`, `Pod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupKind<'a> {
    pub group: &'a str,
    pub kind: &'a str,
}

impl<'a> From<&'a Resource> for GroupResource<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self { group: &resource.group, resource: &resource.plural }
    }
}

impl<'a> From<(&'a str, &'a str)> for GroupResource<'a> {
    fn from((group, resource): (&'a str, &'a str)) -> Self {
        Self { group, resource }
    }
}

impl<'a> From<&'a Resource> for GroupKind<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self { group: &resource.group, kind: &resource.kind }
    }
}

impl<'a> From<(&'a str, &'a str)> for GroupKind<'a> {
    fn from((group, kind): (&'a str, &'a str)) -> Self {
        Self { group, kind }
    }
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        dotted(formatter, self.resource, self.group)
    }
}

impl std::fmt::Display for GroupKind<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        dotted(formatter, self.kind, self.group)
    }
}

fn dotted(formatter: &mut std::fmt::Formatter<'_>, name: &str, group: &str) -> std::fmt::Result {
    if group.is_empty() { formatter.write_str(name) } else { write!(formatter, "{name}.{group}") }
}

impl Status {
    /// An error without details.
    pub fn plain(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: None, continuation: String::new() }
    }

    fn of(code: u16, reason: &str, resource: GroupResource<'_>, name: &str, message: String) -> Self {
        Self::plain(code, reason, message).with_details(Details {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.resource.to_owned(),
            ..Details::default()
        })
    }

    fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Sets `details.retryAfterSeconds`, which the server also sends as the Retry-After header.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// Sets `details.uid`.
    pub fn with_uid(mut self, uid: &str) -> Self {
        self.details.get_or_insert_default().uid = uid.to_owned();
        self
    }

    pub fn not_found<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        let resource = resource.into();
        Self::of(404, "NotFound", resource, name, format!("{resource} {} not found", quote(name)))
    }

    /// The path names nothing that is served.
    pub fn no_such_path() -> Self {
        Self::plain(404, "NotFound", "the server could not find the requested resource")
            .with_details(Details::default())
    }

    pub fn already_exists<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        let resource = resource.into();
        Self::of(409, "AlreadyExists", resource, name, format!("{resource} {} already exists", quote(name)))
    }

    /// No free name was found for `generateName`.
    pub fn generate_name_conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str, retry_after: u32) -> Self {
        let resource = resource.into();
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        Self::of(409, "AlreadyExists", resource, name, message).retry_after(retry_after)
    }

    /// `reason` is shown to the user; empty for upstream's `not authorized`.
    pub fn unauthorized(reason: &str) -> Self {
        Self::plain(401, "Unauthorized", if reason.is_empty() { "not authorized" } else { reason })
    }

    /// `resource` with an empty plural for requests that are about no resource, `name` empty for collections.
    pub fn forbidden<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: impl std::fmt::Display) -> Self {
        let resource = resource.into();
        let message = if resource.resource.is_empty() && resource.group.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {} is forbidden: {why}", quote(name))
        };
        Self::of(403, "Forbidden", resource, name, message)
    }

    pub fn conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: impl std::fmt::Display) -> Self {
        let resource = resource.into();
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name));
        Self::of(409, "Conflict", resource, name, message)
    }

    /// The conflict of an optimistic update, in the registry's words.
    pub fn modified<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// Server-side apply met fields of other managers.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        Self::plain(409, "Conflict", message).with_details(Details { causes, ..Details::default() })
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::plain(410, "Gone", message)
    }

    /// A resourceVersion or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::plain(410, "Expired", message)
    }

    pub fn invalid<'a>(kind: impl Into<GroupKind<'a>>, name: &str, causes: &Causes) -> Self {
        let kind = kind.into();
        let message = match causes.is_empty() {
            true => format!("{kind} {} is invalid", quote(name)),
            false => format!("{kind} {} is invalid: {}", quote(name), causes.aggregate()),
        };
        Self::plain(422, "Invalid", message).with_details(Details {
            name: name.to_owned(),
            group: kind.group.to_owned(),
            kind: kind.kind.to_owned(),
            causes: causes.to_status_causes(),
            ..Details::default()
        })
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(400, "BadRequest", message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after: u32) -> Self {
        Self::plain(429, "TooManyRequests", message).retry_after(retry_after)
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::plain(503, "ServiceUnavailable", message)
    }

    /// `action` is the verb: `delete`, `patch`.
    pub fn method_not_supported<'a>(resource: impl Into<GroupResource<'a>>, action: &str) -> Self {
        let resource = resource.into();
        let message = format!("{action} is not supported on resources of kind {}", quote(&resource.to_string()));
        Self::of(405, "MethodNotAllowed", resource, "", message)
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::plain(406, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::plain(415, "UnsupportedMediaType", message)
    }

    pub fn request_entity_too_large(message: impl std::fmt::Display) -> Self {
        Self::plain(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// A passing fault; the client should try again.
    pub fn server_timeout<'a>(resource: impl Into<GroupResource<'a>>, operation: &str, retry_after: u32) -> Self {
        let resource = resource.into();
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::of(500, "ServerTimeout", resource, operation, message).retry_after(retry_after)
    }

    /// The operation may still complete.
    pub fn timeout(message: impl std::fmt::Display, retry_after: u32) -> Self {
        Self::plain(504, "Timeout", format!("Timeout: {message}")).retry_after(retry_after)
    }

    pub fn internal(error: impl std::fmt::Display) -> Self {
        let cause = Cause { message: error.to_string(), ..Cause::default() };
        Self::plain(500, "InternalError", format!("Internal error occurred: {error}"))
            .with_details(Details { causes: vec![cause], ..Details::default() })
    }

    /// The document of a request that succeeded and has no object to show. `code` is left out by deletes.
    pub fn success(code: Option<u16>, details: Option<Details>) -> Value {
        let mut document = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
        let fields = document.as_object_mut().expect("made as an object above");
        if let Some(details) = details {
            fields.insert("details".to_owned(), json!(details));
        }
        if let Some(code) = code {
            fields.insert("code".to_owned(), json!(code));
        }
        document
    }

    /// Reads an error document; `None` when the bytes are no failed metav1.Status.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head<'a> {
            kind: &'a str,
            #[serde(default)]
            status: &'a str,
        }
        let head: Head<'_> = serde_json::from_slice(bytes).ok()?;
        (head.kind == "Status" && head.status != "Success").then(|| serde_json::from_slice(bytes).ok())?
    }

    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    pub fn is_expired(&self) -> bool {
        self.reason == "Expired" || self.reason == "Gone"
    }
}

impl From<NotANumber> for Status {
    fn from(NotANumber { text, .. }: NotANumber) -> Self {
        let digits = text.trim_start_matches(['+', '-']);
        let is_large = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let why = if is_large { "value out of range" } else { "invalid syntax" };
        Self::bad_request(format!("strconv.ParseInt: parsing {}: {why}", quote(&text)))
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::plain(500, "", "")
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("Status", 8)?;
        document.serialize_field("kind", "Status")?;
        document.serialize_field("apiVersion", "v1")?;
        document.serialize_field("metadata", &Metadata { continuation: &self.continuation })?;
        document.serialize_field("status", "Failure")?;
        if !self.message.is_empty() {
            document.serialize_field("message", &self.message)?;
        }
        if !self.reason.is_empty() {
            document.serialize_field("reason", &self.reason)?;
        }
        if let Some(details) = &self.details {
            document.serialize_field("details", details)?;
        }
        document.serialize_field("code", &self.code)?;
        document.end()
    }
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "continue", skip_serializing_if = "str::is_empty")]
    continuation: &'a str,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
