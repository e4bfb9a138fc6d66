//! `as=Table`: the columns that clients print, computed here.

use coracle_api::columns::Now;
use coracle_api::object::forms::{Form, FormKind, Made};
use coracle_api::{Object, Resource, Status, columns};
use jiff::Timestamp;
use serde_json::Value;

use crate::call::Call;
use crate::encode;
use crate::view::{ListMeta, metadata_object};

/// What a row shows of its object besides the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    /// The query's `includeObject`; 400 for what it cannot be.
    pub fn parse(call: &Call) -> Result<Self, Status> {
        match call.query.get("includeObject") {
            None | Some("Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::Nothing),
            Some("Object") => Ok(Include::Object),
            Some(other) => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
                 'Object', 'None', or empty"
            ))),
        }
    }
}

/// A Table up to its rows.
pub fn head(meta: &ListMeta, definitions: &Value) -> String {
    format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{},\"columnDefinitions\":{definitions},\"rows\":[",
        meta.json()
    )
}

/// The objects of rows are copied, never encoded again.
pub fn push_row(text: &mut Vec<u8>, resource: &Resource, object: &Object, include: Include) -> Result<(), Status> {
    text.push(b'{');
    text.extend_from_slice(&cells(resource, object)?);
    match include {
        Include::Nothing => text.extend_from_slice(b",\"object\":null"),
        Include::Metadata => {
            text.extend_from_slice(b",\"object\":");
            text.extend_from_slice(&metadata_object(object.json()));
        }
        Include::Object => {
            text.extend_from_slice(b",\"object\":");
            text.extend_from_slice(&encode::json(resource, object)?);
        }
    }
    text.push(b'}');
    Ok(())
}

/// `"cells":[..]`, and `"conditions"` where the row has some; kept with the object until an age in it changes.
fn cells(resource: &Resource, object: &Object) -> Result<bytes::Bytes, Status> {
    object.form(Form { resource: resource.clone(), kind: FormKind::Row }, || {
        let json = encode::json(resource, object)?;
        let tree: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
        let now = Now::new(Timestamp::now());
        let mut text = format!("\"cells\":{}", columns::cells(resource, &tree, &now));
        if &*resource.plural == "pods"
            && let Some(conditions) = columns::row_conditions(&tree)
        {
            text.push_str(&format!(",\"conditions\":{conditions}"));
        }
        Ok(Made { bytes: text.into(), until: (now.until() < Timestamp::MAX).then(|| now.until()) })
    })
}
