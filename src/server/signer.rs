//! The cluster's authorities as the certificate controllers use them.
//!
//! Upstream: kubernetes pkg/controller/certificates/authority (PermissiveSigningPolicy): names as asked for, uses as approved,
//! never an authority, five minutes back for late clocks.

use std::sync::Arc;
use std::time::Duration;

use coracle_controllers::certificates::Authority;
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use time::OffsetDateTime;

use crate::pki::Pki;

const BACKDATE: Duration = Duration::from_secs(300);
const SERVING: &str = "kubernetes.io/kubelet-serving";

pub struct Signer {
    pki: Arc<Pki>,
}

impl Signer {
    pub fn new(pki: Arc<Pki>) -> Self {
        Self { pki }
    }
}

impl Authority for Signer {
    fn sign(&self, signer: &str, request: &str, usages: &[String], lifetime: Duration) -> Result<String, String> {
        let authority = if signer == SERVING { &self.pki.server } else { &self.pki.client };
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(|error| error.to_string())?;
        let now = OffsetDateTime::now_utc();
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.params.not_before = now - BACKDATE;
        request.params.not_after = now + lifetime;
        (request.params.key_usages, request.params.extended_key_usages) = purposes(usages)?;
        authority.sign(&request).map_err(|error| error.to_string())
    }
}

/// certificates.k8s.io/v1 KeyUsage as X.509 has it.
fn purposes(usages: &[String]) -> Result<(Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>), String> {
    let (mut plain, mut extended) = (Vec::new(), Vec::new());
    for usage in usages {
        match usage.as_str() {
            "signing" | "digital signature" => plain.push(KeyUsagePurpose::DigitalSignature),
            "content commitment" => plain.push(KeyUsagePurpose::ContentCommitment),
            "key encipherment" => plain.push(KeyUsagePurpose::KeyEncipherment),
            "key agreement" => plain.push(KeyUsagePurpose::KeyAgreement),
            "data encipherment" => plain.push(KeyUsagePurpose::DataEncipherment),
            "encipher only" => plain.push(KeyUsagePurpose::EncipherOnly),
            "decipher only" => plain.push(KeyUsagePurpose::DecipherOnly),
            "any" => extended.push(ExtendedKeyUsagePurpose::Any),
            "server auth" => extended.push(ExtendedKeyUsagePurpose::ServerAuth),
            "client auth" => extended.push(ExtendedKeyUsagePurpose::ClientAuth),
            "code signing" => extended.push(ExtendedKeyUsagePurpose::CodeSigning),
            "email protection" | "s/mime" => extended.push(ExtendedKeyUsagePurpose::EmailProtection),
            "timestamping" => extended.push(ExtendedKeyUsagePurpose::TimeStamping),
            "ocsp signing" => extended.push(ExtendedKeyUsagePurpose::OcspSigning),
            other => return Err(format!("unsupported usage {other:?}")),
        }
    }
    plain.dedup();
    Ok((plain, extended))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn request() -> String {
        let mut parameters = CertificateParams::new(vec!["n1".to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        parameters.distinguished_name.push(DnType::CommonName, "system:node:n1");
        parameters.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn a_request_becomes_a_certificate_of_the_right_authority() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Arc::new(Pki::open(directory.path().to_owned()).unwrap());
        let signer = Signer::new(pki.clone());
        let usages = ["digital signature".to_owned(), "server auth".to_owned()];
        let signed = signer.sign(SERVING, &request(), &usages, Duration::from_secs(600)).unwrap();
        let der = pem::parse(signed).unwrap();
        let (_, certificate) = X509Certificate::from_der(der.contents()).unwrap();
        let authority = pem::parse(&pki.server.certificate).unwrap();
        let (_, authority) = X509Certificate::from_der(authority.contents()).unwrap();
        certificate.verify_signature(Some(authority.public_key())).unwrap();
        assert_eq!(certificate.subject().iter_common_name().next().unwrap().as_str().unwrap(), "system:node:n1");
        let lifetime = certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp();
        assert_eq!(lifetime, 900);
        assert!(!certificate.is_ca());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && !extended.client_auth);
    }

    #[test]
    fn rubbish_and_unknown_uses_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer::new(Arc::new(Pki::open(directory.path().to_owned()).unwrap()));
        let sign = |request: &str, usage: &str| signer.sign("x", request, &[usage.to_owned()], Duration::ZERO);
        assert!(sign("rubbish", "client auth").is_err());
        assert_eq!(sign(&request(), "cert sign").unwrap_err(), "unsupported usage \"cert sign\"");
    }
}
