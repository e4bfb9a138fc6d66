//! What the scheduler remembers of a node.

use coracle_api::Object;
use coracle_api::quantity::Quantity;
use coracle_client::Project;
use coracle_client::placement::Taint;
use serde::Deserialize;

use crate::requests::{Amounts, Written};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    /// Sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    pub taints: Box<[Taint]>,
    pub unschedulable: bool,
    pub allocatable: Amounts,
    /// How many pods the node takes.
    pub pods: i64,
}

impl Project for NodeView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Node {
            #[serde(default)]
            spec: Spec,
            #[serde(default)]
            status: Status,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Spec {
            unschedulable: bool,
            taints: Box<[Taint]>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Status {
            allocatable: Written,
        }
        let node: Node = object.decode().ok()?;
        let pods = node.status.allocatable.get("pods").and_then(|text| Quantity::parse(text).ok());
        Some(Self {
            labels: object.meta().labels.clone(),
            taints: node.spec.taints,
            unschedulable: node.spec.unschedulable,
            allocatable: Amounts::read(&node.status.allocatable),
            pods: pods.map_or(0, |pods| pods.value()),
        })
    }
}
