//! The patch types that change a tree by a document: JSON patch, JSON merge patch and strategic merge patch.
//!
//! Upstream: k8s.io/apiserver pkg/endpoints/handlers/patch.go. Server-side apply, the fourth type, is `managed_fields`.

pub mod json;
pub mod merge;
pub mod strategic;

#[cfg(test)]
mod robustness;
