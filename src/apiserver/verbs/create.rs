//! POST to a collection.

use coracle_api::managed_fields::manager_name;
use coracle_api::{Resource, Status};
use http::{Request, Response, StatusCode, header};

use super::answer;
use crate::admission::Facts;
use crate::authz::reviews;
use crate::body::Body;
use crate::call::{Call, read_body};
use crate::registry::ownership;
use crate::registry::write::Writer;
use crate::server::ApiServer;
use crate::{convert, decode};

pub async fn create(
    server: &ApiServer,
    call: &mut Call,
    resource: &Resource,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let dry_run = call.dry_run()?;
    let body = read_body(&mut request).await?;
    let tree = decode::resource(call, &body, resource)?;
    if reviews::is_review(resource) {
        let mut tree = tree;
        if &*resource.group == "authorization.k8s.io" {
            ownership::track(resource, "", None, &mut tree, &facts(call));
        }
        let inner = &server.inner;
        let (authorizer, tokens) = (&inner.authorizer, inner.authenticator.tokens());
        let review = reviews::answer(authorizer, tokens, &call.user, resource, &call.info.namespace, tree)?;
        return answer::document(call, &review, StatusCode::CREATED);
    }
    if resource.plural == "bindings" && resource.group.is_empty() {
        return super::subresource::bind(server, call, tree, dry_run).await;
    }
    let namespace = call.info.namespace.clone();
    let mut writer = writer(server, call, dry_run);
    let created = writer.create(resource, &namespace, convert::store(resource, tree)).await;
    call.warnings.append(&mut writer.warnings);
    answer::object(call, resource, &created?, StatusCode::CREATED)
}

/// Who writes, for admission and the record of managers.
pub fn facts(call: &Call) -> Facts {
    let info = &call.info;
    let api_version =
        if info.group.is_empty() { info.version.clone() } else { format!("{}/{}", info.group, info.version) };
    let agent = call.header(header::USER_AGENT);
    let manager = manager_name(call.query.get("fieldManager").unwrap_or_default(), agent);
    Facts { user: call.user.clone(), manager, api_version }
}

/// A writer for what `call` wants.
pub fn writer<'a>(server: &'a ApiServer, call: &Call, dry_run: bool) -> Writer<'a> {
    Writer {
        registry: &server.inner.registry,
        admission: &server.inner.admission,
        facts: facts(call),
        dry_run,
        applies: false,
        warnings: Vec::new(),
    }
}
