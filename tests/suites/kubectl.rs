//! The everyday verbs of kubectl, each with what it must print or leave behind.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Output, Server, eventually};

/// The machine's own kubectl, where there is one; older than the server on most machines.
fn of_the_machine() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|file| file.is_file())
}

impl Server {
    /// `coracle kubectl <arguments>` with this server's kubeconfig.
    fn built_in(&self, arguments: &str) -> Output {
        let kubeconfig = self.kubeconfig.to_str().expect("UTF-8");
        let all: Vec<&str> =
            ["kubectl", "--kubeconfig", kubeconfig].into_iter().chain(arguments.split_whitespace()).collect();
        self.coracle(&all)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.directory.path().join(name);
        std::fs::write(&file, text).expect("it is written");
        file
    }
}

/// Arguments split at `|`, for those with spaces in them.
#[track_caller]
fn piped(server: &Server, arguments: &str) -> String {
    server.kubectl_args(&arguments.split('|').collect::<Vec<_>>(), "").ok()
}

const CREATED: &[(&str, &str)] = &[
    ("namespace apart", "namespace/apart created"),
    ("deployment web --image=nginx:1.22 --replicas=2 --port=80", "deployment.apps/web created"),
    ("configmap settings --from-literal=color=blue", "configmap/settings created"),
    ("secret generic word --from-literal=a=open", "secret/word created"),
    ("job once --image=busybox:1.35 -- true", "job.batch/once created"),
    ("cronjob often --image=busybox:1.35 --schedule=@hourly -- true", "cronjob.batch/often created"),
    ("service clusterip plain --tcp=80:8080", "service/plain created"),
    ("serviceaccount robot", "serviceaccount/robot created"),
    ("role reader --verb=get,list --resource=pods", "role.rbac.authorization.k8s.io/reader created"),
    (
        "rolebinding reads --role=reader --serviceaccount=default:robot",
        "rolebinding.rbac.authorization.k8s.io/reads created",
    ),
    ("clusterrole nodes --verb=get --resource=nodes", "clusterrole.rbac.authorization.k8s.io/nodes created"),
    ("ingress door --rule=a.example/=plain:80", "ingress.networking.k8s.io/door created"),
    ("poddisruptionbudget floor --selector=app=web --min-available=1", "poddisruptionbudget.policy/floor created"),
    ("priorityclass high --value=10", "priorityclass.scheduling.k8s.io/high created"),
];

/// What `describe` of each says, beside its name.
const DESCRIBED: &[(&str, &[&str])] = &[
    ("deployment/web", &["2 desired", "RollingUpdate", "nginx:1.22", "ScalingReplicaSet"]),
    ("replicaset", &["Controlled By:  Deployment/web", "SuccessfulCreate"]),
    ("pod/single", &["kube-api-access", "BestEffort", "FailedScheduling"]),
    ("service/web", &["NodePort:", "app=web", "TargetPort:"]),
    ("configmap/settings", &["color:", "blue"]),
    ("secret/word", &["a:  4 bytes"]),
    ("job/once", &["Completions:      1", "busybox:1.35"]),
    ("cronjob/often", &["@hourly", "Concurrency Policy:            Allow"]),
    ("namespace/apart", &["Active"]),
    ("serviceaccount/robot", &["default"]),
    ("role/reader", &["[get list]"]),
    ("rolebinding/reads", &["ServiceAccount  robot  default"]),
    ("ingress/door", &["a.example", "plain:80"]),
    ("poddisruptionbudget/floor", &["app=web"]),
    ("hpa/web", &["Deployment/web", "Max replicas:"]),
    ("node/boat", &["Capacity:", "cpu:", "Taints:"]),
    ("priorityclass/high", &["10"]),
    ("endpointslice", &["AddressType"]),
];

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: boat}
spec: {unschedulable: true}
status: {capacity: {cpu: 1, memory: 1Gi, pods: 10}, allocatable: {cpu: 1, memory: 1Gi, pods: 10}}
";

#[test]
fn objects_without_a_node() {
    let server = Server::control_plane();
    server.apply(NODE);
    for (what, said) in CREATED {
        assert_eq!(server.kubectl(&format!("create {what}")).ok(), *said);
    }
    let again = server.kubectl("create namespace apart").error();
    assert_eq!(again, "Error from server (AlreadyExists): namespaces \"apart\" already exists");
    assert_eq!(
        server.kubectl("run single --image=nginx:1.22 --labels=run=single --port=80").ok(),
        "pod/single created"
    );
    let dry = server.kubectl("run other --image=nginx:1.22 --dry-run=server -o jsonpath={.spec.restartPolicy}").ok();
    assert_eq!(dry, "Always", "the server filled it in");
    server.kubectl("get pod other").error();
    assert_eq!(server.kubectl("expose deployment web --port=80 --type=NodePort").ok(), "service/web exposed");
    assert_eq!(
        server.kubectl("autoscale deployment web --min=1 --max=3").ok().lines().last(),
        Some("horizontalpodautoscaler.autoscaling/web autoscaled")
    );

    eventually("the pods and their events are there", Duration::from_secs(10), || {
        let events = server.kubectl("events --no-headers").ok();
        let failed = server.kubectl("get events --field-selector=reason=FailedScheduling -o name").ok();
        (failed.lines().count() >= 4 && events.lines().count() >= 6).then_some(())
    });
    for (object, facts) in DESCRIBED {
        let said = server.kubectl(&format!("describe {object}")).ok();
        for fact in *facts {
            assert!(said.contains(fact), "describe {object} without {fact}:\n{said}");
        }
    }
    assert!(server.kubectl("events --for=pod/single").ok().contains("FailedScheduling"));
    reads(&server);
    patches(&server);
    replaces_and_diffs(&server);
    asks_who_may_what(&server);
    deletes(&server);
}

fn reads(server: &Server) {
    let wide = server.kubectl("get pod single -o wide").ok();
    assert!(wide.contains("NOMINATED NODE") && wide.contains("<none>"), "{wide}");
    let yaml = server.kubectl("get pod single -o yaml").ok();
    assert!(yaml.starts_with("apiVersion: v1\nkind: Pod\n") && yaml.contains("  name: single\n"), "{yaml}");
    let json: serde_json::Value =
        serde_json::from_str(&server.kubectl("get pods -o json").ok()).expect("kubectl prints JSON");
    assert_eq!(json["items"].as_array().map(Vec::len), Some(4), "the Job's, the bare one, the Deployment's two");
    assert_eq!(
        server.kubectl("get pods -o jsonpath={.items[*].spec.containers[0].image}").ok(),
        "busybox:1.35 nginx:1.22 nginx:1.22 nginx:1.22"
    );
    let everywhere = server.kubectl("get configmaps -A").ok();
    assert!(everywhere.starts_with("NAMESPACE") && everywhere.contains("kube-system"), "{everywhere}");
    assert_eq!(server.kubectl("get pods -A -o name --field-selector=metadata.name=single").ok(), "pod/single");
    assert_eq!(server.kubectl("get pods -o name --field-selector=status.phase=Running").ok(), "");
    assert_eq!(
        server.kubectl("get pods -o name --field-selector=spec.nodeName=,metadata.name=single").ok(),
        "pod/single"
    );
    assert_eq!(server.kubectl("get pods -A -o name --chunk-size=1 -l run=single").ok(), "pod/single");
    let sorted = server.kubectl("get configmaps --sort-by=.metadata.name -o custom-columns=N:.metadata.name").ok();
    assert_eq!(sorted, "N\nkube-root-ca.crt\nsettings");
    assert!(server.kubectl("get all").ok().contains("deployment.apps/web"));
    assert_eq!(server.kubectl("get --raw /readyz").ok(), "ok");
    assert!(server.kubectl("api-versions").ok().lines().any(|line| line == "networking.k8s.io/v1"));
    assert!(server.kubectl("rollout history deployment/web").ok().contains("1 "));
    let revision = server.kubectl("rollout history deployment/web --revision=1").ok();
    assert!(revision.contains("nginx:1.22"), "{revision}");
    let version = server.kubectl("version -o json").ok();
    assert!(version.contains("\"gitVersion\": \"v1.37.2+coracle"), "{version}");
    for kind in ["nodes", "pods"] {
        assert_eq!(server.kubectl(&format!("top {kind}")).error(), "error: Metrics API not available");
    }
    let late = server.kubectl("wait --for=condition=Ready pod/single --timeout=0.2s").error();
    assert!(late.contains("timed out waiting for the condition on pods/single"), "{late}");
    server.kubectl("wait --for=jsonpath={.data.color}=blue configmap/settings --timeout=5s").ok();
    server.kubectl("wait --for=create configmap/settings --timeout=5s").ok();
}

fn patches(server: &Server) {
    let image = |server: &Server| {
        server.kubectl("get deployment web -o jsonpath={.spec.template.spec.containers[*].image}").ok()
    };
    let strategic = r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"busybox:1.35"}]}}}}"#;
    piped(server, &format!("patch|deployment|web|-p|{strategic}"));
    assert_eq!(image(server).split(' ').count(), 2, "merged by name");
    let merge = strategic.replace("side", "nginx");
    piped(server, &format!("patch|deployment|web|--type=merge|-p|{merge}"));
    assert_eq!(image(server), "busybox:1.35", "the list is replaced");
    let json = r#"[{"op":"test","path":"/spec/replicas","value":2},{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"nginx:1.23"}]"#;
    piped(server, &format!("patch|deployment|web|--type=json|-p|{json}"));
    assert_eq!(image(server), "nginx:1.23");
    let failed =
        server.kubectl_args(&["patch", "deployment", "web", "--type=json", "-p", &json.replace(":2}", ":7}")], "");
    let failed = failed.error();
    assert!(failed.starts_with("The request is invalid"), "{failed}");
    let scaled = piped(server, r#"patch|deployment|web|--subresource=scale|--type=merge|-p|{"spec":{"replicas":1}}"#);
    assert_eq!(scaled, "scale.autoscaling/web patched");
    assert_eq!(server.kubectl("get deployment web -o jsonpath={.spec.replicas}").ok(), "1");
    server.kubectl("rollout undo deployment/web --to-revision=1").ok();
    assert_eq!(image(server), "nginx:1.22");
    pauses(server);
    assert_eq!(image(server), "nginx:1.22");
}

/// A deployment that is paused rolls nothing out until it is resumed.
fn pauses(server: &Server) {
    let images =
        || server.kubectl("get replicasets -o jsonpath={.items[*].spec.template.spec.containers[0].image}").ok();
    assert_eq!(server.kubectl("rollout pause deployment/web").ok(), "deployment.apps/web paused");
    server.kubectl("set image deployment/web nginx=nginx:1.24").ok();
    let generation = server.kubectl("get deployment web -o jsonpath={.metadata.generation}").ok();
    let observed =
        format!("wait --for=jsonpath={{.status.observedGeneration}}={generation} deployment/web --timeout=20s");
    server.kubectl(&observed).ok();
    assert!(!images().contains("nginx:1.24"), "{}", images());
    assert_eq!(server.kubectl("rollout resume deployment/web").ok(), "deployment.apps/web resumed");
    eventually("it is rolled out", Duration::from_secs(20), || images().contains("nginx:1.24").then_some(()));
    server.kubectl("set image deployment/web nginx=nginx:1.22").ok();
}

fn replaces_and_diffs(server: &Server) {
    let manifest = |color: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{color: {color}}}\n")
    };
    let uid = |server: &Server| server.kubectl("get configmap settings -o jsonpath={.metadata.uid}").ok();
    let first = uid(server);
    let file = server.write("settings.yaml", &manifest("green"));
    let diff = server.kubectl(&format!("diff -f {}", file.display()));
    assert!(diff.code == 1 && diff.stdout.contains("-  color: blue\n+  color: green"), "{diff:?}");
    assert_eq!(server.kubectl(&format!("replace -f {}", file.display())).ok(), "configmap/settings replaced");
    assert_eq!(server.kubectl(&format!("diff -f {}", file.display())).ok(), "");
    assert_eq!(uid(server), first);
    server.kubectl(&format!("replace --force -f {}", file.display())).ok();
    assert_ne!(uid(server), first, "deleted and created");
    let stale = format!("{}\n", manifest("red").replace("{name: settings}", "{name: settings, resourceVersion: '1'}"));
    let conflict = server.kubectl_args(&["replace", "-f", "-"], &stale).error();
    assert!(conflict.contains("(Conflict)") && conflict.contains("the object has been modified"), "{conflict}");
    let absent = server.kubectl_args(&["replace", "-f", "-"], &manifest("red").replace("settings", "absent")).error();
    assert!(absent.contains("NotFound"), "{absent}");
    if let Some(kubectl) = of_the_machine() {
        let run = |arguments: &str| -> Output {
            let mut command = server.namespace.command(&kubectl);
            command.env("HOME", server.directory.path()).arg("--kubeconfig").arg(&server.kubeconfig);
            command.args(arguments.split_whitespace()).output().expect("kubectl starts").into()
        };
        let older = server.write("older.yaml", &manifest("white"));
        run(&format!("apply -f {}", older.display())).ok();
        assert_eq!(run(&format!("apply -f {}", older.display())).ok(), "configmap/settings unchanged");
        assert_eq!(run("get configmap settings -o jsonpath={.data.color}").ok(), "white");
        assert!(run("get deployments").ok().contains("web"));
    }
    built_in_verbs(server, &file);
}

fn built_in_verbs(server: &Server, file: &Path) {
    server.built_in(&format!("apply -f {}", server.write("aboard.yaml", NODE).display())).ok();
    assert!(server.built_in(&format!("get -f {}", file.display())).ok().contains("settings"));
    let table = server.built_in("get configmap settings").ok();
    assert!(
        table.starts_with("NAME") && table.lines().nth(1).is_some_and(|row| row.starts_with("settings")),
        "{table}"
    );
    assert_eq!(server.built_in("get pods -l run=single -o name").ok(), "pod/single");
    server.built_in("wait --for=create configmap/settings --timeout=5s").ok();
    let gone = server.built_in("get configmap absent").error();
    assert_eq!(gone, "Error from server (NotFound): configmaps \"absent\" not found");
}

fn asks_who_may_what(server: &Server) {
    let robot = "--as=system:serviceaccount:default:robot";
    assert_eq!(server.kubectl(&format!("auth can-i list pods {robot}")).ok(), "yes");
    let no = server.kubectl(&format!("auth can-i delete pods {robot}"));
    assert_eq!((no.code, no.stdout.trim()), (1, "no"));
    let rules = server.kubectl(&format!("auth can-i --list {robot}")).ok();
    assert!(rules.lines().any(|line| line.starts_with("pods ") && line.contains("[get list]")), "{rules}");
    let me = server.kubectl("auth whoami").ok();
    assert!(me.contains("system:admin") && me.contains("system:masters"), "{me}");
    let refused = server.kubectl(&format!("get secrets {robot}")).error();
    assert!(refused.starts_with("Error from server (Forbidden): secrets is forbidden: User"), "{refused}");
    let token = server.kubectl("create token robot").ok();
    assert_eq!(token.split('.').count(), 3, "a JWT");
}

fn deletes(server: &Server) {
    let mut watch = server
        .kubectl_command(&["get", "pods", "-l", "run=single", "-w", "--output-watch-events"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    let mut next = || lines.next().expect("the watch goes on").expect("it is text");
    assert!(next().starts_with("EVENT"), "the columns");
    let added = next();
    assert!(added.starts_with("ADDED") && added.contains("single"), "{added}");
    server.kubectl("delete pods -l run=single --force --grace-period=0").ok();
    while !next().starts_with("DELETED") {}
    watch.kill().expect("it runs");
    let _ = watch.wait();

    server.kubectl("delete deployment web --cascade=orphan").ok();
    assert_ne!(server.kubectl("get replicasets -l app=web -o name").ok(), "", "they are orphans");
    server.kubectl("delete replicasets --all").ok();
    server.kubectl("delete job once").ok();
    eventually("their pods are collected", Duration::from_secs(10), || {
        server.kubectl("get pods -o name").ok().is_empty().then_some(())
    });
    let file = server.directory.path().join("settings.yaml");
    server.kubectl(&format!("delete -f {}", file.display())).ok();
    server.kubectl(&format!("delete -f {}", file.display())).error();
    server.kubectl(&format!("delete -f {} --ignore-not-found", file.display())).ok();
    server.built_in("delete secret word").ok();
    server.kubectl("get secret word").error();
    server.kubectl("delete namespace apart --timeout=20s").ok();
    server.kubectl("get namespace apart").error();
    server.kubectl("delete services --all").ok();
    let ours = eventually("the API's own Service comes back", Duration::from_secs(10), || {
        let address = server.kubectl("get service kubernetes -o jsonpath={.spec.clusterIP}");
        (address.code == 0).then(|| address.ok())
    });
    assert_eq!(ours, "10.43.0.1", "with its address");
}
