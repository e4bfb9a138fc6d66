//! The certificates of ClusterTrustBundles as one PEM file (KEP-3257; upstream: pkg/kubelet/clustertrustbundle).

use std::collections::BTreeSet;

use coracle_api::Object;
use coracle_api::selector::LabelSelector;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use pem::{EncodeConfig, LineEnding, Pem};
use serde::Deserialize;

use crate::objects::{Objects, Reference};

/// What is read of a ClusterTrustBundle.
#[derive(Deserialize)]
struct Bundle {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    signer_name: String,
    trust_bundle: String,
}

/// The file's text; without any certificate when nothing is selected and the source is optional.
pub(super) async fn read(objects: &Objects, source: &ClusterTrustBundleProjection) -> Result<Vec<u8>, String> {
    let bundles = objects.selected(&Reference::trust_bundles()).await.map_err(|error| error.to_string())?;
    let is_optional = source.optional == Some(true);
    let found = if let Some(name) = &source.name {
        let bundle = bundles.get(name.as_str()).map(parse).transpose()?;
        if bundle.is_none() && !is_optional {
            return Err(format!("clustertrustbundle.certificates.k8s.io \"{name}\" not found"));
        }
        Vec::from_iter(bundle)
    } else {
        let signer = source.signer_name.as_deref().unwrap_or_default();
        let selector = serde_json::to_value(&source.label_selector).map_err(|error| error.to_string())?;
        let selector = LabelSelector::from_object(Some(&selector))?;
        let labelled = bundles.values().filter(|bundle| selector.matches(&*bundle.meta().labels));
        let mut found = labelled.map(parse).collect::<Result<Vec<Bundle>, String>>()?;
        found.retain(|bundle| bundle.spec.signer_name == signer);
        if found.is_empty() && !is_optional {
            return Err("combination of signerName and labelSelector matched zero ClusterTrustBundles".to_owned());
        }
        found
    };
    anchors(found.iter().map(|bundle| bundle.spec.trust_bundle.as_str()))
}

fn parse(bundle: &Object) -> Result<Bundle, String> {
    bundle.decode().map_err(|status| status.message)
}

/// Each certificate once, without headers and without text between them. Their order says nothing to anyone; sorted, the file
/// stays the same as long as the certificates do.
fn anchors<'a>(bundles: impl Iterator<Item = &'a str>) -> Result<Vec<u8>, String> {
    let mut certificates = BTreeSet::new();
    for bundle in bundles {
        let blocks = pem::parse_many(bundle).map_err(|error| error.to_string())?;
        certificates.extend(blocks.into_iter().map(Pem::into_contents));
    }
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let encoded = certificates.into_iter().map(|der| pem::encode_config(&Pem::new("CERTIFICATE", der), config));
    Ok(encoded.collect::<String>().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_unified() {
        let block = |text: &str| pem::encode(&Pem::new("CERTIFICATE", text.as_bytes())).replace("\r\n", "\n");
        let (first, second) = (block("first"), block("second"));
        let bundles = [format!("of nobody\n{second}{first}"), second.clone()];
        let unified = anchors(bundles.iter().map(String::as_str)).unwrap();
        assert_eq!(String::from_utf8(unified).unwrap(), format!("{first}{second}"));
        assert_eq!(anchors(std::iter::empty()).unwrap(), b"");
    }
}
