//! Services: addresses and node ports, committed with the Service so that none is handed out twice.

use coracle_api::Status;
use coracle_store::Op;
use serde_json::Value;

use crate::registry::{Registry, Stored};

pub fn prepare_update(_new: &mut Value, _old: &Value, _subresource: &str) {}

pub fn beside(_: &Registry, _old: Option<&Value>, _new: Option<&mut Value>) -> Result<Vec<Op<Stored>>, Status> {
    Ok(Vec::new())
}
