//! In which form and encoding a client wants its answer, from the Accept header.
//!
//! Upstream: k8s.io/apiserver pkg/endpoints/handlers/negotiation/negotiate.go.

use coracle_api::Status;
use coracle_api::object::Encoding;

/// Objects as they are, or one of the transformations that any client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    /// PartialObjectMetadata.
    Metadata,
    MetadataList,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub encoding: Encoding,
    pub form: Form,
}

pub const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The first clause that can be served, by quality and then by position; 406 when none can. `forms` says whether the
/// answer is an object or a list, for which Table and PartialObjectMetadata make sense.
pub fn accepted(accept: &str, forms: bool) -> Result<Accepted, Status> {
    let json = Accepted { encoding: Encoding::Json, form: Form::Object };
    if accept.is_empty() || accept == "application/json" || accept == "*/*" {
        return Ok(json);
    }
    let mut best: Option<(f32, Accepted)> = None;
    let mut known = false;
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let encoding = match parts.next().unwrap_or_default() {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
            _ => continue,
        };
        known = true;
        let (mut quality, mut form, mut version, mut group) = (1.0, None, "", "");
        for part in parts {
            match part.split_once('=').unwrap_or((part, "")) {
                ("q", value) => quality = value.parse().unwrap_or(1.0),
                ("as", value) => form = Some(value),
                ("v", value) => version = value,
                ("g", value) => group = value,
                _ => {}
            }
        }
        let form = match form {
            None => Form::Object,
            Some(_) if !forms || group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") => continue,
            Some("Table") => Form::Table,
            Some("PartialObjectMetadata") => Form::Metadata,
            Some("PartialObjectMetadataList") => Form::MetadataList,
            Some(_) => continue,
        };
        if best.is_none_or(|(least, _)| quality > least) {
            best = Some((quality, Accepted { encoding, form }));
        }
    }
    best.map(|(_, accepted)| accepted).ok_or_else(|| match known {
        true => Status::not_acceptable(&MEDIA_TYPES),
        false => not_acceptable(&MEDIA_TYPES),
    })
}

/// What a watch is sent as.
pub const STREAMED: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// 406 for a client that takes no encoding at all, before anything is looked at. Collections can be streamed, too.
pub fn check(accept: &str, is_collection: bool) -> Result<(), Status> {
    let known = |clause: &str| {
        let media_type = clause.split(';').next().unwrap_or_default().trim();
        MEDIA_TYPES.contains(&media_type) || matches!(media_type, "*/*" | "application/*")
    };
    if accept.is_empty() || accept.split(',').any(known) {
        return Ok(());
    }
    let streamed: &[&str] = if is_collection { &STREAMED } else { &[] };
    Err(not_acceptable(&[&MEDIA_TYPES[..], streamed].concat()))
}

/// As upstream's router says it.
fn not_acceptable(available: &[&str]) -> Status {
    let message = format!("406: Not Acceptable\n\nAvailable representations: {}", available.join(", "));
    let mut status = Status::plain(406, "NotAcceptable", message);
    status.details = Some(Box::default());
    status
}

/// The Content-Type of an answer that is no watch.
pub fn media_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Yaml => "application/yaml",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_clause_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (accept, encoding, form) in [
            ("", Encoding::Json, Form::Object),
            (kubectl, Encoding::Json, Form::Table),
            ("application/vnd.kubernetes.protobuf, */*", Encoding::Protobuf, Form::Object),
            ("application/json;q=0.5, application/yaml", Encoding::Yaml, Form::Object),
            ("text/html, application/json", Encoding::Json, Form::Object),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                Encoding::Protobuf,
                Form::MetadataList,
            ),
            ("application/json;as=Table;g=other;v=v1,application/json", Encoding::Json, Form::Object),
        ] {
            assert_eq!(accepted(accept, true).unwrap(), Accepted { encoding, form }, "{accept}");
        }
        assert_eq!(accepted("text/html", true).unwrap_err().code, 406);
        assert_eq!(accepted("application/json;as=Table;g=meta.k8s.io;v=v1", false).unwrap_err().code, 406);
    }
}
