//! A PKCS #10 request, as far as approvers and signers look at it, and what each of the cluster's signers demands of one.
//!
//! Upstream: pkg/apis/certificates/helpers.go, pkg/controller/certificates/signer/signer.go.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_base::crypto;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

/// A request that has been read; its signature is checked when it is signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub domains: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Mail addresses and URIs, which no node has.
    pub others: Vec<&'static str>,
    /// SHA-256 of the public key (SubjectPublicKeyInfo), hex.
    pub key: String,
    /// The PEM text.
    pub pem: String,
}

const NODE: &str = "system:node:";
const NODES: &str = "system:nodes";

impl Request {
    /// Reads `spec.request` (PEM in base64).
    pub fn read(text: &str) -> Result<Self, String> {
        let text = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let pem = pem::parse(&text).map_err(|error| error.to_string())?;
        if pem.tag() != "CERTIFICATE REQUEST" {
            return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
        }
        let (_, parsed) = X509CertificationRequest::from_der(pem.contents()).map_err(|error| error.to_string())?;
        let info = &parsed.certification_request_info;
        let texts = |names: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
            names.filter_map(|name| name.as_str().ok()).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut request = Request {
            common_name: texts(&mut info.subject.iter_common_name()).into_iter().next().unwrap_or_default(),
            organizations: texts(&mut info.subject.iter_organization()),
            key: crypto::hex(&crypto::sha256(info.subject_pki.raw)),
            pem: String::from_utf8_lossy(&text).into_owned(),
            ..Request::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(domain) => request.domains.push((*domain).to_owned()),
                    GeneralName::IPAddress(bytes) => request.addresses.extend(address(bytes)),
                    GeneralName::RFC822Name(_) => request.others.push("Email"),
                    GeneralName::URI(_) => request.others.push("URI"),
                    _ => {}
                }
            }
        }
        Ok(request)
    }

    /// The node whose certificate this is to become.
    pub fn node(&self) -> Option<&str> {
        self.common_name.strip_prefix(NODE).filter(|name| !name.is_empty())
    }

    /// Why this is no request for what a node shows as a client.
    pub fn check_node_client(&self, usages: &[String]) -> Result<(), String> {
        self.check_organization()?;
        let refused = |what: &str| Err(format!("{what} subjectAltNames are not allowed"));
        match () {
            () if !self.domains.is_empty() => return refused("DNS"),
            () if self.others.contains(&"Email") => return refused("Email"),
            () if !self.addresses.is_empty() => return refused("IP"),
            () if !self.others.is_empty() => return refused("URI"),
            () => {}
        }
        self.check_name()?;
        check_usages(usages, "client auth")
    }

    /// Why this is no request for what a node shows as a server.
    pub fn check_node_server(&self, usages: &[String]) -> Result<(), String> {
        self.check_organization()?;
        if self.domains.is_empty() && self.addresses.is_empty() {
            return Err("DNS or IP subjectAltName is required".to_owned());
        }
        if let Some(what) = self.others.first() {
            return Err(format!("{what} subjectAltNames are not allowed"));
        }
        check_usages(usages, "server auth")?;
        self.check_name()
    }

    fn check_organization(&self) -> Result<(), String> {
        let only_nodes = self.organizations == [NODES];
        only_nodes.then_some(()).ok_or_else(|| "subject organization is not system:nodes".to_owned())
    }

    fn check_name(&self) -> Result<(), String> {
        let named = self.common_name.starts_with(NODE);
        named.then_some(()).ok_or_else(|| "subject common name does not begin with system:node:".to_owned())
    }
}

/// Digital signature and `own`, with or without key encipherment; nothing else.
fn check_usages(usages: &[String], own: &str) -> Result<(), String> {
    let all = ["digital signature", "key encipherment", own];
    let has = |usage: &str| usages.iter().any(|given| given == usage);
    let good = has("digital signature") && has(own) && usages.iter().all(|given| all.contains(&given.as_str()));
    good.then_some(()).ok_or_else(|| format!("usages did not match {all:?}"))
}

/// Why a client certificate may not be used like this.
pub fn check_client_usages(usages: &[String]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.iter().any(|usage| usage == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Request {
        Request {
            common_name: "system:node:a".into(),
            organizations: vec!["system:nodes".into()],
            ..Request::default()
        }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_node_asks_for_itself_and_nothing_more() {
        let usages = words(&["digital signature", "client auth"]);
        assert_eq!(node().check_node_client(&usages), Ok(()));
        assert_eq!(node().node(), Some("a"));
        let wrong = |change: fn(&mut Request)| {
            let mut request = node();
            change(&mut request);
            request.check_node_client(&words(&["digital signature", "client auth"])).unwrap_err()
        };
        assert_eq!(
            wrong(|it| it.organizations.push("system:masters".into())),
            "subject organization is not system:nodes"
        );
        assert_eq!(wrong(|it| it.common_name = "admin".into()), "subject common name does not begin with system:node:");
        assert_eq!(wrong(|it| it.domains.push("a".into())), "DNS subjectAltNames are not allowed");
        assert!(node().check_node_client(&words(&["digital signature", "client auth", "server auth"])).is_err());
        assert!(node().check_node_client(&words(&["client auth"])).is_err());
    }

    #[test]
    fn a_server_needs_a_name_or_an_address() {
        let usages = words(&["digital signature", "server auth", "key encipherment"]);
        assert_eq!(node().check_node_server(&usages).unwrap_err(), "DNS or IP subjectAltName is required");
        let named = Request { domains: vec!["a".into()], ..node() };
        assert_eq!(named.check_node_server(&usages), Ok(()));
    }

    #[test]
    fn rubbish_is_no_request() {
        for text in ["", "!", "LS0t", "AAAA"] {
            assert!(Request::read(text).is_err(), "{text}");
        }
    }
}
