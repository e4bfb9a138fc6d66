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
    let token = format!("K10{}::server:{secret}", crypto::hex(&crypto::sha256(server_ca.as_bytes())));
    if stored.as_deref() != Some(&token) {
        write_private(path, format!("{token}\n").as_bytes())?;
    }
    Ok(token)
}

/// The part after the last colon of a full token; a bare secret is all secret.
fn secret_of(token: &str) -> &str {
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
    fn a_given_secret_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let token = open(&directory.path().join("token"), Some("mine:own"), "CA").unwrap();
        assert!(token.ends_with("::server:mine:own"), "{token}");
    }
}
