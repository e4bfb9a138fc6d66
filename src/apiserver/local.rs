//! The API for components of this process: the same chain without a wire, and reads without HTTP or JSON in between.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_api::{Object, Resource, Status};
use coracle_client::{ObjectEvent, ObjectSource, Selection};
use coracle_store::Watch;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Request, Response};

use crate::authn::User;
use crate::authz::{Attributes, ResourceTarget, Target};
use crate::body::{Body, BoxError};
use crate::peer::Peer;
use crate::registry::{Stored, entry};
use crate::server::ApiServer;
use crate::verbs::list;
use crate::verbs::options::Chosen;
use crate::verbs::watch::judge;

/// Between attempts of a reader that is refused.
const RETRY: Duration = Duration::from_secs(1);

impl ApiServer {
    /// Objects as `user` may read them.
    pub fn source(&self, user: Arc<User>) -> Arc<dyn ObjectSource> {
        Arc::new(LocalSource { server: self.clone(), user })
    }

    /// A tower service for `kube::Client::new`: every request passes the chain as `user`.
    pub fn service(&self, user: Arc<User>) -> LocalService {
        LocalService { server: self.clone(), peer: Peer::component(user) }
    }
}

/// Requests without a wire.
#[derive(Clone)]
pub struct LocalService {
    server: ApiServer,
    peer: Peer,
}

impl<B> tower::Service<Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, peer) = (self.server.clone(), self.peer.clone());
        Box::pin(async move { Ok(server.handle(request.map(Body::boxed), &peer).await) })
    }
}

struct LocalSource {
    server: ApiServer,
    user: Arc<User>,
}

impl ObjectSource for LocalSource {
    fn list_watch(&self, resource: &Resource, selection: Selection) -> BoxStream<'static, Result<ObjectEvent, Status>> {
        let reader =
            Reader { server: self.server.clone(), user: self.user.clone(), resource: resource.clone(), selection };
        let steps = futures::stream::unfold((reader, State::Begin), |(reader, state)| async move {
            let (events, state) = reader.step(state).await;
            Some((futures::stream::iter(events), (reader, state)))
        });
        steps.flatten().boxed()
    }
}

struct Reader {
    server: ApiServer,
    user: Arc<User>,
    resource: Resource,
    selection: Selection,
}

enum State {
    Begin,
    /// Refused: tried again after a while.
    Refused,
    Following(Chosen, Watch<Stored>),
}

type Events = Vec<Result<ObjectEvent, Status>>;

impl Reader {
    async fn step(&self, state: State) -> (Events, State) {
        match state {
            State::Following(chosen, mut cursor) => {
                let changes = match cursor.next().await {
                    Ok(Some(changes)) => changes,
                    Ok(None) => return (vec![Err(Status::service_unavailable("the store is closed"))], State::Refused),
                    // It was too slow: everything is listed again.
                    Err(_) => return self.begin().await,
                };
                let events = changes.iter().filter_map(|change| judge(&chosen, change)).map(|(_, object, at)| {
                    Ok(match at {
                        Some(revision) => ObjectEvent::Deleted(at_revision(object, revision)),
                        None => ObjectEvent::Applied(object.clone()),
                    })
                });
                (events.collect(), State::Following(chosen, cursor))
            }
            State::Refused => {
                tokio::time::sleep(RETRY).await;
                self.begin().await
            }
            State::Begin => self.begin().await,
        }
    }

    async fn begin(&self) -> (Events, State) {
        match self.list().await {
            Ok((events, chosen, cursor)) => (events, State::Following(chosen, cursor)),
            Err(status) => (vec![Err(status)], State::Refused),
        }
    }

    /// The list as events, and the cursor behind it.
    async fn list(&self) -> Result<(Events, Chosen, Watch<Stored>), Status> {
        let Selection { namespace, labels, fields } = &self.selection;
        let namespace = namespace.as_deref().unwrap_or_default();
        for verb in ["list", "watch"] {
            let target = ResourceTarget {
                group: &self.resource.group,
                resource: &self.resource.plural,
                namespace,
                fields,
                ..ResourceTarget::default()
            };
            let attributes = Attributes { user: &self.user, verb, target: Target::Resource(target) };
            self.server.authorizer().check(&attributes)?;
        }
        let chosen = Chosen::new(&self.resource, namespace, labels, fields)?;
        let registry = self.server.registry();
        let snapshot = registry.snapshot(&self.resource).await?;
        let revision = snapshot.revision();
        let cursor = registry.watch(&self.resource, chosen.scope(), revision)?;
        let objects = list::chosen(&snapshot, &chosen);
        let mut events: Events = Vec::with_capacity(objects.len() + 2);
        events.push(Ok(ObjectEvent::Restarted));
        events.extend(objects.into_iter().map(|object| Ok(ObjectEvent::Applied(object))));
        events.push(Ok(ObjectEvent::Synced(revision)));
        Ok((events, chosen, cursor))
    }
}

fn at_revision(object: &Object, revision: u64) -> Object {
    let json = entry::at_revision(object.json(), revision);
    Object::new(object.resource().clone(), revision, json, object.meta().clone())
}
