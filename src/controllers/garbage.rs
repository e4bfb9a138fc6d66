//! The garbage collector: what depends on owners that are gone goes too.
//!
//! Upstream: pkg/controller/garbagecollector. The graph is the union of metadata views of all resources: a node's
//! dependents are found under its UID in each of them. What looks absent there is verified by a live read before anything is deleted.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use coracle_api::{Object, Resource};
use coracle_client::{Change, Controller, Error, Item, Key, Next, Project, View, found, rest};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;

use crate::Scope;
use crate::owners::Owner;

mod decide;

use decide::{Decision, Presence, decide};

const WORKERS: usize = 5;
pub(crate) const ORPHAN: &str = "orphan";
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// A node of the graph.
pub struct Node {
    owners: Box<[Owner]>,
    deleting: bool,
    /// Has the finalizer `orphan`: dependents are to be let go first.
    orphans: bool,
    /// Has the finalizer `foregroundDeletion`: dependents are to go first.
    foreground: bool,
}

#[derive(Deserialize)]
struct Decoded {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    owner_references: Box<[Owner]>,
    #[serde(default)]
    finalizers: Vec<Box<str>>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

impl Project for Node {
    fn project(object: &Object) -> Option<Self> {
        let Decoded { metadata } = object.decode().ok()?;
        let has = |name: &str| metadata.finalizers.iter().any(|finalizer| &**finalizer == name);
        Some(Self {
            deleting: metadata.deletion_timestamp.is_some(),
            orphans: has(ORPHAN),
            foreground: has(FOREGROUND),
            owners: metadata.owner_references,
        })
    }

    /// The owners' UIDs.
    fn terms(&self) -> Vec<Box<str>> {
        self.owners.iter().map(|owner| owner.uid.clone()).collect()
    }
}

impl Node {
    fn deletes_dependents(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// An object to look at: its resource's place in the graph, and its name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Place {
    resource: usize,
    key: Key,
}

struct Graph {
    views: Vec<(Resource, View<Node>)>,
    /// By API version and kind.
    kinds: HashMap<(String, String), usize>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let views: Vec<_> = collected().map(|resource| (resource.clone(), scope.views.view::<Node>(&resource))).collect();
    let kinds =
        views.iter().enumerate().map(|(index, (it, _))| ((it.api_version(), it.kind.to_string()), index)).collect();
    let graph = Arc::new(Graph { views, kinds });
    let ready = Arc::new(OnceLock::new());
    let mut controller = Controller::<Place>::new("garbage").workers(WORKERS);
    for (index, (_, view)) in graph.views.iter().enumerate() {
        let (graph, ready) = (graph.clone(), ready.clone());
        controller = controller.on(view, move |change| {
            // Before all views are complete, absence means nothing; the whole graph is looked at when they are.
            if ready.get().is_some() { graph.concerned(index, change) } else { Vec::new() }
        });
    }
    let (shutdown, queue) = (scope.shutdown.clone(), controller.queue());
    async move {
        let complete = futures::future::join_all(graph.views.iter().map(|(_, view)| view.synced()));
        if shutdown.bound(complete).await.is_none() {
            return;
        }
        let _ = ready.set(());
        graph.suspects().into_iter().for_each(|place| queue.add(place));
        let collector = Arc::new(Collector { client: scope.client, graph });
        controller.run(&shutdown, move |place| collector.clone().reconcile(place)).await;
    }
    .boxed()
}

/// What can have owners and be deleted. Events are not worth it, and would not be remembered for long anyway.
fn collected() -> impl Iterator<Item = Resource> {
    let verbs = ["list", "watch", "delete", "get"];
    Resource::all().filter(move |resource| verbs.iter().all(|verb| resource.has_verb(verb))).filter(|resource| {
        resource.kind != "Event" && resource.storage == (resource.group.clone(), resource.version.clone())
    })
}

impl Graph {
    fn dependents(&self, uid: &str) -> Vec<(Place, Arc<Item<Node>>)> {
        let all = self.views.iter().enumerate();
        let found = all.flat_map(|(resource, (_, view))| view.find(uid).into_iter().map(move |node| (resource, node)));
        found.map(|(resource, node)| (Place { resource, key: node.key.clone() }, node)).collect()
    }

    /// Where an owner would be; cluster-scoped owners have no namespace.
    fn place_of(&self, owner: &Owner, namespace: &Arc<str>) -> Option<Place> {
        let resource = *self.kinds.get(&(owner.api_version.to_string(), owner.kind.to_string()))?;
        let namespace = if self.views[resource].0.namespaced { namespace.clone() } else { "".into() };
        Some(Place { resource, key: Key::new(namespace, &*owner.name) })
    }

    fn node(&self, place: &Place) -> Option<Arc<Item<Node>>> {
        self.views[place.resource].1.get(&place.key)
    }

    /// Whether something may have to be done about a node: an owner is not there, or waits for it.
    fn suspect(&self, node: &Item<Node>) -> bool {
        (node.deleting && (node.orphans || node.foreground))
            || node.owners.iter().any(|owner| {
                let there = self.place_of(owner, &node.key.namespace).and_then(|place| self.node(&place));
                there.is_none_or(|there| there.uid != owner.uid || there.deletes_dependents())
            })
    }

    fn suspects(&self) -> Vec<Place> {
        let all = self.views.iter().enumerate();
        let nodes = all.flat_map(|(resource, (_, view))| view.list().into_iter().map(move |node| (resource, node)));
        let suspects = nodes.filter(|(_, node)| self.suspect(node));
        suspects.map(|(resource, node)| Place { resource, key: node.key.clone() }).collect()
    }

    /// What has to be looked at after a change.
    fn concerned(&self, resource: usize, change: &Change<Node>) -> Vec<Place> {
        let item = change.item();
        let mut places = Vec::new();
        if change.present().is_some_and(|node| self.suspect(node)) {
            places.push(Place { resource, key: item.key.clone() });
        }
        let gone = change.present().is_none();
        let began = item.deletes_dependents() && !change.former().is_some_and(|old| old.deletes_dependents());
        if gone || began {
            places.extend(self.dependents(&item.uid).into_iter().map(|(place, _)| place));
        }
        // Owners that wait for their dependents to go, or to stop blocking them.
        for owner in change.former().iter().flat_map(|old| old.owners.iter()) {
            let kept = change.present().is_some_and(|new| new.owners.contains(owner));
            let place = self.place_of(owner, &item.key.namespace).filter(|_| !kept);
            places.extend(place.filter(|place| self.node(place).is_some_and(|it| it.deletes_dependents())));
        }
        places
    }
}

struct Collector {
    client: kube::Client,
    graph: Arc<Graph>,
}

impl Collector {
    async fn reconcile(self: Arc<Self>, place: Place) -> Result<Next, Error> {
        let (resource, _) = &self.graph.views[place.resource];
        let Some(live) = found(rest::metadata(&self.client, resource, &place.key).await)? else {
            return Ok(Next::Done);
        };
        let meta = live.metadata;
        let uid = meta.uid.clone().unwrap_or_default();
        let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
        let dependents = self.graph.dependents(&uid);
        if meta.deletion_timestamp.is_some() {
            if has(ORPHAN) {
                self.orphan(&uid, &dependents).await?;
                return self.drop_finalizer(resource, &place.key, &meta, ORPHAN).await;
            }
            if !has(FOREGROUND) {
                return Ok(Next::Done);
            }
            let blocking = dependents.iter().filter(|(_, node)| blocks(node, &uid));
            let blocking: Vec<_> = blocking.collect();
            if blocking.is_empty() {
                return self.drop_finalizer(resource, &place.key, &meta, FOREGROUND).await;
            }
            for (dependent, _) in blocking.into_iter().filter(|(_, node)| !node.deleting) {
                self.collect(dependent).await?;
            }
            return Ok(Next::Done);
        }
        drop(dependents);
        self.collect(&place).await?;
        Ok(Next::Done)
    }

    /// Deletes an object whose owners are gone or wait for it, or takes references to such owners from it.
    async fn collect(&self, place: &Place) -> Result<(), Error> {
        let (resource, _) = &self.graph.views[place.resource];
        let Some(live) = found(rest::metadata(&self.client, resource, &place.key).await)? else { return Ok(()) };
        let meta = live.metadata;
        if meta.deletion_timestamp.is_some() {
            return Ok(());
        }
        let uid = meta.uid.clone().unwrap_or_default();
        let owners: Vec<Owner> =
            serde_json::from_value(serde_json::to_value(meta.owner_references.unwrap_or_default())?)?;
        let mut presence = Vec::with_capacity(owners.len());
        for owner in &owners {
            presence.push(self.presence(owner, &place.key.namespace).await?);
        }
        let has_dependents = !self.graph.dependents(&uid).is_empty();
        let finalizers = meta.finalizers.unwrap_or_default();
        match decide(&owners, &presence, has_dependents, &finalizers) {
            Decision::Keep => Ok(()),
            Decision::Disown(gone) => {
                let references: Vec<_> = gone.iter().map(|uid| json!({"$patch": "delete", "uid": uid})).collect();
                let patch = json!({"metadata": {"ownerReferences": references, "uid": uid}});
                found(rest::patch(&self.client, resource, &place.key, rest::STRATEGIC_PATCH, &patch).await)?;
                Ok(())
            }
            Decision::Delete(policy) => {
                tracing::debug!(?resource, key = ?place.key, policy, "owners are gone");
                let options = json!({"propagationPolicy": policy, "preconditions": {"uid": uid}});
                found(rest::delete(&self.client, resource, &place.key, &options).await)?;
                Ok(())
            }
        }
    }

    /// Whether an owner exists, by a live read.
    async fn presence(&self, owner: &Owner, namespace: &Arc<str>) -> Result<Presence, Error> {
        let Some(place) = self.graph.place_of(owner, namespace) else {
            // A kind that is not served now may be later: its objects are not ours to judge.
            return Ok(Presence::Solid);
        };
        let (resource, _) = &self.graph.views[place.resource];
        if resource.namespaced && place.key.namespace.is_empty() {
            // A cluster-scoped object cannot have an owner in a namespace; upstream leaves such objects alone.
            return Ok(Presence::Solid);
        }
        let Some(live) = found(rest::metadata(&self.client, resource, &place.key).await)? else {
            return Ok(Presence::Gone);
        };
        let foreground = live.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
        Ok(match live.metadata.uid.as_deref() == Some(&*owner.uid) {
            false => Presence::Gone,
            true if live.metadata.deletion_timestamp.is_some() && foreground => Presence::Waiting,
            true => Presence::Solid,
        })
    }

    /// Lets go of all dependents.
    async fn orphan(&self, uid: &str, dependents: &[(Place, Arc<Item<Node>>)]) -> Result<(), Error> {
        for (place, node) in dependents {
            let patch = json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": uid}], "uid": node.uid}});
            let resource = &self.graph.views[place.resource].0;
            match found(rest::patch(&self.client, resource, &place.key, rest::STRATEGIC_PATCH, &patch).await) {
                // Another object of the name, or the reference is gone already.
                Err(error) if error.reason() == "Invalid" => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    async fn drop_finalizer(
        &self,
        resource: &Resource,
        key: &Key,
        meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        finalizer: &str,
    ) -> Result<Next, Error> {
        let left: Vec<_> = meta.finalizers.iter().flatten().filter(|it| *it != finalizer).collect();
        let patch =
            json!({"metadata": {"finalizers": left, "resourceVersion": meta.resource_version, "uid": meta.uid}});
        found(rest::patch(&self.client, resource, key, rest::MERGE_PATCH, &patch).await)?;
        Ok(Next::Done)
    }
}

/// Whether the node keeps that owner from going.
fn blocks(node: &Node, owner: &str) -> bool {
    node.owners.iter().any(|it| &*it.uid == owner && it.block_owner_deletion)
}
