//! The task that keeps the table in line with Services and EndpointSlices.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_base::backoff::{Backoff, Shape};
use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use coracle_client::{Key as ObjectKey, View};
use tokio::sync::{Notify, watch};

use super::element::{Content, Key, Role};
use super::ledger::Owner;
use super::plan::{self, Fragment, NodeFacts};
use super::table::Table;
use crate::conntrack::Live;
use crate::netlink::KernelError;
use crate::views::{Protocol, ServiceView, SliceView};

const RETRY: Shape = Shape::doubling(Duration::from_millis(100), Duration::from_secs(30));

/// What the task works from.
#[derive(Clone)]
pub struct Sources {
    pub services: View<ServiceView>,
    pub slices: View<SliceView>,
    pub node: Arc<NodeFacts>,
    pub table: Arc<Table>,
}

/// Services that changed since the last look.
#[derive(Default)]
struct Dirty {
    keys: Mutex<BTreeSet<ObjectKey>>,
    changed: Notify,
}

impl Dirty {
    fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        self.changed.notify_one();
    }

    fn take(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs until shutdown; the table stays. `installed` turns true when the first complete table is in the kernel. What changes while
/// the kernel takes one batch goes into the next.
pub async fn run(sources: Sources, installed: watch::Sender<bool>, shutdown: Shutdown) {
    let dirty = Arc::new(Dirty::default());
    let noted = dirty.clone();
    sources.services.subscribe(move |change| noted.add([change.item().key.clone()]));
    let noted = dirty.clone();
    sources.slices.subscribe(move |change| {
        let forms = [Some(change.item()), change.former()];
        noted.add(forms.into_iter().flatten().filter_map(|slice| service_key(&slice.service)));
    });
    let mut retry = Backoff::new(RETRY);
    let work = async {
        sources.services.synced().await;
        sources.slices.synced().await;
        loop {
            let keys = dirty.take();
            let first = !*installed.borrow();
            if !keys.is_empty() || first {
                let (work, given) = (sources.clone(), keys.clone());
                match task::blocking(move || reconcile(&work, &given)).await {
                    Ok(Ok(())) => {
                        retry.reset();
                        installed.send_replace(true);
                    }
                    Ok(Err(error)) => {
                        tracing::error!(%error, "services are not in the kernel");
                        dirty.add(keys);
                        tokio::time::sleep(retry.next_delay()).await;
                    }
                    Err(error) => tracing::error!(%error, "services: reconcile failed"),
                }
                continue;
            }
            dirty.changed.notified().await;
        }
    };
    shutdown.bound(work).await;
}

fn service_key(name: &str) -> Option<ObjectKey> {
    let (namespace, name) = name.split_once('/')?;
    Some(ObjectKey::new(namespace, name))
}

/// Brings the elements of these Services up to date.
fn reconcile(sources: &Sources, keys: &BTreeSet<ObjectKey>) -> Result<(), KernelError> {
    let mut live = Live::new();
    sources.table.change(|ledger| {
        for key in keys {
            let owner = Owner::Service(key.clone());
            let before = ledger.fragment(&owner).map(udp).unwrap_or_default();
            match sources.services.get(key) {
                None => ledger.set(&owner, Fragment::new()),
                Some(service) => {
                    let slices = sources.slices.find(&key.to_string());
                    ledger.plan(&owner, |groups| {
                        plan::service(&service, slices.iter().map(|slice| &slice.value), &sources.node, groups)
                    });
                }
            }
            let now = ledger.fragment(&owner).map(udp).unwrap_or_default();
            if before != now {
                live.extend(before.into_keys().map(|frontend| (frontend, BTreeSet::new())));
                live.extend(now);
            }
        }
    })?;
    if !sources.table.is_installed() {
        sources.table.install()?;
    }
    if !live.is_empty() {
        let deleted = sources.table.clean_udp(&live, &sources.node)?;
        tracing::debug!(deleted, "flows to former endpoints are deleted");
    }
    Ok(())
}

/// The UDP frontends of a fragment and their endpoints.
fn udp(fragment: &Fragment) -> Live {
    let mut live = Live::new();
    for (key, content) in fragment {
        let Key::Frontend(role, frontend) = key else { continue };
        if frontend.protocol != Protocol::Udp {
            continue;
        }
        let endpoints = live.entry(*frontend).or_default();
        if let (Role::Groups | Role::OutsideGroups, Content::Group(group)) = (role, content) {
            let family = frontend.family();
            let slots = fragment.range(Key::Endpoint(family, *group, 0)..=Key::Endpoint(family, *group, u32::MAX));
            endpoints.extend(slots.filter_map(|(_, content)| match content {
                Content::Endpoint(address) => Some(*address),
                _ => None,
            }));
        }
    }
    live
}
