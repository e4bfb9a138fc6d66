//! Certificates: three authorities made once, and leaves that are made again when they near their end or lack a name.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use coracle_base::crypto::SigningKey;
use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::data_directory::{read_optional, write_private, write_with_mode};
use crate::error::Error;

/// Days.
const AUTHORITY_LIFE: i64 = 3650;
const LEAF_LIFE: i64 = 365;
/// A leaf with fewer days left is made again, at start and in the daily check.
const RENEW_BEFORE: i64 = 90;
/// No certificate starts or ends before this, whatever a machine without a battery clock believes at boot.
const EARLIEST: (i32, u8, u8) = (2026, 1, 1);

/// The certificates under `server/tls`, named as k3s names them.
pub struct Pki {
    directory: PathBuf,
    /// Signs what servers show.
    pub server: Authority,
    /// Signs what clients show.
    pub client: Authority,
    /// Signs what front proxies show.
    pub request_header: Authority,
}

/// A certificate authority with its key.
pub struct Authority {
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Leaf {
    pub certificate: String,
    pub key: String,
}

impl Pki {
    /// Reads the authorities, or makes those that are missing.
    pub fn open(directory: PathBuf) -> Result<Self, Error> {
        let authority = |name: &str| Authority::open(&directory, name);
        let (server, client, request_header) =
            (authority("server-ca")?, authority("client-ca")?, authority("request-header-ca")?);
        Ok(Self { directory, server, client, request_header })
    }

    /// A certificate that servers show, good for all of `names`.
    pub fn serving(&self, file: &str, common_name: &str, names: &[Name]) -> Result<Leaf, Error> {
        self.leaf(&self.server, file, common_name, None, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate that names a user and its group (a distinguished name holds one organization here).
    pub fn client(&self, file: &str, user: &str, group: &str) -> Result<Leaf, Error> {
        self.leaf(&self.client, file, user, Some(group), &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The key that signs service-account tokens.
    pub fn token_key(&self) -> Result<SigningKey, Error> {
        let path = self.directory.join("service.key");
        if let Some(text) = read_optional(&path)? {
            let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
            let pem = pem::parse(text).map_err(|error| damaged(error.to_string()))?;
            return SigningKey::from_pkcs8(pem.contents()).map_err(|error| damaged(error.to_string()));
        }
        let key = SigningKey::generate();
        write_private(&path, pem::encode(&pem::Pem::new("PRIVATE KEY", key.pkcs8())).as_bytes())?;
        Ok(key)
    }

    fn leaf(
        &self,
        authority: &Authority,
        file: &str,
        common_name: &str,
        group: Option<&str>,
        names: &[Name],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Leaf, Error> {
        let (certificate_path, key_path) = self.paths(file);
        if let (Some(certificate), Some(key)) = (read_optional(&certificate_path)?, read_optional(&key_path)?)
            && good(&certificate, authority, names)
        {
            return Ok(Leaf { certificate, key });
        }
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        if let Some(group) = group {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.subject_alt_names = names.iter().map(Name::to_san).collect::<Result<_, _>>()?;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![usage];
        live(&mut parameters, LEAF_LIFE);
        let key = new_key()?;
        let signed = parameters.signed_by(&key, &authority.issuer).map_err(Error::certificates)?;
        // The authority follows, as verifiers that know only a root of the same name expect.
        let leaf = Leaf { certificate: signed.pem() + &authority.certificate, key: key.serialize_pem() };
        write_private(&key_path, leaf.key.as_bytes())?;
        write_with_mode(&certificate_path, leaf.certificate.as_bytes(), 0o644)?;
        tracing::debug!(file, "certificate made");
        Ok(leaf)
    }

    fn paths(&self, file: &str) -> (PathBuf, PathBuf) {
        (self.directory.join(format!("{file}.crt")), self.directory.join(format!("{file}.key")))
    }
}

impl Authority {
    fn open(directory: &Path, name: &str) -> Result<Self, Error> {
        let (certificate_path, key_path) =
            (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        let damaged = |reason: String| Error::Damaged { path: certificate_path.clone(), reason };
        let (certificate, key) = match (read_optional(&certificate_path)?, read_optional(&key_path)?) {
            (Some(certificate), Some(key)) => {
                (certificate, KeyPair::from_pem(&key).map_err(|e| damaged(e.to_string()))?)
            }
            (None, None) => {
                let key = new_key()?;
                let certificate = make_authority(name, &key)?;
                write_private(&key_path, key.serialize_pem().as_bytes())?;
                write_with_mode(&certificate_path, certificate.as_bytes(), 0o644)?;
                (certificate, key)
            }
            _ => return Err(damaged("certificate or key is missing".to_owned())),
        };
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| damaged(error.to_string()))?;
        Ok(Self { certificate, issuer })
    }

    /// Makes a certificate, PEM, of a request that has been approved.
    pub fn sign(&self, request: &CertificateSigningRequestParams) -> Result<String, rcgen::Error> {
        Ok(request.signed_by(&self.issuer)?.pem())
    }
}

impl Leaf {
    /// The chain and key, as rustls takes them.
    pub fn der(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        Ok((chain.map_err(Error::certificates)?, key.map_err(Error::certificates)?))
    }
}

/// A name that a serving certificate is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    Address(IpAddr),
    Domain(String),
}

impl Name {
    /// An address where it reads as one.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Name::Domain(text.to_owned()), Name::Address)
    }

    fn to_san(&self) -> Result<SanType, Error> {
        Ok(match self {
            Name::Address(address) => SanType::IpAddress(*address),
            Name::Domain(domain) => SanType::DnsName(domain.as_str().try_into().map_err(Error::certificates)?),
        })
    }

    fn is(&self, name: &GeneralName<'_>) -> bool {
        match (self, name) {
            (Name::Domain(own), GeneralName::DNSName(other)) => own == other,
            (Name::Address(IpAddr::V4(own)), GeneralName::IPAddress(other)) => own.octets() == **other,
            (Name::Address(IpAddr::V6(own)), GeneralName::IPAddress(other)) => own.octets() == **other,
            _ => false,
        }
    }
}

/// Whether a leaf can stay: from this authority, with all names, and not near its end.
fn good(certificate: &str, authority: &Authority, names: &[Name]) -> bool {
    let Ok(pem) = pem::parse(certificate) else { return false };
    let Ok((_, leaf)) = X509Certificate::from_der(pem.contents()) else { return false };
    let Ok(issuer_pem) = pem::parse(&authority.certificate) else { return false };
    let Ok((_, issuer)) = X509Certificate::from_der(issuer_pem.contents()) else { return false };
    let present = leaf.subject_alternative_name().ok().flatten();
    let present = present.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let left = leaf.validity().not_after.timestamp() - Timestamp::now().as_second();
    left > RENEW_BEFORE * 86_400
        && leaf.verify_signature(Some(issuer.public_key())).is_ok()
        && names.iter().all(|name| present.iter().any(|other| name.is(other)))
}

fn make_authority(name: &str, key: &KeyPair) -> Result<String, Error> {
    let mut parameters = CertificateParams::default();
    // The time tells authorities of re-made clusters apart.
    parameters.distinguished_name.push(DnType::CommonName, format!("coracle-{name}@{}", Timestamp::now().as_second()));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    live(&mut parameters, AUTHORITY_LIFE);
    Ok(parameters.self_signed(key).map_err(Error::certificates)?.pem())
}

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::certificates)
}

/// Valid from long ago, so that clients with a late clock believe it, for `days` from now.
fn live(parameters: &mut CertificateParams, days: i64) {
    let (year, month, day) = EARLIEST;
    parameters.not_before = rcgen::date_time_ymd(year, month, day);
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let end = now.checked_add(Span::new().days(days)).map(|end| end.date()).unwrap_or(now.date());
    let (end_year, end_month, end_day) = (i32::from(end.year()), end.month().unsigned_abs(), end.day().unsigned_abs());
    parameters.not_after = rcgen::date_time_ymd(end_year.max(year + 1), end_month, end_day);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<Name> {
        texts.iter().map(|text| Name::parse(text)).collect()
    }

    #[test]
    fn certificates_stay_until_a_name_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Pki::open(directory.path().to_owned()).unwrap();
        let first = open().serving("serving", "coracle", &names(&["127.0.0.1", "::1", "kubernetes"])).unwrap();
        let again = open().serving("serving", "coracle", &names(&["kubernetes", "127.0.0.1"])).unwrap();
        assert_eq!(first.certificate, again.certificate);
        let wider = open().serving("serving", "coracle", &names(&["kubernetes", "10.43.0.1"])).unwrap();
        assert_ne!(first.certificate, wider.certificate);
        assert_ne!(first.key, wider.key);
    }

    #[test]
    fn a_leaf_of_another_authority_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let leaf = || Pki::open(directory.path().to_owned()).unwrap().client("admin", "a", "system:masters").unwrap();
        let first = leaf();
        for file in ["client-ca.crt", "client-ca.key"] {
            std::fs::remove_file(directory.path().join(file)).unwrap();
        }
        assert_ne!(first.certificate, leaf().certificate);
    }

    #[test]
    fn client_certificates_name_user_and_group() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path().to_owned()).unwrap();
        let (chain, _) = pki.client("admin", "system:admin", "system:masters").unwrap().der().unwrap();
        let user = coracle_apiserver::authn::certificate::user(&chain[0]).unwrap();
        assert_eq!(user.name, "system:admin");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
    }

    #[test]
    fn a_damaged_authority_is_told() {
        let directory = tempfile::tempdir().unwrap();
        Pki::open(directory.path().to_owned()).unwrap();
        std::fs::write(directory.path().join("server-ca.key"), "rubbish").unwrap();
        let error = Pki::open(directory.path().to_owned()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("server-ca.crt is not what coracle wrote"), "{error}");
    }
}
