//! From the JSON that is stored to the other encodings.

use bytes::{Bytes, BytesMut};
use coracle_api::Status;
use coracle_api::object::Encoding;
use serde_json::Value;

pub fn from_json(json: &Bytes, encoding: Encoding) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Json => Ok(json.clone()),
        Encoding::Yaml => {
            let tree: Value = serde_json::from_slice(json).map_err(Status::internal)?;
            serde_yaml::to_string(&tree).map(Bytes::from).map_err(Status::internal)
        }
        Encoding::Protobuf => Err(Status::not_acceptable(&["application/json", "application/yaml"])),
    }
}

/// One event of a watch whose stream is not JSON.
pub fn watch_event(kind: &str, json: &[u8], encoding: Encoding, frame: &mut BytesMut) {
    if encoding == Encoding::Yaml {
        let object: Value = serde_json::from_slice(json).unwrap_or_default();
        let event = serde_json::json!({ "type": kind, "object": object });
        frame.extend_from_slice(b"---\n");
        frame.extend_from_slice(serde_yaml::to_string(&event).unwrap_or_default().as_bytes());
    }
}
