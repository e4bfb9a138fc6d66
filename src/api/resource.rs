//! The catalog: one row per resource, in which everything that differs between resources as data is said once.

/// A resource: a row of the built-in catalog (or, later, one that a CustomResourceDefinition brings). Cheap to
/// clone, compared and hashed by group, version and plural.
#[derive(Clone)]
pub struct Resource {
    row: &'static Row,
}

/// What the table says of a resource.
pub struct Row {
    /// `""` for core.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// As discovery lists them: `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update`, `watch`.
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// The schema's name, as in OpenAPI: `io.k8s.api.core.v1.Pod`.
    pub type_name: &'static str,
    /// The version that is stored; equal to `version` except for second served versions (events.k8s.io, autoscaling/v1).
    pub storage: (&'static str, &'static str),
    /// Field selectors: (label, path of field names into the object), besides metadata.name and metadata.namespace.
    pub selectable: &'static [(&'static str, &'static [&'static str])],
}

/// `pods/log`, `deployments/scale`, ...
pub struct Subresource {
    pub name: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

impl Resource {
    /// A resource of a row that lives outside the catalog.
    pub const fn of_row(row: &'static Row) -> Resource {
        Resource { row }
    }

    /// The row for group, version and plural; `None` when nothing of that name is served.
    pub fn find(group: &str, version: &str, plural: &str) -> Option<Resource> {
        Self::all().find(|resource| resource.group == group && resource.version == version && resource.plural == plural)
    }

    /// The row for group, version and kind.
    pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<Resource> {
        Self::all().find(|resource| resource.group == group && resource.version == version && resource.kind == kind)
    }

    /// Every built-in resource, in the catalog's order.
    pub fn all() -> impl Iterator<Item = Resource> {
        CATALOG.iter().map(|row| Resource { row })
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl std::ops::Deref for Resource {
    type Target = Row;

    fn deref(&self) -> &Row {
        self.row
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.row, other.row)
            || (self.group, self.version, self.plural) == (other.group, other.version, other.plural)
    }
}

impl Eq for Resource {}

impl std::hash::Hash for Resource {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.group, self.version, self.plural).hash(state);
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.api_version(), self.plural)
    }
}

/// Stand-in until the generated catalog (build.rs over `tables/`) replaces it.
static CATALOG: [Row; 0] = [];
