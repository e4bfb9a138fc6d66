//! Which credentials a pod's pull secrets hold for an image
//! (upstream: pkg/credentialprovider/keyring.go, config.go; the secrets are docker's configuration files).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Deserialize;

use crate::proto::cri::AuthConfig;

/// `auths` of a `.dockerconfigjson`, or the whole of the older `.dockercfg`: by registry, with or without scheme and path.
type Entries = BTreeMap<String, Entry>;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    /// base64 of `username:password`, in place of both.
    auth: String,
}

/// The registry that an image without one comes from, as configuration files name it.
const DEFAULT: &str = "index.docker.io";

/// The credentials that fit the image, those for the longest path first. Secrets that cannot be read hold none.
pub fn matching(secrets: &[BTreeMap<String, Vec<u8>>], image: &str) -> Vec<AuthConfig> {
    let mut known: Vec<(String, AuthConfig)> = secrets.iter().flat_map(entries).collect();
    known.sort_by(|(one, _), (other, _)| other.cmp(one));
    let image = full_name(image);
    let of = |fits: &dyn Fn(&str) -> bool| -> Vec<AuthConfig> {
        known.iter().filter(|(key, _)| fits(key)).map(|(_, auth)| auth.clone()).collect()
    };
    let found = of(&|key| matches(key, &image));
    if found.is_empty() && image.starts_with("docker.io/") { of(&|key| key == DEFAULT) } else { found }
}

fn entries(secret: &BTreeMap<String, Vec<u8>>) -> Vec<(String, AuthConfig)> {
    #[derive(Deserialize)]
    struct Config {
        auths: Entries,
    }
    let entries = match (secret.get(".dockerconfigjson"), secret.get(".dockercfg")) {
        (Some(text), _) => serde_json::from_slice::<Config>(text).ok().map(|config| config.auths),
        (None, Some(text)) => serde_json::from_slice::<Entries>(text).ok(),
        (None, None) => None,
    };
    entries.unwrap_or_default().into_iter().map(|(registry, entry)| (key(&registry), entry.credentials())).collect()
}

impl Entry {
    fn credentials(self) -> AuthConfig {
        // With padding or without.
        let both = STANDARD_NO_PAD.decode(self.auth.trim().trim_end_matches('=')).ok();
        let both = both.and_then(|bytes| String::from_utf8(bytes).ok());
        let both = both.as_deref().and_then(|both| both.split_once(':'));
        let (username, password) = both.unwrap_or((&self.username, &self.password));
        AuthConfig { username: username.to_owned(), password: password.to_owned(), ..AuthConfig::default() }
    }
}

/// `https://index.docker.io/v1/` is `index.docker.io`: host, port and path, without the version of docker's interface.
fn key(registry: &str) -> String {
    let rest = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let path = path.strip_prefix("v1/").or_else(|| path.strip_prefix("v2/")).unwrap_or(path);
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// `*` stands for any part of a name between dots; ports are the same; the path begins with the key's.
fn matches(key: &str, image: &str) -> bool {
    let split = |text: &str| {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
        (name.to_owned(), port.to_owned(), path.to_owned())
    };
    let ((name, port, path), (of_image, image_port, image_path)) = (split(key), split(image));
    let (parts, image_parts): (Vec<&str>, Vec<&str>) = (name.split('.').collect(), of_image.split('.').collect());
    port == image_port
        && parts.len() == image_parts.len()
        && image_path.starts_with(&path)
        && parts.iter().zip(&image_parts).all(|(pattern, part)| glob(pattern, part))
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(index, _)| index).chain([text.len()]).any(|index| glob(rest, &text[index..]))
        }),
    }
}

/// Host and path without tag or digest: `docker.io/library/busybox` for `busybox:1.35`.
fn full_name(image: &str) -> String {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let image = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    match image.split_once('/') {
        None => format!("docker.io/library/{image}"),
        Some((DEFAULT, rest)) => format!("docker.io/{rest}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(config: &serde_json::Value, image: &str) -> Vec<String> {
        let secret = BTreeMap::from([(".dockerconfigjson".to_owned(), config.to_string().into_bytes())]);
        matching(&[secret], image).into_iter().map(|auth| format!("{}:{}", auth.username, auth.password)).collect()
    }

    #[test]
    fn the_longest_path_comes_first() {
        let config = serde_json::json!({"auths": {
            "https://registry.example.com/v2/": {"username": "a", "password": "1"},
            "registry.example.com/team": {"auth": STANDARD_NO_PAD.encode("b:2:3")},
            "*.example.org:5000": {"username": "c"},
            "https://index.docker.io/v1/": {"username": "d"},
        }});
        for (image, expected) in [
            ("registry.example.com/team/app:1.0", vec!["b:2:3", "a:1"]),
            ("registry.example.com/other@sha256:00", vec!["a:1"]),
            ("eu.example.org:5000/app", vec!["c:"]),
            ("eu.example.org/app", vec![]),
            ("a.b.example.org:5000/app", vec![]),
            ("busybox:1.35", vec!["d:"]),
            ("docker.io/library/busybox", vec!["d:"]),
            ("localhost:5000/app", vec![]),
        ] {
            assert_eq!(users(&config, image), expected, "{image}");
        }
    }
}
