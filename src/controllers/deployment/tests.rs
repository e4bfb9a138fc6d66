//! Rollouts played to their end, against pods that become available at once, late or never.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use serde_json::json;

use super::*;

/// A Deployment with its sets, as a server would keep them.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    now: SystemTime,
    /// Sets whose pods never become available.
    broken: Vec<String>,
    deleted: Vec<String>,
}

impl World {
    fn new(spec: serde_json::Value) -> Self {
        let mut deployment = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "d", "generation": 1},
            "spec": {
                "replicas": 10, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
            },
        });
        merge(&mut deployment["spec"], spec);
        Self {
            deployment: serde_json::from_value(deployment).unwrap(),
            sets: Vec::new(),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1000),
            broken: Vec::new(),
            deleted: Vec::new(),
        }
    }

    fn edit(&mut self, spec: serde_json::Value) {
        let mut deployment = serde_json::to_value(&self.deployment).unwrap();
        merge(&mut deployment["spec"], spec);
        deployment["metadata"]["generation"] = (deployment["metadata"]["generation"].as_i64().unwrap() + 1).into();
        self.deployment = serde_json::from_value(deployment).unwrap();
    }

    fn image(&mut self, image: &str) {
        self.edit(json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}));
    }

    /// One reconcile; says whether it wrote anything.
    fn step(&mut self) -> bool {
        let running =
            |new: Option<&str>| self.sets.iter().any(|set| set.metadata.uid.as_deref() != new && counts(set).0 > 0);
        let plan = plan(&self.deployment, self.sets.clone(), &running, self.now).unwrap();
        let before = (self.deployment.clone(), self.sets.clone());
        if let Some(mut set) = plan.create {
            let place = self.sets.len();
            set.metadata.uid = Some(format!("s{place}"));
            set.metadata.creation_timestamp = Some(time::api_time(self.now));
            self.sets.push(set);
        }
        for set in plan.sets.iter().filter(|set| set.changed()) {
            let place = self.sets.iter().position(|it| it.metadata.name == set.object.metadata.name).unwrap();
            self.sets[place] = set.object.clone();
        }
        self.sets.retain(|set| !plan.delete.contains(set.metadata.name.as_ref().unwrap()));
        self.deleted.extend(plan.delete);
        self.deployment.status = Some(plan.status);
        if let Some(revision) = plan.revision {
            annotations::set(&mut self.deployment.metadata, annotations::REVISION, &revision);
        }
        (self.deployment.clone(), self.sets.clone()) != before
    }

    /// Pods follow their sets.
    fn settle(&mut self) {
        for set in &mut self.sets {
            let replicas = set.spec.replicas.unwrap();
            let broken = self.broken.contains(set.metadata.name.as_ref().unwrap());
            let available = if broken { 0 } else { replicas };
            set.status = Some(ReplicaSetStatus {
                replicas,
                ready_replicas: Some(available),
                available_replicas: Some(available),
                observed_generation: set.metadata.generation,
                ..ReplicaSetStatus::default()
            });
        }
        self.now += Duration::from_secs(1);
    }

    /// Reconciles until nothing changes any more.
    fn run(&mut self) {
        for _ in 0..100 {
            let moved = self.step();
            self.settle();
            if !moved {
                self.deployment.status.as_mut().unwrap().terminating_replicas = None;
                return;
            }
        }
        panic!("no end after a hundred steps: {}", self.told());
    }

    /// Sizes of the sets by image, oldest first, with the revision: `one:0@1 two:10@2`.
    fn told(&self) -> String {
        let image = |set: &ReplicaSet| {
            set.spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image.clone().unwrap()
        };
        let set =
            |set: &ReplicaSet| format!("{}:{}@{}", image(set), set.spec.replicas.unwrap(), annotations::revision(set));
        self.sets.iter().map(set).collect::<Vec<_>>().join(" ")
    }

    fn progressing(&self) -> String {
        let conditions = self.deployment.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let it = conditions.iter().find(|it| it.type_.as_deref() == Some("Progressing")).unwrap();
        format!("{} {}", it.status.as_deref().unwrap(), it.reason.as_deref().unwrap())
    }
}

fn counts(set: &ReplicaSet) -> (i32, i32, i32) {
    let status = set.status.clone().unwrap_or_default();
    (status.replicas, status.ready_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0))
}

fn merge(into: &mut serde_json::Value, patch: serde_json::Value) {
    match (into, patch) {
        (serde_json::Value::Object(into), serde_json::Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

#[test]
fn a_rollout_keeps_within_surge_and_unavailability() {
    for (replicas, surge, unavailable) in [
        (10, json!("25%"), json!("25%")),
        (10, json!(1), json!(0)),
        (10, json!(0), json!(1)),
        (3, json!("25%"), json!("25%")),
        (1, json!("100%"), json!("100%")),
        (7, json!(0), json!("10%")),
    ] {
        let strategy = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let mut world = World::new(json!({"replicas": replicas, "strategy": strategy}));
        world.run();
        assert_eq!(world.told(), format!("one:{replicas}@1"));
        assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
        world.image("two");
        let rollout = Rollout::of(&world);
        loop {
            let moved = world.step();
            let total: i32 = world.sets.iter().map(|set| set.spec.replicas.unwrap()).sum();
            let kept: i32 = world.sets.iter().map(|set| counts(set).2.min(set.spec.replicas.unwrap())).sum();
            assert!(total <= rollout.0, "{total} replicas of {} at most: {}", rollout.0, world.told());
            assert!(kept >= rollout.1, "{kept} available of {} at least: {}", rollout.1, world.told());
            world.settle();
            if !moved {
                break;
            }
        }
        assert_eq!(world.told(), format!("one:0@1 two:{replicas}@2"));
        assert_eq!(annotations::get(&world.deployment.metadata, annotations::REVISION), Some("2"));
        assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
    }
}

/// The most and the least there may be.
struct Rollout(i32, i32);

impl Rollout {
    fn of(world: &World) -> Self {
        let rollout = plan::Rollout::new(&world.deployment, &world.deployment.spec, Vec::new());
        Self(rollout.max(), rollout.desired - rollout.unavailable)
    }
}

#[test]
fn undo_goes_back_to_the_old_set_under_a_new_revision() {
    let mut world = World::new(json!({}));
    world.run();
    world.image("two");
    world.run();
    world.image("one");
    world.run();
    assert_eq!(world.told(), "one:10@3 two:0@2");
    assert_eq!(annotations::get(&world.sets[0].metadata, annotations::REVISION_HISTORY), Some("1"));
    for image in ["three", "four", "five"] {
        world.image(image);
        world.run();
    }
    assert_eq!(world.told(), "three:0@4 four:0@5 five:10@6", "history is kept to its limit");
    assert_eq!(world.deleted.len(), 2);
}

#[test]
fn a_broken_rollout_stops_is_late_and_is_undone() {
    let mut world = World::new(json!({}));
    world.run();
    world.image("bad");
    world.step();
    world.broken = vec![world.sets[1].metadata.name.clone().unwrap()];
    world.settle();
    world.run();
    assert_eq!(world.told(), "one:8@1 bad:5@2");
    assert_eq!(world.progressing(), "True ReplicaSetUpdated");
    world.now += Duration::from_secs(700);
    world.run();
    assert_eq!(world.progressing(), "False ProgressDeadlineExceeded");
    world.image("one");
    world.run();
    assert_eq!(world.told(), "one:10@3 bad:0@2");
    assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
}

#[test]
fn scaling_during_a_rollout_keeps_proportions() {
    let mut world = World::new(json!({"strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}));
    world.run();
    world.image("bad");
    world.step();
    world.broken = vec![world.sets[1].metadata.name.clone().unwrap()];
    world.settle();
    world.run();
    assert_eq!(world.told(), "one:8@1 bad:5@2");
    world.edit(json!({"replicas": 15}));
    world.step();
    assert_eq!(world.told(), "one:11@1 bad:7@2");
    world.edit(json!({"replicas": 0}));
    world.run();
    assert_eq!(world.told(), "one:0@1 bad:0@2");
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(json!({}));
    world.run();
    world.edit(json!({"paused": true}));
    world.image("two");
    world.run();
    assert_eq!((world.told(), world.progressing()), ("one:10@1".into(), "Unknown DeploymentPaused".into()));
    world.edit(json!({"replicas": 4}));
    world.run();
    assert_eq!(world.told(), "one:4@1");
    world.edit(json!({"paused": false}));
    world.run();
    assert_eq!(world.told(), "one:0@1 two:4@2");
    assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new(json!({"strategy": {"type": "Recreate", "rollingUpdate": null}}));
    world.run();
    world.image("two");
    world.step();
    assert_eq!(world.told(), "one:0@1");
    world.step();
    assert_eq!(world.told(), "one:0@1", "old pods still run");
    world.settle();
    world.step();
    assert_eq!(world.told(), "one:0@1 two:10@2");
}

#[test]
fn annotations_are_copied_and_histories_cut() {
    let mut world = World::new(json!({}));
    let deployment = &mut world.deployment.metadata;
    annotations::set(deployment, "kubernetes.io/change-cause", "first");
    annotations::set(deployment, "kubectl.kubernetes.io/last-applied-configuration", "{}");
    world.run();
    let set = &world.sets[0].metadata;
    assert_eq!(annotations::get(set, "kubernetes.io/change-cause"), Some("first"));
    assert_eq!(annotations::get(set, "kubectl.kubernetes.io/last-applied-configuration"), None);
    assert_eq!(annotations::get(set, annotations::DESIRED_REPLICAS), Some("10"));
    assert_eq!(annotations::get(set, annotations::MAX_REPLICAS), Some("13"));
}

#[test]
fn an_empty_selector_is_told_and_left_alone() {
    let mut world = World::new(json!({}));
    world.deployment.spec.selector = Default::default();
    let plan = plan(&world.deployment, Vec::new(), &|_| false, world.now).unwrap();
    assert!(plan.warning.is_some() && plan.create.is_none());
    assert_eq!(plan.status.observed_generation, Some(1));
}
