//! What `/metrics` tells about requests.

use std::time::Duration;

use coracle_base::metrics::{Counter, Histogram, Vector, registry};
use http::StatusCode;

use crate::call::Call;
use crate::flight;

pub struct RequestMetrics {
    requests: Vector<Counter>,
    seconds: Vector<Histogram>,
}

impl RequestMetrics {
    pub fn new() -> Self {
        let labels = &["verb", "group", "resource", "code"];
        Self {
            requests: registry().counter("apiserver_request_total", "Requests by verb, resource and code.", labels),
            seconds: registry().histogram("apiserver_request_duration_seconds", "Time to the answer.", &["verb"]),
        }
    }

    pub fn record(&self, call: &Call, code: StatusCode, elapsed: Duration) {
        let info = &call.info;
        // Names of clients' own invention would make series without end.
        let known = info.is_resource && code != StatusCode::NOT_FOUND;
        let (group, resource) = if known { (&*info.group, &*info.resource) } else { ("", "") };
        self.requests.with(&[info.verb, group, resource, code.as_str()]).increment();
        if !flight::is_long_running(call) {
            self.seconds.with(&[info.verb]).observe(elapsed);
        }
    }
}
