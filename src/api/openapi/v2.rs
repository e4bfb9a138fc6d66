//! `/openapi/v2`: one document for everything.

pub mod protobuf;

use std::io::{self, Write};

use super::writer::Writer;
use super::{Dialect, Served, definition, operation, path};

/// Writes the document as JSON.
pub fn document(served: Served<'_>, out: impl Write) -> io::Result<()> {
    let versions = served.group_versions();
    let mut writer = Writer::new(out);
    writer.object(|writer| {
        writer.field("swagger", "2.0")?;
        writer.key("info")?;
        writer.raw(r#"{"title":"Kubernetes","version":"v1.37.2"}"#)?;
        writer.key("paths")?;
        writer.object(|writer| {
            for resource in served.resources {
                for path in path::of(resource) {
                    operation::path(writer, Dialect::V2, served, resource, &path)?;
                }
            }
            Ok(())
        })?;
        writer.key("definitions")?;
        writer.object(|writer| {
            for ty in served.types(None) {
                definition::write(writer, Dialect::V2, ty, &versions)?;
            }
            definition::scalars(writer, Dialect::V2)
        })?;
        writer.key("securityDefinitions")?;
        writer.raw(r#"{"BearerToken":{"type":"apiKey","name":"authorization","in":"header"}}"#)?;
        writer.key("security")?;
        writer.raw(r#"[{"BearerToken":[]}]"#)
    })
}
