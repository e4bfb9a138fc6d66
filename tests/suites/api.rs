//! Step one of the main job: kubectl against a server without a node.

use crate::harness::Server;

const CONFIG_MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  labels: {tier: front}
data:
  color: blue
";

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx
spec:
  replicas: 3
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      containers:
      - name: nginx
        image: nginx:1.22
        ports: [{containerPort: 80}]
";

#[test]
fn objects_are_applied_read_changed_and_deleted() {
    let server = Server::control_plane();
    assert_eq!(server.apply(CONFIG_MAP), "configmap/settings created");
    assert_eq!(server.apply(CONFIG_MAP), "configmap/settings unchanged");
    assert_eq!(server.apply(&CONFIG_MAP.replace("blue", "green")), "configmap/settings configured");
    assert_eq!(server.kubectl("get configmap settings -o jsonpath={.data.color}").ok(), "green");
    assert_eq!(server.kubectl("get configmap -l tier=front -o name").ok(), "configmap/settings");
    assert_eq!(server.kubectl("get configmap -l tier=back -o name").ok(), "");
    assert_eq!(server.kubectl("label configmap settings tier=back --overwrite").ok(), "configmap/settings labeled");
    assert_eq!(server.kubectl("annotate configmap settings note=x").ok(), "configmap/settings annotated");
    for (kind, patch) in [
        ("strategic", r#"{"data":{"color":"red"}}"#),
        ("merge", r#"{"data":{"color":"black"}}"#),
        ("json", r#"[{"op":"replace","path":"/data/color","value":"white"}]"#),
    ] {
        let arguments = ["patch", "configmap", "settings", "--type", kind, "-p", patch];
        assert_eq!(server.kubectl_args(&arguments, "").ok(), "configmap/settings patched");
    }
    assert_eq!(server.kubectl("get configmap settings -o jsonpath={.data.color}").ok(), "white");
    assert_eq!(
        server.kubectl("delete configmap settings").ok(),
        "configmap \"settings\" deleted from default namespace"
    );
    let gone = server.kubectl("get configmap settings").error();
    assert_eq!(gone, "Error from server (NotFound): configmaps \"settings\" not found");
}

#[test]
fn server_side_apply_owns_fields_and_names_conflicts() {
    let server = Server::control_plane();
    let apply = |manager: &str, color: &str| {
        let manager = format!("--field-manager={manager}");
        server.kubectl_args(&["apply", "--server-side", &manager, "-f", "-"], &CONFIG_MAP.replace("blue", color))
    };
    assert_eq!(apply("one", "blue").ok(), "configmap/settings serverside-applied");
    let conflict = apply("two", "green").error();
    assert!(conflict.contains("conflict with \"one\": .data.color"), "{conflict}");
    let managers =
        server.kubectl("get configmap settings --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}");
    assert_eq!(managers.ok(), "one");
}

#[test]
fn tables_discovery_and_explain_read_as_upstream() {
    let server = Server::control_plane();
    eprintln!("/readyz ok {:?} after exec", server.ready_after);
    server.apply(DEPLOYMENT);
    let table = server.kubectl("get deployments").ok();
    assert!(table.starts_with("NAME    READY   UP-TO-DATE   AVAILABLE   AGE"), "{table}");
    assert!(server.kubectl("api-resources").ok().contains("deployments"));
    assert!(server.kubectl("explain deployment.spec.replicas").ok().contains("<integer>"));
    let changed = server.kubectl_args(&["diff", "-f", "-"], &DEPLOYMENT.replace("replicas: 3", "replicas: 4"));
    assert!(changed.code == 1 && changed.stdout.contains("+  replicas: 4"), "{changed:?}");
    assert_eq!(server.kubectl("auth can-i create pods").ok(), "yes");
    assert!(server.kubectl("version").ok().contains("Server Version: v1.37"));
    let misspelled = CONFIG_MAP.replace("\ndata:", "\ndate:");
    let unknown = server.kubectl_args(&["apply", "-f", "-"], &misspelled).error();
    assert!(unknown.contains("unknown field \"date\""), "{unknown}");
}

#[test]
fn a_watch_sees_every_change() {
    let server = Server::control_plane();
    let mut watch = server
        .kubectl_command(&["get", "configmap", "-l", "tier=front", "-w", "-o", "jsonpath={.data.color}{\"\\n\"}"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let output = std::io::BufReader::new(watch.stdout.take().expect("it is piped"));
    let mut lines = std::io::BufRead::lines(output);
    for color in ["blue", "green", "red"] {
        server.apply(&CONFIG_MAP.replace("blue", color));
        assert_eq!(lines.next().expect("the watch goes on").expect("it is text"), color);
    }
    watch.kill().expect("it runs");
    let _ = watch.wait();
}
