//! Users from client certificates: the common name is the user, each organization a group.

use coracle_base::crypto;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{AUTHENTICATED, CREDENTIAL_ID, User};

/// The user that a certificate (DER) names; `None` when it cannot be read or has no common name. The caller has verified
/// that one of our CAs signed it. Upstream: k8s.io/apiserver pkg/authentication/request/x509 (CommonNameUserConversion).
pub fn user(certificate: &[u8]) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    if name.is_empty() {
        return None;
    }
    let organizations = subject.iter_organization().filter_map(|attribute| attribute.as_str().ok());
    let groups = organizations.chain([AUTHENTICATED]).map(str::to_owned).collect();
    let fingerprint = format!("X509SHA256={}", crypto::hex(&crypto::sha256(certificate)));
    let extra = [(CREDENTIAL_ID.to_owned(), vec![fingerprint])].into();
    Some(User { name, uid: String::new(), groups, extra })
}
