//! The token that a page ends with: the list's revision and the key at which the next page begins.
//!
//! Upstream: k8s.io/apiserver pkg/storage/continue.go; the same JSON in base64url, so that tools which peek understand it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_api::Status;
use serde::{Deserialize, Serialize};

const VERSION: &str = "meta.k8s.io/v1";

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Continuation {
    pub revision: u64,
    /// The last key of the page before.
    pub after: String,
}

impl Continuation {
    pub fn encode(&self) -> String {
        let start = format!("{}\0", self.after);
        let token = Token { v: VERSION.to_owned(), rv: self.revision as i64, start };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("strings and a number"))
    }

    pub fn decode(text: &str) -> Result<Self, Status> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| {
            let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
            let place = text.find(|character| !legal(character)).unwrap_or(0);
            let why = format!("illegal base64 data at input byte {place}");
            Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        })?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        let token = token.filter(|token| token.v == VERSION && token.rv > 0 && !token.start.is_empty());
        let Some(token) = token else {
            return Err(Status::bad_request("continue key is not valid: not made by this server"));
        };
        let after = token.start.strip_suffix('\0').unwrap_or(&token.start).to_owned();
        Ok(Self { revision: token.rv as u64, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_rubbish_does_not() {
        let continuation = Continuation { revision: 7, after: "default/web".to_owned() };
        assert_eq!(Continuation::decode(&continuation.encode()).unwrap(), continuation);
        for rubbish in ["", "%%%", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ"] {
            assert_eq!(Continuation::decode(rubbish).unwrap_err().code, 400, "{rubbish}");
        }
    }
}
