//! GET of a collection: a snapshot in memory, exact at its revision over all pages.

use coracle_api::{Object, Resource, Status};
use coracle_store::Snapshot;
use http::Response;

use super::answer::{self, ListMeta};
use super::continuation::Continuation;
use super::options::{Age, Chosen, ListOptions};
use crate::body::Body;
use crate::call::Call;
use crate::failure;
use crate::registry::{Registry, Stored};
use crate::server::ApiServer;

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";

pub async fn list(server: &ApiServer, call: &Call, resource: &Resource) -> Result<Response<Body>, Status> {
    let options = ListOptions::parse(call, resource)?;
    let (items, meta) = page(&server.inner.registry, resource, &options).await?;
    answer::list(call, resource, items, &meta)
}

/// One page of chosen objects.
pub async fn page(
    registry: &Registry,
    resource: &Resource,
    options: &ListOptions,
) -> Result<(Vec<Object>, ListMeta), Status> {
    let continuation = options.continue_token.as_deref().map(Continuation::decode).transpose()?;
    let snapshot = match (&continuation, options.age) {
        (Some(continuation), _) => {
            registry.snapshot_at(resource, continuation.revision).await.map_err(|_| Status::expired(EXPIRED))?
        }
        (None, Age::Exact(revision)) => registry.snapshot_at(resource, revision).await?,
        (None, Age::NotOlderThan(revision)) => {
            let snapshot = registry.snapshot(resource).await?;
            if snapshot.revision() < revision {
                return Err(failure::too_large_revision(revision, snapshot.revision()));
            }
            snapshot
        }
        (None, Age::Latest | Age::Any) => registry.snapshot(resource).await?,
    };
    let chosen = &options.chosen;
    let prefix = chosen.prefix();
    let after = continuation.as_ref().map_or("", |continuation| continuation.after.as_str());
    let mut rest = snapshot.range(&prefix, after);
    let mut items = Vec::new();
    let mut meta = ListMeta { revision: snapshot.revision(), ..ListMeta::default() };
    let mut last = None;
    for (name, stored) in rest.by_ref() {
        if !chosen.matches(&stored.0) {
            continue;
        }
        if options.limit > 0 && items.len() == options.limit {
            // One more is there: the page is full and the list is not over.
            let after = last.unwrap_or_default();
            meta.continue_token = Continuation { revision: snapshot.revision(), after }.encode();
            if chosen.is_everything() {
                meta.remaining = Some(rest.count() + 1);
            }
            break;
        }
        items.push(stored.0.clone());
        last = Some(name.to_string());
    }
    Ok((items, meta))
}

/// The chosen objects of a snapshot.
pub fn chosen(snapshot: &Snapshot<Stored>, chosen: &Chosen) -> Vec<Object> {
    let prefix = chosen.prefix();
    let objects = snapshot.range(&prefix, "").map(|(_, stored)| &stored.0);
    objects.filter(|object| chosen.matches(object)).cloned().collect()
}
