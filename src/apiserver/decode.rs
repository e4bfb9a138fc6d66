//! From a request's body to the normal, defaulted tree that rules work on.
//!
//! Upstream: k8s.io/apiserver pkg/endpoints/handlers/{create,rest}.go.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use coracle_api::codec::{self, Decoded, TypeMeta};
use coracle_api::object::Encoding;
use coracle_api::schema::{Schema, Type};
use coracle_api::{Causes, Resource, Status, defaults};
use http::header;
use serde_json::Value;

use crate::call::Call;
use crate::failure;
use crate::negotiate::MEDIA_TYPES;

/// A kind as a path expects it.
pub struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

impl Expected<'_> {
    fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl<'a> From<&'a Resource> for Expected<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self { group: &resource.group, version: &resource.version, kind: &resource.kind }
    }
}

/// Decodes and defaults a body that holds an object of `resource`'s kind.
pub fn resource(call: &mut Call, body: &Bytes, resource: &Resource) -> Result<Value, Status> {
    let mut tree = object(call, body, &Expected::from(resource))?;
    default(resource, &mut tree)?;
    Ok(tree)
}

/// Decodes a body that holds an object of the kind.
pub fn object(call: &mut Call, body: &Bytes, expected: &Expected<'_>) -> Result<Value, Status> {
    let encoding = encoding(call)?;
    let kind = expected.kind;
    let meta = codec::type_meta(encoding, body).map_err(|error| {
        let start: String = match body.is_empty() {
            true => "<empty>".to_owned(),
            false => String::from_utf8_lossy(body).chars().take(30).collect(),
        };
        Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {error} ({start})"))
    })?;
    check_kind(&meta, expected)?;
    let schema = Schema::builtin();
    let ty = schema.of_kind(expected.group, expected.version, kind).ok_or_else(failure::no_schema)?;
    let decoded = codec::decode(ty, encoding, body).map_err(|error| unreadable(expected, &error))?;
    let mut tree = strict(call, decoded).map_err(|status| unreadable(expected, &status.message))?;
    tree["kind"] = kind.into();
    tree["apiVersion"] = expected.api_version().into();
    Ok(tree)
}

/// DeleteOptions, which clients send under any group version, or none.
pub fn delete_options(call: &Call, body: &Bytes) -> Result<Value, Status> {
    let encoding = encoding(call)?;
    let unreadable = |error: codec::DecodeError| Status::bad_request(error.to_string());
    let meta = codec::type_meta(encoding, body).map_err(unreadable)?;
    if !matches!(meta.kind.as_str(), "" | "DeleteOptions") {
        return Err(Status::bad_request(unregistered(&meta)));
    }
    let ty = Schema::builtin().find("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    Ok(codec::decode(ty.ok_or_else(failure::no_schema)?, encoding, body).map_err(unreadable)?.value)
}

/// Makes a tree normal again that a patch was applied to, and defaults it. `breaches` are those of the patch itself, and
/// `shown` is what a refusal calls invalid.
pub fn patched(
    call: &mut Call,
    tree: &Value,
    resource: &Resource,
    breaches: &[String],
    shown: impl Fn(&Value) -> String,
) -> Result<Value, Status> {
    let invalid = |why: String| {
        let mut causes = Causes::new();
        causes.invalid("patch", shown(tree), why);
        Status::invalid(("", ""), "", &causes)
    };
    let text = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or_default();
    let meta = TypeMeta { api_version: text("apiVersion").to_owned(), kind: text("kind").to_owned() };
    let expected = Expected::from(resource);
    if meta.kind != expected.kind || meta.api_version != expected.api_version() {
        return Err(invalid(unexpected(&meta, &expected)));
    }
    let mut decoded = codec::normalise(type_of(resource)?, tree).map_err(|error| invalid(error.to_string()))?;
    decoded.strict.splice(0..0, breaches.iter().cloned());
    let mut tree = strict(call, decoded).map_err(|status| invalid(status.message))?;
    default(resource, &mut tree)?;
    Ok(tree)
}

/// Makes a tree normal that apply has merged, and defaults it.
pub fn normalise(tree: &Value, resource: &Resource) -> Result<Value, Status> {
    let mut tree = codec::normalise(type_of(resource)?, tree).map_err(Status::internal)?.value;
    default(resource, &mut tree)?;
    Ok(tree)
}

/// Why a patched object is of the wrong type.
fn unexpected(meta: &TypeMeta, expected: &Expected<'_>) -> String {
    match codec::type_of(Schema::builtin(), meta) {
        None => unregistered(meta),
        Some(_) => {
            let (_, version) = meta.group_version();
            let package = expected.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
            format!("converting ({version}.{}) to ({package}.{}): unknown conversion", meta.kind, expected.kind)
        }
    }
}

/// The rules of the kind, then the defaults of its fields.
fn default(resource: &Resource, tree: &mut Value) -> Result<(), Status> {
    if resource.kind == "Secret" && resource.group.is_empty() {
        fold_string_data(tree);
    }
    defaults::apply(resource, tree);
    defaults::apply_table_defaults(type_of(resource)?, tree);
    Ok(())
}

/// `stringData` is only written: it becomes `data`. Upstream: pkg/apis/core/v1/conversion.go.
fn fold_string_data(secret: &mut Value) {
    let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|fields| fields.remove("stringData")) else {
        return;
    };
    for (key, text) in texts {
        secret["data"][key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
    }
}

pub fn type_of(resource: &Resource) -> Result<Type<'static>, Status> {
    resource.ty(Schema::builtin()).ok_or_else(failure::no_schema)
}

/// The encoding of the body, by Content-Type.
pub fn encoding(call: &Call) -> Result<Encoding, Status> {
    let content_type = call.header(header::CONTENT_TYPE);
    match content_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" | "*/*" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => Err(Status::unsupported_media_type(&MEDIA_TYPES)),
    }
}

fn unreadable(expected: &Expected<'_>, error: &dyn std::fmt::Display) -> Status {
    let Expected { version, kind, .. } = expected;
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
}

/// What `fieldValidation` makes of breaches of strictness: nothing, warnings (the default), or a 400.
fn strict(call: &mut Call, decoded: Decoded) -> Result<Value, Status> {
    if !decoded.strict.is_empty() {
        match call.query.get("fieldValidation") {
            Some("Ignore") => {}
            Some("Strict") => {
                return Err(Status::bad_request(format!("strict decoding error: {}", decoded.strict.join(", "))));
            }
            _ => decoded.strict.into_iter().for_each(|text| call.warn(text)),
        }
    }
    Ok(decoded.value)
}

/// Upstream's words, which name a place in its source.
fn unregistered(meta: &TypeMeta) -> String {
    format!(
        "no kind {:?} is registered for version {:?} in scheme \"pkg/runtime/scheme.go:111\"",
        meta.kind, meta.api_version
    )
}

/// Type facts may be left out: then the path says what it is.
fn check_kind(meta: &TypeMeta, expected: &Expected<'_>) -> Result<(), Status> {
    let api_version = expected.api_version();
    if !meta.kind.is_empty() && meta.kind != expected.kind {
        let (_, version) = meta.group_version();
        let why = unexpected(meta, expected);
        return Err(Status::bad_request(format!(
            "{} in version {version:?} cannot be handled as a {}: {why}",
            meta.kind, expected.kind
        )));
    }
    if !meta.api_version.is_empty() && meta.api_version != api_version {
        if codec::type_of(Schema::builtin(), meta).is_none() {
            let (_, version) = meta.group_version();
            let kind = expected.kind;
            let why = unregistered(meta);
            return Err(Status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
            )));
        }
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({api_version})",
            meta.api_version
        )));
    }
    Ok(())
}
