//! Where the cluster's state is kept: one SQLite file, and one for Events, which nobody would miss.

use std::time::Duration;

use coracle_api::Resource;
use coracle_apiserver::Stored;
use coracle_apiserver::registry::partition;
use coracle_base::task;
use coracle_store::{Options, Sqlite, Store};

use crate::data_directory::DataDirectory;
use crate::error::Error;

/// As upstream's `--event-ttl`.
const EVENT_LIFETIME: Duration = Duration::from_secs(3600);

/// Loads everything into memory.
pub async fn open(directory: &DataDirectory) -> Result<Store<Stored>, Error> {
    let (path, volatile_path) = (directory.server("db/state.db"), directory.server("db/events.db"));
    let events = Resource::find("events.k8s.io", "v1", "events").map(|events| partition::of(&events));
    let options = Options { volatile: events.into_iter().collect(), volatile_path, lifetime: EVENT_LIFETIME };
    let open = move || Store::open(Box::new(Sqlite::open(&path)?), options);
    let opened = task::blocking(open).await.map_err(Error::setup("the store cannot be opened"))?;
    Ok(opened?)
}
