//! Names of signers, certificate requests and trust bundles. Upstream: pkg/apis/core/validation/names.go,
//! pkg/apis/certificates/validation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::checks::Seen;
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

const MAX_PATH: usize = names::DNS_SUBDOMAIN_MAX + names::DNS_LABEL_MAX + 1;

/// `example.com/name`
pub(super) fn signer_name(node: Node<'_, '_>, causes: &mut Causes) {
    if !node.need(causes) {
        return;
    }
    let Some((domain, path)) = node.str().split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return node.invalid(causes, why);
    };
    if domain.len() > names::DNS_SUBDOMAIN_MAX {
        node.too_long(causes, names::DNS_SUBDOMAIN_MAX);
    }
    first_bad_label(node, domain, names::dns_1123_label, causes);
    if !domain.contains('.') {
        causes.invalid(node.path(), domain, "should be a domain with at least two segments separated by dots");
    }
    first_bad_label(node, path, names::dns_1123_subdomain, causes);
    let limit = names::DNS_SUBDOMAIN_MAX + MAX_PATH + 1;
    if node.str().len() > limit {
        node.too_long(causes, limit);
    }
}

fn first_bad_label(node: Node<'_, '_>, whole: &str, rule: super::NameRule, causes: &mut Causes) {
    let bad = whole.split('.').map(|label| (label, rule(label))).find(|(_, messages)| !messages.is_empty());
    for (label, message) in
        bad.iter().flat_map(|(label, messages)| messages.iter().map(move |message| (label, message)))
    {
        let why = format!("validating label {}: {message}", crate::quoting::quote(label));
        causes.invalid(node.path(), whole, why);
    }
}

/// The signer that a bundle's name tells; `""` for a bundle of nobody's.
pub(super) fn signer_of(name: &str) -> String {
    name.rsplit_once(':').map_or(String::new(), |(signer, _)| signer.replace(':', "/"))
}

pub(super) fn bundle_name(name: &str, signer: impl AsRef<str>) -> Vec<String> {
    let signer = signer.as_ref();
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return names::dns_1123_subdomain(name);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => names::dns_1123_subdomain(rest),
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")],
    }
}

/// Seconds; for signers of Kubernetes itself, and for others.
const MAX_LIFE: (i64, i64) = (86_400, 7_862_400);

/// A `podCertificate` of a projected volume, but its paths.
pub(super) fn pod_certificate(part: Node<'_, '_>, causes: &mut Causes) {
    let (signer, seconds) = (part.get("signerName"), part.get("maxExpirationSeconds"));
    signer_name(signer, causes);
    let annotations = part.get("userAnnotations");
    for (key, _) in annotations.entries() {
        for message in names::prefixed_label_key(&key.to_lowercase()) {
            let message = message.replace(
                "must include a prefix (e.g. 'example.com/key')",
                "must be a domain-prefixed key (such as \"acme.io/foo\")",
            );
            causes.invalid(annotations.path(), key.to_lowercase(), message);
        }
    }
    let kinds = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    part.get("keyType").one_of(&kinds, causes);
    let host = signer.str().split('/').next().unwrap_or_default();
    let own = host == "kubernetes.io" || host.ends_with(".kubernetes.io");
    let limit = if own { MAX_LIFE.0 } else { MAX_LIFE.1 };
    if seconds.int().is_some_and(|seconds| seconds < 3600) {
        seconds.invalid(causes, "if provided, maxExpirationSeconds must be >= 3600");
    }
    if seconds.int().is_some_and(|seconds| seconds > limit) {
        seconds.invalid(causes, format!("if provided, maxExpirationSeconds must be <= {limit}"));
    }
}

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

pub(super) fn request(request: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    whole(request, old, causes);
    changes(request, old, "", causes);
}

/// Writes to `status` and `approval`.
pub(super) fn request_part(request: Node<'_, '_>, old: Node<'_, '_>, subresource: &str, causes: &mut Causes) {
    whole(request, old, causes);
    changes(request, old, subresource, causes);
}

fn whole(request: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before, status) = (request.get("spec"), old.get("spec"), request.get("status"));
    let (usages, had, signer, seconds) =
        (spec.get("usages"), before.get("usages"), spec.get("signerName"), spec.get("expirationSeconds"));
    if let Err(why) = pem_block(spec.get("request").str(), "CERTIFICATE REQUEST") {
        spec.get("request").invalid_text(causes, why);
    }
    usages.need(causes);
    if had.items().all(|usage| USAGES.contains(&usage.str())) {
        usages.items().for_each(|usage| usage.one_of(USAGES, causes));
    }
    let mut seen = Seen::new();
    for usage in usages.items() {
        if !seen.insert(usage.str()) {
            usage.duplicate(causes);
        }
    }
    if signer.str() == LEGACY_SIGNER && before.get("signerName").str() != LEGACY_SIGNER {
        signer.invalid(causes, "the legacy signerName is not allowed via this API version");
    } else {
        signer_name(signer, causes);
    }
    if seconds.int().is_some_and(|seconds| seconds < 600) {
        seconds.invalid(causes, "may not specify a duration less than 600 seconds (10 minutes)");
    }
    let mut seen = Seen::new();
    for condition in status.get("conditions").items() {
        let (kind, state) = (condition.get("type"), condition.get("status"));
        kind.need(causes);
        let final_ones: &[&str] = &["True"];
        let all: &[&str] = &["False", "True", "Unknown"];
        let ends = matches!(kind.str(), "Approved" | "Denied" | "Failed");
        state.need_one_of(if ends { final_ones } else { all }, causes);
        if !seen.insert(kind.str()) {
            kind.duplicate(causes);
        }
    }
}

fn changes(request: Node<'_, '_>, old: Node<'_, '_>, subresource: &str, causes: &mut Causes) {
    if old.is_absent() {
        return;
    }
    let (status, before) = (request.get("status"), old.get("status"));
    let (conditions, had) = (status.get("conditions"), before.get("conditions"));
    for kind in ["Approved", "Denied", "Failed"] {
        let quoted = crate::quoting::quote(kind);
        let (now, then) = (conditions.find("type", kind), had.find("type", kind));
        let may_decide = subresource == "approval" || kind == "Failed";
        let why = match (now, then) {
            (None, Some(_)) => format!("updates may not remove a condition of type {quoted}"),
            (Some(_), None) if !may_decide => format!("updates may not add a condition of type {quoted}"),
            (Some(now), Some(then)) if !may_decide && now.value() != then.value() => {
                format!("updates may not modify a condition of type {quoted}\n")
            }
            _ => continue,
        };
        conditions.forbidden(causes, why);
    }
    let (certificate, had) = (status.get("certificate"), before.get("certificate"));
    if certificate.str() != had.str() {
        if subresource != "status" {
            certificate.forbidden(causes, "updates may not set certificate content");
        } else if !had.is_empty() {
            certificate.forbidden(causes, "updates may not modify existing certificate content");
        }
    }
}

/// Whether base64 of PEM holds a block of a type.
fn pem_block(data: &str, kind: &str) -> Result<(), &'static str> {
    let bytes = STANDARD.decode(data).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    if text.contains(&format!("-----BEGIN {kind}-----")) && text.contains(&format!("-----END {kind}-----")) {
        return Ok(());
    }
    Err("PEM block type must be CERTIFICATE REQUEST")
}

/// Bytes.
const MAX_BUNDLE: usize = 1024 * 1024;

pub(super) fn trust_bundle(bundle: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before, meta) = (bundle.get("spec"), old.get("spec"), bundle.get("metadata"));
    let (signer, trust) = (spec.get("signerName"), spec.get("trustBundle"));
    for message in bundle_name(meta.get("name").str(), signer.str()) {
        meta.get("name").invalid_text(causes, message);
    }
    if !signer.is_empty() {
        signer_name(signer, causes);
    }
    if old.is_present() && before.get("signerName").str() != signer.str() {
        signer.invalid_text(causes, super::checks::IMMUTABLE);
    }
    if old.is_present() && before.get("trustBundle").str() == trust.str() {
        return;
    }
    if trust.str().len() > MAX_BUNDLE {
        trust.too_long(causes, MAX_BUNDLE);
    } else if !trust.str().contains("-----BEGIN ") {
        causes.invalid(trust.path(), "<value omitted>", "at least one trust anchor must be provided");
    }
}
