//! Step three of the main job: a Deployment's pods run, heal and answer kubectl.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Server, eventually};

const NGINX: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx}
spec:
  replicas: 3
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: nginx
        image: nginx:1.22
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
";

const IMAGES: &[&str] = &["nginx.tar.gz", "nginx-next.tar.zst", "busybox.tar"];

#[test]
fn a_deployment_runs_rolls_and_heals() {
    let server = Server::with_node(IMAGES);
    server.apply(NGINX);
    let start = Instant::now();
    server.kubectl("wait --for=condition=Available deployment/nginx --timeout=30s").ok();
    eprintln!("three replicas available {:?} after apply", start.elapsed());
    assert_eq!(server.kubectl("get deployment nginx -o jsonpath={.status.readyReplicas}").ok(), "3");

    server.kubectl("set image deployment/nginx nginx=nginx:1.23").ok();
    server.kubectl("rollout status deployment/nginx --timeout=60s").ok();
    let history = server.kubectl("rollout history deployment/nginx").ok();
    assert!(history.contains('2'), "{history}");
    server.kubectl("rollout undo deployment/nginx").ok();
    server.kubectl("rollout status deployment/nginx --timeout=60s").ok();
    let images = server.kubectl("get deployment nginx -o jsonpath={.spec.template.spec.containers[0].image}").ok();
    assert_eq!(images, "nginx:1.22");
    server.kubectl("rollout restart deployment/nginx").ok();
    server.kubectl("rollout status deployment/nginx --timeout=60s").ok();
    server.kubectl("scale deployment/nginx --replicas=1").ok();
    eventually("one pod is left", Duration::from_secs(30), || {
        let names = server.kubectl("get pods -l app=nginx -o name").ok();
        (names.lines().count() == 1).then_some(())
    });

    let pod = server.kubectl("get pods -l app=nginx -o name").ok();
    server.kubectl(&format!("delete {pod}")).ok();
    server.kubectl("wait --for=condition=Available deployment/nginx --timeout=30s").ok();
    assert_ne!(server.kubectl("get pods -l app=nginx -o name").ok(), pod);
}

#[test]
fn logs_exec_cp_and_port_forward_reach_a_container() {
    let server = Server::with_node(IMAGES);
    server.kubectl("run web --image=nginx:1.22 --port=80").ok();
    server.kubectl("wait --for=condition=Ready pod/web --timeout=30s").ok();
    assert_eq!(server.kubectl("exec web -- hostname").ok(), "web");
    let echoed = server.kubectl_args(&["exec", "-i", "web", "--", "cat"], "through standard input");
    assert_eq!(echoed.ok(), "through standard input");
    let code = server.kubectl_args(&["exec", "web", "--", "sh", "-c", "exit 7"], "");
    assert_eq!(code.code, 7, "{}", code.stderr);

    let mut forward = server
        .kubectl_command(&["port-forward", "pod/web", "18080:80"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let body = eventually("the forwarded port answers", Duration::from_secs(10), || {
        let answer = server.namespace.command("curl").args(["-s", "http://127.0.0.1:18080/"]).output().ok()?;
        answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
    });
    assert_eq!(body.trim(), "Welcome to nginx!");
    forward.kill().expect("it runs");
    let _ = forward.wait();
    assert!(server.kubectl("logs web").ok().contains("GET / HTTP/1.1"));
    assert!(server.kubectl("describe pod web").ok().contains("Started"));

    let file = server.directory.path().join("copied");
    std::fs::write(&file, "cargo").expect("it is written");
    server.kubectl(&format!("cp {} web:/tmp/copied", file.display())).ok();
    assert_eq!(server.kubectl("exec web -- cat /tmp/copied").ok(), "cargo");
}

#[test]
fn probes_restart_and_take_out_of_service() {
    let server = Server::with_node(IMAGES);
    server.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: probed, labels: {app: probed}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.35
    command: [sh, -c, 'touch /tmp/alive /tmp/ready; sleep 3600']
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1}
    readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
",
    );
    server.kubectl("wait --for=condition=Ready pod/probed --timeout=30s").ok();
    server.kubectl("exec probed -- rm /tmp/ready").ok();
    server.kubectl("wait --for=condition=Ready=false pod/probed --timeout=30s").ok();
    server.kubectl("exec probed -- rm /tmp/alive").ok();
    server.kubectl("wait --for=jsonpath={.status.containerStatuses[0].restartCount}=1 pod/probed --timeout=60s").ok();
    server.kubectl("wait --for=condition=Ready pod/probed --timeout=60s").ok();
}

#[test]
fn volumes_and_environment_carry_what_the_api_holds() {
    let server = Server::with_node(IMAGES);
    server.kubectl("create configmap settings --from-literal=color=blue").ok();
    server.kubectl("create secret generic password --from-literal=word=open").ok();
    server.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  initContainers:
  - {name: first, image: busybox:1.35, command: [sh, -c, 'echo prepared > /work/file'], volumeMounts: [{name: work, mountPath: /work}]}
  containers:
  - name: main
    image: busybox:1.35
    command: [sh, -c, 'cat /work/file /settings/color /secret/word; echo; echo $COLOR $NODE; ls /var/run/secrets/kubernetes.io/serviceaccount']
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    volumeMounts:
    - {name: work, mountPath: /work}
    - {name: settings, mountPath: /settings}
    - {name: secret, mountPath: /secret}
  volumes:
  - {name: work, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: secret, secret: {secretName: password}}
",
    );
    server.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/reader --timeout=30s").ok();
    let said = server.kubectl("logs reader").ok();
    assert_eq!(said, "prepared\nblueopen\nblue default\nca.crt\nnamespace\ntoken");
}
