//! Certificates are made again in process, long before they end.

use std::sync::Arc;
use std::time::Duration;

use coracle_base::shutdown::Shutdown;

use crate::config::Config;
use crate::pki::{Leaf, Name, Pki};
use crate::tls::Tls;
use crate::{Error, kubeconfig};

/// Often enough for a machine whose clock was wrong at boot.
const CHECK_EVERY: Duration = Duration::from_secs(12 * 3600);

/// The certificates that a running server shows or hands out.
pub struct Certificates {
    pki: Arc<Pki>,
    config: Config,
    port: u16,
}

impl Certificates {
    pub fn new(pki: Arc<Pki>, config: &Config, port: u16) -> Self {
        Self { pki, config: config.clone(), port }
    }

    /// The API server's own certificate.
    pub fn serving(&self) -> Result<Leaf, Error> {
        self.pki.serving("serving-kube-apiserver", "kube-apiserver", &names(&self.config))
    }

    /// The node's certificate for its port, where there is a node; named as a kubelet names its own.
    pub fn node_serving(&self) -> Result<Option<Leaf>, Error> {
        let Some(node) = &self.config.node else { return Ok(None) };
        let mut names = vec![Name::Domain(node.name.clone())];
        names.extend(node.addresses.iter().copied().map(Name::Address));
        self.pki.serving("serving-kubelet", &format!("system:node:{}", node.name), &names).map(Some)
    }

    /// The admin kubeconfig's text.
    pub fn kubeconfig(&self) -> Result<String, Error> {
        let admin = self.pki.client("client-admin", "system:admin", "system:masters")?;
        let host = match self.config.bind_address {
            Some(address) if address.is_ipv6() => format!("[{address}]"),
            Some(address) => address.to_string(),
            None => "127.0.0.1".to_owned(),
        };
        Ok(kubeconfig::render(&format!("https://{host}:{}", self.port), &self.pki.server.certificate, &admin))
    }

    /// Writes the admin kubeconfig where it is not what it should be.
    pub fn write_kubeconfig(&self) -> Result<(), Error> {
        kubeconfig::write(&self.config.write_kubeconfig, &self.kubeconfig()?, self.config.write_kubeconfig_mode)
    }

    /// Checks from time to time until shutdown.
    pub async fn keep(self, api: Arc<Tls>, node: Option<Arc<Tls>>, shutdown: Shutdown) {
        while shutdown.bound(tokio::time::sleep(CHECK_EVERY)).await.is_some() {
            if let Err(error) = self.renew(&api, node.as_deref()) {
                tracing::error!(error = &error as &dyn std::error::Error, "certificates are not renewed");
            }
        }
    }

    fn renew(&self, api: &Tls, node: Option<&Tls>) -> Result<(), Error> {
        api.replace(&self.serving()?)?;
        if let (Some(tls), Some(leaf)) = (node, self.node_serving()?) {
            tls.replace(&leaf)?;
        }
        self.write_kubeconfig()
    }
}

/// Every name under which clients reach the API server.
fn names(config: &Config) -> Vec<Name> {
    let domain = &config.network.cluster_domain;
    let mut names: Vec<Name> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        .into_iter()
        .map(|name| Name::Domain(name.to_owned()))
        .collect();
    names.push(Name::Domain(format!("kubernetes.default.svc.{domain}")));
    names.extend(["127.0.0.1", "::1"].map(Name::parse));
    names.push(Name::Address(config.advertise_address));
    names.extend(config.bind_address.map(Name::Address));
    names.extend(config.network.service_cidr.iter().filter_map(|cidr| cidr.nth(1)).map(Name::Address));
    if let Some(node) = &config.node {
        names.push(Name::Domain(node.name.clone()));
        names.extend(node.addresses.iter().copied().map(Name::Address));
    }
    names.extend(config.tls_san.iter().map(|name| Name::parse(name)));
    let mut unique: Vec<Name> = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}
