//! The token with which nodes and servers join: `K10<SHA-256 of the server CA>::server:<secret>`, which pins the CA.

use std::path::Path;

use coracle_base::crypto;

use crate::data_directory::{read_optional, write_private};
use crate::error::Error;

/// The secret in `path`, made on first start; `given` (the whole token or its secret alone) must agree with it.
pub fn open(path: &Path, given: Option<&str>, server_ca: &str) -> Result<String, Error> {
    let stored = read_optional(path)?.map(|text| text.trim().to_owned());
    let secret = match (stored.as_deref().map(secret_of), given.map(secret_of)) {
        (Some(stored), Some(given)) if !crypto::secrets_equal(stored.as_bytes(), given.as_bytes()) => {
            return Err(Error::Token { path: path.to_owned() });
        }
        (Some(secret), _) | (None, Some(secret)) => secret.to_owned(),
        (None, None) => crypto::random_hex::<16>(),
    };
    let token = format!("K10{}::server:{secret}", authority_hash(server_ca));
    if stored.as_deref() != Some(&token) {
        write_private(path, format!("{token}\n").as_bytes())?;
    }
    Ok(token)
}

/// What a join token says: which authority to trust, and what to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the server CA's PEM text, hex.
    pub authority: String,
    /// Shown as a bearer token.
    pub credential: String,
}

impl JoinToken {
    /// Reads `K10<hash>::<user>:<secret>` or `K10<hash>::<id>.<secret>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (authority, _) = text.strip_prefix("K10")?.split_once("::")?;
        let hash = authority.len() == 64 && authority.bytes().all(|byte| byte.is_ascii_hexdigit());
        let credential = secret_of(text).to_owned();
        (hash && !credential.is_empty()).then(|| Self { authority: authority.to_lowercase(), credential })
    }

    /// Whether `pem` is the authority that the token means.
    pub fn trusts(&self, pem: &str) -> bool {
        crypto::secrets_equal(authority_hash(pem).as_bytes(), self.authority.as_bytes())
    }
}

/// The hash by which tokens name an authority.
pub fn authority_hash(pem: &str) -> String {
    crypto::hex(&crypto::sha256(pem.as_bytes()))
}

/// The part after the last colon of a full token; a bare secret is all secret.
pub fn secret_of(token: &str) -> &str {
    match token.strip_prefix("K10").and_then(|rest| rest.split_once("::")) {
        Some((_, user)) => user.split_once(':').map_or(user, |(_, secret)| secret),
        None => token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_follows_the_authority() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let token = open(&path, None, "CA").unwrap();
        assert_eq!(open(&path, None, "CA").unwrap(), token);
        assert_eq!(open(&path, Some(&token), "CA").unwrap(), token);
        assert_eq!(open(&path, Some(secret_of(&token)), "CA").unwrap(), token);
        let other = open(&path, None, "another CA").unwrap();
        assert_eq!((secret_of(&other), other == token), (secret_of(&token), false));
        assert!(matches!(open(&path, Some("wrong"), "CA"), Err(Error::Token { .. })));
    }

    #[test]
    fn a_join_token_pins_its_authority() {
        let token = JoinToken::parse(&format!("K10{}::server:abc", authority_hash("CA"))).unwrap();
        assert_eq!((token.credential.as_str(), token.trusts("CA"), token.trusts("CB")), ("abc", true, false));
        let bootstrap = JoinToken::parse(&format!("K10{}::abcdef.0123456789abcdef", authority_hash("CA"))).unwrap();
        assert_eq!(bootstrap.credential, "abcdef.0123456789abcdef");
        for rubbish in ["", "K10", "secret", "K10abc::server:x", &format!("K10{}::server:", "0".repeat(64))] {
            assert_eq!(JoinToken::parse(rubbish), None, "{rubbish}");
        }
    }

    #[test]
    fn a_given_secret_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let token = open(&directory.path().join("token"), Some("mine:own"), "CA").unwrap();
        assert!(token.ends_with("::server:mine:own"), "{token}");
    }
}
