//! What controllers remember of a PersistentVolumeClaim: one view for all of them.

use coracle_api::Object;
use coracle_client::Project;
use serde::Deserialize;

use crate::owners::Owner;

/// Keeps a claim that a pod uses.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";

pub struct ClaimView {
    pub owners: Box<[Owner]>,
    pub deleting: bool,
    /// Carries the finalizer of claims in use.
    pub protected: bool,
}

impl Project for ClaimView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Decoded {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            #[serde(default)]
            deletion_timestamp: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            finalizers: Vec<Box<str>>,
            #[serde(default)]
            owner_references: Box<[Owner]>,
        }
        let Metadata { deletion_timestamp, finalizers, owner_references } = object.decode::<Decoded>().ok()?.metadata;
        Some(Self {
            owners: owner_references,
            deleting: deletion_timestamp.is_some(),
            protected: finalizers.iter().any(|finalizer| &**finalizer == CLAIM_PROTECTION),
        })
    }
}
