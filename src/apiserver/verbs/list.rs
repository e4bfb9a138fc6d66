//! GET of a collection: a snapshot in memory, exact at its revision over all pages.

use coracle_api::{Object, Resource, Status};
use coracle_store::{Extent, ReadError, Snapshot};
use http::Response;

use super::answer;
use super::continuation::Continuation;
use super::options::{Age, Chosen, ListOptions};
use crate::body::Body;
use crate::call::Call;
use crate::failure;
use crate::registry::{Registry, Stored, read_failure};
use crate::server::ApiServer;
use crate::view::{ListMeta, View};

const EXPIRED: &str = "The resourceVersion for the provided list is too old.";
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
     the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the \
     provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was \
     returned and now may show up in the list.";

/// Names that are looked at in one go where a partition is read from the disk.
const EXTENT: usize = 1000;

pub async fn list(server: &ApiServer, call: &Call, resource: &Resource) -> Result<Response<Body>, Status> {
    View::of(call, resource, true)?;
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
    if continuation.is_some() && matches!(options.age, Age::Exact(_) | Age::NotOlderThan(_)) {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let prefix = options.chosen.prefix();
    let (at, after) = match (&continuation, options.age) {
        (Some(continuation), _) => (continuation.revision, format!("{prefix}{}", continuation.after)),
        (None, Age::Exact(revision)) => (Some(revision), String::new()),
        (None, _) => (None, String::new()),
    };
    if let Age::NotOlderThan(asked) = options.age {
        let current = registry.store().revision();
        if asked > current {
            return Err(failure::too_large_revision(asked, current));
        }
    }
    loop {
        match read(registry, resource, options, &prefix, at, &after).await {
            // More was written during the list than the history holds.
            Err(ReadError::Expired(_)) if at.is_none() => {}
            Err(ReadError::Expired(_)) => return Err(expired(continuation)),
            read => return read.map_err(|error| read_failure(&error)),
        }
    }
}

/// 410, with a token that goes on with what is there now.
fn expired(continuation: Option<Continuation>) -> Status {
    let Some(continuation) = continuation else { return Status::expired(EXPIRED) };
    let token = Continuation { revision: None, ..continuation };
    Status { continuation: token.encode(), ..Status::expired(INCONSISTENT) }
}

async fn read(
    registry: &Registry,
    resource: &Resource,
    options: &ListOptions,
    prefix: &str,
    mut at: Option<u64>,
    after: &str,
) -> Result<(Vec<Object>, ListMeta), ReadError> {
    let chosen = &options.chosen;
    let limit = if options.limit == 0 { EXTENT } else { EXTENT.min(options.limit.saturating_add(1)) };
    let mut after = after.to_owned();
    let (mut items, mut meta, mut last) = (Vec::new(), ListMeta::default(), None);
    loop {
        let snapshot = registry.extent(resource, Extent { prefix, after: &after, limit }, at).await?;
        // What is read on is read at the same revision.
        at = Some(snapshot.revision());
        meta.revision = snapshot.revision();
        let mut rest = snapshot.range(prefix, &after);
        for (name, stored) in rest.by_ref() {
            if !chosen.matches(&stored.0) {
                continue;
            }
            if options.limit > 0 && items.len() == options.limit {
                // One more is there: the page is full and the list is not over.
                let after = last.unwrap_or_default();
                meta.continue_token = Continuation { revision: at, after }.encode();
                if chosen.is_everything() && snapshot.end().is_none() {
                    meta.remaining = Some(rest.count() + 1);
                }
                return Ok((items, meta));
            }
            items.push(stored.0.clone());
            last = name.strip_prefix(prefix).map(str::to_owned);
        }
        drop(rest);
        match snapshot.end() {
            Some(end) => after = end.to_string(),
            None => return Ok((items, meta)),
        }
    }
}

/// The chosen objects of a snapshot.
pub fn chosen(snapshot: &Snapshot<Stored>, chosen: &Chosen) -> Vec<Object> {
    let prefix = chosen.prefix();
    let objects = snapshot.range(&prefix, "").map(|(_, stored)| &stored.0);
    objects.filter(|object| chosen.matches(object)).cloned().collect()
}
