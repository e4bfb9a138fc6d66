//! Jobs that are to go some time after they ended.
//!
//! Upstream: pkg/controller/ttlafterfinished.

use coracle_client::{Controller, Error, Key, Next, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, DeleteParams, Preconditions, PropagationPolicy};

use super::JobView;
use crate::{Scope, resources, time};

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let jobs = scope.views.view::<JobView>(&resources::jobs());
    let controller = Controller::new("ttl-after-finished")
        .on(&jobs, |change| change.present().filter(|job| job.expires.is_some()).map(|job| job.key.clone()));
    let shutdown = scope.shutdown.clone();
    let reconcile = move |key: Key| {
        let (scope, job) = (scope.clone(), jobs.get(&key));
        async move {
            let Some((job, expires)) = job.and_then(|job| job.expires.map(|at| (job, at))) else {
                return Ok(Next::Done);
            };
            let left = time::until(expires, scope.clock.now());
            if !left.is_zero() {
                return Ok(Next::After(left));
            }
            let api: Api<Job> = Api::namespaced(scope.client.clone(), &key.namespace);
            // The version seen, so that a Job whose time was prolonged stays.
            let preconditions =
                Preconditions { uid: Some(job.uid.to_string()), resource_version: Some(job.revision.to_string()) };
            let options = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Foreground),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            found(api.delete(&key.name, &options).await.map_err(Error::from))?;
            Ok(Next::Done)
        }
    };
    async move { controller.run(&shutdown, reconcile).await }.boxed()
}
