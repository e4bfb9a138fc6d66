//! TLS of the API port and the node's: our certificate, changed without a restart, and client certificates that are asked for, not demanded.

use std::sync::{Arc, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::error::Error;
use crate::pki::Leaf;

/// The one place that names the cryptography under TLS.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Settings of a port, shared by its connections.
pub struct Tls {
    config: Arc<ServerConfig>,
    clients: Arc<dyn ClientCertVerifier>,
    certificate: Arc<Certificate>,
}

impl Tls {
    /// The API port: shows `leaf`, and leaves it to `trusts` whether `authority` signed the client's certificate.
    pub fn api(leaf: &Leaf, authority: &str) -> Result<Self, Error> {
        Self::new(leaf, authority, &[b"h2", b"http/1.1"])
    }

    /// The node's port, likewise.
    pub fn node(leaf: &Leaf, authority: &str) -> Result<Self, Error> {
        Self::new(leaf, authority, &[b"http/1.1"])
    }

    fn new(leaf: &Leaf, authority: &str, protocols: &[&[u8]]) -> Result<Self, Error> {
        let provider = provider();
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(authority.as_bytes()).map_err(Error::certificates)?;
        roots.add(authority).map_err(Error::certificates)?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let clients = clients.allow_unauthenticated().build().map_err(Error::certificates)?;
        let certificate = Arc::new(Certificate { current: RwLock::new(certified(leaf, &provider)?) });
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config
            .map_err(Error::certificates)?
            .with_client_cert_verifier(Arc::new(Asking { inner: clients.clone() }))
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // Go's clients do not resume sessions with client certificates; storing sessions for them is memory for nothing.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), clients, certificate })
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Whether our authority signed this client's certificate, and it is within its time.
    pub fn trusts(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> bool {
        self.clients.verify_client_cert(leaf, chain, UnixTime::now()).is_ok()
    }

    /// Shows `leaf` to connections from now on.
    pub fn replace(&self, leaf: &Leaf) -> Result<(), Error> {
        let certified = certified(leaf, &provider())?;
        *self.certificate.current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = certified;
        Ok(())
    }
}

pub fn certified(leaf: &Leaf, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let (chain, key) = leaf.der()?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, provider).map_err(Error::certificates)?))
}

#[derive(Debug)]
struct Certificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone())
    }
}

/// Asks for a certificate and checks that the client holds its key, but leaves trust to the request: a foreign
/// certificate gets a 401 that says so, not a connection that breaks.
#[derive(Debug)]
struct Asking {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Asking {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
