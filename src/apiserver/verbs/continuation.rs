//! The token that a page ends with: the list's revision and the key at which the next page begins.
//!
//! Upstream: k8s.io/apiserver pkg/storage/continue.go; the same JSON in base64url, so that tools which peek understand it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_api::Status;
use coracle_api::codec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const VERSION: &str = "meta.k8s.io/v1";
/// In place of a revision: the rest of the list as it is now.
const LATEST: i64 = -1;

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Continuation {
    /// `None` goes on with what is there now.
    pub revision: Option<u64>,
    /// The last name of the page before: below the list's namespace, if it has one.
    pub after: String,
}

impl Continuation {
    pub fn encode(&self) -> String {
        let start = format!("{}\0", self.after);
        let rv = self.revision.map_or(LATEST, |revision| revision as i64);
        let token = Token { v: VERSION.to_owned(), rv, start };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("strings and a number"))
    }

    pub fn decode(text: &str) -> Result<Self, Status> {
        let invalid =
            |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid{why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| {
            let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
            let place = text.find(|character| !legal(character)).unwrap_or(0);
            invalid(&format!(": illegal base64 data at input byte {place}"))
        })?;
        // Go's own words for what is no JSON.
        codec::json::check(&bytes).map_err(|error| invalid(&format!(": {error}")))?;
        let tree: Value = serde_json::from_slice(&bytes).map_err(|error| invalid(&format!(": {error}")))?;
        let Value::Object(mut fields) = tree else {
            let kind = codec::json::described(&tree);
            return Err(invalid(&format!(
                ": json: cannot unmarshal {kind} into Go value of type storage.continueToken"
            )));
        };
        let version = fields.remove("v").and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        if version != VERSION {
            return Err(invalid(&format!(": server does not recognize this encoded version {version}")));
        }
        let start = fields.remove("start").and_then(|start| start.as_str().map(str::to_owned)).unwrap_or_default();
        let revision = match fields.get("rv").and_then(Value::as_i64).unwrap_or(0) {
            0 => return Err(invalid(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
            // Upstream takes every negative one for the latest.
            ..0 => None,
            revision => Some(revision as u64),
        };
        if start.is_empty() {
            return Err(invalid(": encoded start key empty (version meta.k8s.io/v1)"));
        }
        let relative = start.strip_prefix('/').unwrap_or(&start);
        if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid(&format!(": {start}")));
        }
        Ok(Self { revision, after: relative.strip_suffix('\0').unwrap_or(relative).to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_rubbish_does_not() {
        for revision in [Some(7), None] {
            let continuation = Continuation { revision, after: "default/web".to_owned() };
            assert_eq!(Continuation::decode(&continuation.encode()).unwrap(), continuation);
        }
        for rubbish in ["", "%%%", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ"] {
            assert_eq!(Continuation::decode(rubbish).unwrap_err().code, 400, "{rubbish}");
        }
    }
}
