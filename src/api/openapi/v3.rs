//! `/openapi/v3`: an index with a hash per group version, and one document for each.

use std::io::{self, Write};

use super::writer::Writer;
use super::{Dialect, Served, definition, hash, operation, path};

/// `api/v1`, `apis/apps/v1`: the key in the index and the path behind `/openapi/v3/`.
pub fn key(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Group and version of a key.
pub fn parse_key(key: &str) -> Option<(&str, &str)> {
    match key.strip_prefix("apis/") {
        Some(rest) => rest.split_once('/').filter(|(_, version)| !version.contains('/')),
        None => key.strip_prefix("api/").filter(|version| !version.contains('/')).map(|version| ("", version)),
    }
}

/// The hash of a group version's document, for the `hash` parameter and the ETag. It writes the whole document:
/// callers keep it as long as the catalog does not change.
pub fn document_hash(served: Served<'_>, group: &str, version: &str) -> String {
    hash(|hasher| document(served, group, version, hasher))
}

/// Writes the index. `hash` gives what `document_hash` gave.
pub fn index(served: Served<'_>, hash: impl Fn(&str, &str) -> String, out: impl Write) -> io::Result<()> {
    let mut writer = Writer::new(out);
    writer.object(|writer| {
        writer.key("paths")?;
        writer.object(|writer| {
            for (group, version) in served.group_versions() {
                let key = key(group, version);
                let hash = hash(group, version);
                writer.key(&key)?;
                writer.object(|writer| writer.field("serverRelativeURL", &format!("/openapi/v3/{key}?hash={hash}")))?;
            }
            Ok(())
        })
    })
}

/// Writes the document of one group version.
pub fn document(served: Served<'_>, group: &str, version: &str, out: impl Write) -> io::Result<()> {
    let versions = served.group_versions();
    let mut writer = Writer::new(out);
    writer.object(|writer| {
        writer.field("openapi", "3.0.0")?;
        writer.key("info")?;
        writer.raw(r#"{"title":"Kubernetes","version":"v1.37.2"}"#)?;
        writer.key("paths")?;
        writer.object(|writer| {
            for resource in served.resources.iter().filter(|row| row.group == group && row.version == version) {
                for path in path::of(resource) {
                    operation::path(writer, Dialect::V3, served, resource, &path)?;
                }
            }
            Ok(())
        })?;
        writer.key("components")?;
        writer.object(|writer| {
            writer.key("schemas")?;
            writer.object(|writer| {
                for ty in served.types(Some((group, version))) {
                    definition::write(writer, Dialect::V3, ty, &versions)?;
                }
                definition::scalars(writer, Dialect::V3)
            })?;
            writer.key("securitySchemes")?;
            writer.raw(r#"{"BearerToken":{"type":"apiKey","name":"authorization","in":"header"}}"#)
        })
    })
}
