//! The catalog rows that controllers watch.

use coracle_api::Resource;

fn row(group: &str, version: &str, plural: &str) -> Resource {
    Resource::find(group, version, plural).expect("the catalog holds every built-in resource")
}

pub fn pods() -> Resource {
    row("", "v1", "pods")
}

pub fn nodes() -> Resource {
    row("", "v1", "nodes")
}

pub fn services() -> Resource {
    row("", "v1", "services")
}

pub fn namespaces() -> Resource {
    row("", "v1", "namespaces")
}

pub fn service_accounts() -> Resource {
    row("", "v1", "serviceaccounts")
}

pub fn config_maps() -> Resource {
    row("", "v1", "configmaps")
}

pub fn leases() -> Resource {
    row("coordination.k8s.io", "v1", "leases")
}

pub fn deployments() -> Resource {
    row("apps", "v1", "deployments")
}

pub fn replica_sets() -> Resource {
    row("apps", "v1", "replicasets")
}

pub fn endpoint_slices() -> Resource {
    row("discovery.k8s.io", "v1", "endpointslices")
}

pub fn replication_controllers() -> Resource {
    row("", "v1", "replicationcontrollers")
}

pub fn jobs() -> Resource {
    row("batch", "v1", "jobs")
}

pub fn cron_jobs() -> Resource {
    row("batch", "v1", "cronjobs")
}

pub fn daemon_sets() -> Resource {
    row("apps", "v1", "daemonsets")
}

pub fn stateful_sets() -> Resource {
    row("apps", "v1", "statefulsets")
}

pub fn revisions() -> Resource {
    row("apps", "v1", "controllerrevisions")
}

pub fn claims() -> Resource {
    row("", "v1", "persistentvolumeclaims")
}

pub fn budgets() -> Resource {
    row("policy", "v1", "poddisruptionbudgets")
}

pub fn volumes() -> Resource {
    row("", "v1", "persistentvolumes")
}

pub fn endpoints() -> Resource {
    row("", "v1", "endpoints")
}

pub fn cluster_roles() -> Resource {
    row("rbac.authorization.k8s.io", "v1", "clusterroles")
}

pub fn quotas() -> Resource {
    row("", "v1", "resourcequotas")
}

pub fn certificate_requests() -> Resource {
    row("certificates.k8s.io", "v1", "certificatesigningrequests")
}
