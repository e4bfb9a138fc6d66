//! The catalog: one row per resource, in which everything that differs between resources as data is said once.

use std::borrow::Cow;
use std::sync::Arc;

use crate::schema::{Schema, Type};

/// Text of a row: static for built-in resources, owned for those of a CustomResourceDefinition.
pub type Text = Cow<'static, str>;
/// A list of a row.
pub type List<T> = Cow<'static, [T]>;

/// A resource: a row of the built-in catalog, or one that a CustomResourceDefinition brings. Cheap to clone,
/// compared and hashed by group, version and plural.
#[derive(Clone)]
pub struct Resource {
    row: Handle,
}

#[derive(Clone)]
enum Handle {
    Builtin(&'static Row),
    Custom(Arc<Row>),
}

/// What the table says of a resource.
#[derive(Clone, Debug)]
pub struct Row {
    /// `""` for core.
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub list_kind: Text,
    pub plural: Text,
    pub singular: Text,
    pub short_names: List<Text>,
    pub categories: List<Text>,
    pub namespaced: bool,
    /// As discovery lists them: `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update`, `watch`.
    pub verbs: List<Text>,
    pub subresources: List<Subresource>,
    /// The schema's name, as in OpenAPI: `io.k8s.api.core.v1.Pod`.
    pub type_name: Text,
    /// Group and version that are stored; the row's own except for second served versions (events.k8s.io, autoscaling/v1).
    pub storage: (Text, Text),
    /// Field selectors: (label, path of field names into the object), besides metadata.name and metadata.namespace.
    pub selectable: List<(Text, List<Text>)>,
}

/// `pods/log`, `deployments/scale`, ...
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    pub name: Text,
    /// Group, version and kind of what the subresource takes and gives.
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub verbs: List<Text>,
}

impl Resource {
    /// A resource of a row that lives outside the catalog.
    pub const fn of_row(row: &'static Row) -> Resource {
        Resource { row: Handle::Builtin(row) }
    }

    /// The row for group, version and plural; `None` when nothing of that name is served.
    pub fn find(group: &str, version: &str, plural: &str) -> Option<Resource> {
        Self::all().find(|resource| resource.plural == plural && resource.group == group && resource.version == version)
    }

    /// The row for group, version and kind.
    pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<Resource> {
        Self::all().find(|resource| resource.kind == kind && resource.group == group && resource.version == version)
    }

    /// Every built-in resource, in the catalog's order: core first, then the groups as discovery lists them.
    pub fn all() -> impl Iterator<Item = Resource> {
        CATALOG.iter().map(|row| Resource { row: Handle::Builtin(row) })
    }

    /// A resource that is not in the built-in catalog.
    pub fn custom(row: Row) -> Resource {
        Resource { row: Handle::Custom(Arc::new(row)) }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The type of the objects.
    pub fn ty<'s>(&self, schema: &'s Schema) -> Option<Type<'s>> {
        schema.find(&self.type_name)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

impl std::ops::Deref for Resource {
    type Target = Row;

    fn deref(&self) -> &Row {
        match &self.row {
            Handle::Builtin(row) => row,
            Handle::Custom(row) => row,
        }
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq::<Row>(&**self, &**other)
            || (&self.plural, &self.group, &self.version) == (&other.plural, &other.group, &other.version)
    }
}

impl Eq for Resource {}

impl std::hash::Hash for Resource {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.group, &self.version, &self.plural).hash(state);
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.api_version(), self.plural)
    }
}

include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_holds_every_stable_resource_with_a_type() {
        assert_eq!(Resource::all().filter(|resource| resource.group.is_empty()).count(), 17);
        assert_eq!(Resource::all().filter(|resource| !resource.group.is_empty()).count(), 55);
        for resource in Resource::all() {
            let ty = resource.ty(Schema::builtin()).expect("every row has a type");
            assert_eq!(ty.gvk(), Some((&*resource.group, &*resource.version, &*resource.kind)));
            for (label, path) in resource.selectable.iter() {
                let mut at = ty;
                for name in path.iter() {
                    at = at.field(name).unwrap_or_else(|| panic!("{resource:?} {label}: no field {name}")).ty();
                }
            }
            for sub in resource.subresources.iter() {
                let known = Schema::builtin().of_kind(&sub.group, &sub.version, &sub.kind);
                assert!(known.is_some(), "{resource:?}/{} has kind {}", sub.name, sub.kind);
            }
        }
    }

    #[test]
    fn rows_are_found_by_plural_and_by_kind() {
        let pods = Resource::find("", "v1", "pods").expect("pods are served");
        assert_eq!(Resource::of_kind("", "v1", "Pod"), Some(pods.clone()));
        assert_eq!(pods.short_names[0], "po");
        assert_eq!(pods.subresource("eviction").map(|sub| &*sub.group), Some("policy"));
        assert!(Resource::find("apps", "v1beta1", "deployments").is_none());
    }
}
