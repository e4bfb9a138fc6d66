//! OpenAPI documents, written from the tables to a stream; nothing of them is kept.
//!
//! They hold what clients branch on: kinds, types, required fields, list and map types, patch keys, enums, paths with
//! their parameters. Defaults are those of `+default` tags only. Upstream: kube-openapi and api/openapi-spec.

use std::io::{self, Write};

use crate::resource::Resource;
use crate::schema::{Schema, Type};

mod definition;
mod operation;
mod path;
pub mod v2;
pub mod v3;
mod writer;

/// What the documents are about.
#[derive(Clone, Copy)]
pub struct Served<'a> {
    pub schema: &'a Schema,
    pub resources: &'a [Resource],
}

/// The two forms of the same facts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// A group and version: `("apps", "v1")`.
type GroupVersion<'a> = (&'a str, &'a str);

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Types that every group version's paths refer to.
const SHARED: [&str; 4] = ["DeleteOptions", "Status", "WatchEvent", "APIResourceList"];

impl<'a> Served<'a> {
    /// The group versions in the catalog's order.
    fn group_versions(&self) -> Vec<GroupVersion<'a>> {
        let mut found: Vec<GroupVersion<'a>> = Vec::new();
        for resource in self.resources {
            let version = (&*resource.group, &*resource.version);
            if !found.contains(&version) {
                found.push(version);
            }
        }
        found
    }

    /// The types that the resources of a group version (or of all) need, by name.
    fn types(&self, only: Option<GroupVersion<'_>>) -> impl Iterator<Item = Type<'a>> {
        let mut reached = Reached::default();
        for resource in self.resources {
            let own = (&*resource.group, &*resource.version);
            if only.is_some_and(|only| only != own) {
                continue;
            }
            let kinds = [&*resource.kind, &*resource.list_kind].map(|kind| (own.0, own.1, kind));
            let others = resource.subresources.iter().map(|sub| (&*sub.group, &*sub.version, &*sub.kind));
            for (group, version, kind) in kinds.into_iter().chain(others) {
                if let Some(ty) = self.schema.of_kind(group, version, kind) {
                    reached.visit(ty);
                }
            }
        }
        for name in SHARED {
            if let Some(ty) = self.schema.find(&format!("{META}{name}")) {
                reached.visit(ty);
            }
        }
        self.schema.types().filter(move |ty| reached.contains(*ty) && definition::is_named(*ty))
    }
}

/// A set of types.
#[derive(Default)]
struct Reached(Vec<bool>);

impl Reached {
    fn contains(&self, ty: Type<'_>) -> bool {
        self.0.get(ty.id() as usize).copied().unwrap_or_default()
    }

    fn visit(&mut self, ty: Type<'_>) {
        let place = ty.id() as usize;
        if self.contains(ty) {
            return;
        }
        if self.0.len() <= place {
            self.0.resize(place + 1, false);
        }
        self.0[place] = true;
        if definition::is_open(ty) {
            return;
        }
        if let Some(element) = ty.element() {
            self.visit(element);
        }
        for field in ty.fields() {
            self.visit(field.ty());
        }
    }
}

/// The document of a group version or of everything, hashed as it would be written: 16 digits.
pub fn hash(write: impl FnOnce(&mut Hasher) -> io::Result<()>) -> String {
    let mut hasher = Hasher(0xcbf2_9ce4_8422_2325);
    write(&mut hasher).expect("hashing does no IO");
    format!("{:016X}", hasher.0)
}

/// FNV-1a over what is written.
pub struct Hasher(u64);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
