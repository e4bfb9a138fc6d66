//! `registries.yaml`: mirrors, credentials and TLS of registries, in k3s' form, made into containerd's own
//! (docs.k3s.io/installation/private-registry; containerd docs/hosts.md, docs/cri/registry.md).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::config::string;

/// The whole file. By registry, `*` for all that are not named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, Config>,
}

/// Where a registry's images are had instead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mirror {
    /// Base URLs, asked one after the other before the registry itself.
    endpoint: Vec<String>,
    rewrite: BTreeMap<String, String>,
}

/// How a registry, or a mirror, is spoken with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    auth: Option<Credentials>,
    tls: Option<Tls>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub auth: String,
    pub identity_token: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    ca_file: String,
    cert_file: String,
    key_file: String,
    insecure_skip_verify: bool,
}

impl Registries {
    /// A file that is not there says nothing.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let text = if text.trim().is_empty() { "{}" } else { &text };
        let registries: Self = serde_yaml::from_str(text).map_err(|error| io::Error::other(error.to_string()))?;
        for (name, _) in registries.mirrors.iter().filter(|(_, mirror)| !mirror.rewrite.is_empty()) {
            tracing::warn!(registry = name, "rewrites of names are not done: they need k3s' own containerd");
        }
        Ok(registries)
    }

    /// Credentials by host, for containerd's configuration file.
    pub fn credentials(&self) -> impl Iterator<Item = (&str, &Credentials)> {
        self.configs.iter().filter_map(|(host, config)| Some((host.as_str(), config.auth.as_ref()?)))
    }

    /// Replaces `directory` by a directory of `hosts.toml` files; containerd reads them at each pull.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(directory)?,
        }
        let with_tls = self.configs.iter().filter(|(_, config)| config.tls.is_some()).map(|(host, _)| host);
        let names: BTreeSet<&String> = self.mirrors.keys().chain(with_tls).collect();
        for name in names {
            let own = directory.join(if name == "*" { "_default" } else { name });
            std::fs::create_dir_all(&own)?;
            std::fs::write(own.join("hosts.toml"), self.hosts(name))?;
        }
        Ok(())
    }

    fn hosts(&self, name: &str) -> String {
        let mut text = String::from("# Written by coracle at every start; changes are lost.\n");
        let host = if name == "docker.io" { "registry-1.docker.io" } else { name };
        if name != "*" {
            let _ = writeln!(text, "server = {}", string(&format!("https://{host}")));
        }
        let mirrors = self.mirrors.get(name).into_iter().flat_map(|mirror| &mirror.endpoint);
        let endpoints = mirrors.map(|endpoint| match endpoint.contains("://") {
            true => endpoint.clone(),
            false => format!("https://{endpoint}"),
        });
        // The registry itself comes last; it is named where there is something to say of it.
        let own = (name != "*" && self.tls(name).is_some()).then(|| format!("https://{host}"));
        for endpoint in endpoints.chain(own) {
            let _ = writeln!(text, "\n[host.{}]\ncapabilities = [\"pull\", \"resolve\"]", string(&endpoint));
            let host = endpoint.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
            if let Some(tls) = self.tls(host).or_else(|| self.tls(name)) {
                tls.write(&mut text);
            }
        }
        text
    }

    fn tls(&self, host: &str) -> Option<&Tls> {
        self.configs.get(host)?.tls.as_ref()
    }
}

impl Tls {
    fn write(&self, text: &mut String) {
        if !self.ca_file.is_empty() {
            let _ = writeln!(text, "ca = {}", string(&self.ca_file));
        }
        if !self.cert_file.is_empty() {
            let _ = writeln!(text, "client = [[{}, {}]]", string(&self.cert_file), string(&self.key_file));
        }
        if self.insecure_skip_verify {
            text.push_str("skip_verify = true\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
mirrors:
  docker.io: {endpoint: ["https://mirror.example.com:5000"]}
  "*": {endpoint: ["http://127.0.0.1:5000"]}
configs:
  mirror.example.com:5000:
    auth: {username: u, password: "p\"w"}
    tls: {ca_file: /ca.pem, insecure_skip_verify: true}
  own.example.com:
    tls: {cert_file: /c.pem, key_file: /k.pem}
"#;

    #[test]
    fn a_directory_for_each_registry() {
        let directory = tempfile::tempdir().unwrap();
        let (path, made) = (directory.path().join("registries.yaml"), directory.path().join("hosts"));
        std::fs::write(&path, FILE).unwrap();
        let registries = Registries::read(&path).unwrap();
        registries.write(&made).unwrap();
        let hosts = |name: &str| {
            let text = std::fs::read_to_string(made.join(name).join("hosts.toml")).unwrap();
            text.split_once('\n').unwrap().1.to_owned()
        };
        expect_test::expect![[r#"
            server = "https://registry-1.docker.io"

            [host."https://mirror.example.com:5000"]
            capabilities = ["pull", "resolve"]
            ca = "/ca.pem"
            skip_verify = true
        "#]]
        .assert_eq(&hosts("docker.io"));
        assert_eq!(hosts("_default"), "\n[host.\"http://127.0.0.1:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        assert!(hosts("own.example.com").ends_with("client = [[\"/c.pem\", \"/k.pem\"]]\n"));
        let credentials: Vec<_> = registries.credentials().collect();
        assert_eq!((credentials.len(), credentials[0].0), (1, "mirror.example.com:5000"));
    }

    #[test]
    fn what_is_not_there_or_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registries.yaml");
        assert_eq!(Registries::read(&path).unwrap(), Registries::default());
        std::fs::write(&path, "mirrors: {a: {endpoints: []}}").unwrap();
        assert!(Registries::read(&path).unwrap_err().to_string().contains("endpoint"));
    }
}
