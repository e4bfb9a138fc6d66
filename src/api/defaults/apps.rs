//! The apps group. Upstream: pkg/apis/apps/v1/defaults.go.

use super::draft::Draft;
use super::pod::{claim_spec, template_spec};

pub(super) fn deployment(deployment: &mut Draft<'_>) {
    let mut spec = deployment.make("spec");
    spec.default("replicas", 1);
    let mut strategy = spec.make("strategy");
    strategy.default_zero("type", "RollingUpdate");
    if strategy.str("type") == "RollingUpdate" {
        let mut rolling = strategy.make("rollingUpdate");
        rolling.default("maxUnavailable", "25%");
        rolling.default("maxSurge", "25%");
    }
    spec.default("revisionHistoryLimit", 10);
    spec.default("progressDeadlineSeconds", 600);
    template(&mut spec);
}

pub(super) fn replica_set(set: &mut Draft<'_>) {
    let mut spec = set.make("spec");
    spec.default("replicas", 1);
    template(&mut spec);
}

/// Where apps/v1 keeps what older versions had as a field of the spec; the registry counts it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) fn daemon_set(set: &mut Draft<'_>) {
    set.make("metadata").make("annotations").default_zero(TEMPLATE_GENERATION, "0");
    let mut spec = set.make("spec");
    let mut strategy = spec.make("updateStrategy");
    strategy.default_zero("type", "RollingUpdate");
    if strategy.str("type") == "RollingUpdate" {
        let mut rolling = strategy.make("rollingUpdate");
        rolling.default("maxUnavailable", 1);
        rolling.default("maxSurge", 0);
    }
    spec.default("revisionHistoryLimit", 10);
    template(&mut spec);
}

pub(super) fn stateful_set(set: &mut Draft<'_>) {
    let mut spec = set.make("spec");
    spec.default_zero("podManagementPolicy", "OrderedReady");
    let mut strategy = spec.make("updateStrategy");
    if strategy.is_zero("type") {
        strategy.set("type", "RollingUpdate");
        strategy.make("rollingUpdate");
    }
    if strategy.str("type") == "RollingUpdate"
        && let Some(mut rolling) = strategy.get("rollingUpdate")
    {
        rolling.default("partition", 0);
        rolling.default("maxUnavailable", 1);
    }
    let mut retention = spec.make("persistentVolumeClaimRetentionPolicy");
    retention.default_zero("whenDeleted", "Retain");
    retention.default_zero("whenScaled", "Retain");
    spec.default("replicas", 1);
    spec.default("revisionHistoryLimit", 10);
    for mut claim in spec.items("volumeClaimTemplates") {
        claim.set("apiVersion", "v1");
        claim.set("kind", "PersistentVolumeClaim");
        claim.make("status").default_zero("phase", "Pending");
        claim_spec(&mut claim.make("spec"));
    }
    template(&mut spec);
}

fn template(spec: &mut Draft<'_>) {
    if let Some(mut template) = spec.get("template") {
        template_spec(&mut template);
    }
}
