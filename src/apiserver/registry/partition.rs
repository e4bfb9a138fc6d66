//! Where resources live in the store: one partition for each, named `group/plural` (or `plural` in core).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use coracle_api::Resource;
use coracle_store::Key;

use super::strategy::service::NODE_PORTS;

static PARTITIONS: LazyLock<HashMap<Arc<str>, Resource>> = LazyLock::new(|| {
    let stored = Resource::all().filter(crate::convert::is_stored);
    stored
        .chain([NODE_PORTS.clone()])
        .map(|resource| (name(&resource.group, &resource.plural).into(), resource))
        .collect()
});

static NAMES: LazyLock<HashMap<Resource, Arc<str>>> =
    LazyLock::new(|| Resource::all().map(|resource| (resource.clone(), intern(&resource))).collect());

fn name(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{group}/{plural}") }
}

fn intern(resource: &Resource) -> Arc<str> {
    let name = name(&resource.storage.0, &resource.plural);
    PARTITIONS.get_key_value(name.as_str()).map_or_else(|| Arc::from(name.as_str()), |(known, _)| known.clone())
}

/// The partition of a resource, in whichever version it is served.
pub fn of(resource: &Resource) -> Arc<str> {
    NAMES.get(resource).cloned().unwrap_or_else(|| intern(resource))
}

/// The stored form's resource.
pub fn resource(partition: &str) -> Option<Resource> {
    PARTITIONS.get(partition).cloned()
}

/// The resource whose version is stored for `resource`.
pub fn stored(resource: &Resource) -> Resource {
    if crate::convert::is_stored(resource) {
        return resource.clone();
    }
    self::resource(&of(resource)).unwrap_or_else(|| resource.clone())
}

/// `namespace/name`, or `name` for cluster-scoped objects.
pub fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
    let name = if resource.namespaced { format!("{namespace}/{name}") } else { name.to_owned() };
    Key { partition: of(resource), name: name.into() }
}
