//! Step four of the main job: a Service answers by address, node port and name, from pods and from the host.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::namespace::NODE_IP;
use crate::harness::{Server, eventually};

const WEB: &str = "
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
      - {name: nginx, image: 'nginx:1.22', ports: [{containerPort: 80}], readinessProbe: {exec: {command: [test, '!', -e, /tmp/away]}, periodSeconds: 1, failureThreshold: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: nginx}
spec:
  type: NodePort
  selector: {app: nginx}
  ports: [{port: 80, targetPort: 80, nodePort: 30080}]
";

fn from_host(server: &Server, url: &str) -> Option<String> {
    let answer = server.namespace.command("curl").args(["-s", "--max-time", "2", url]).output().expect("curl starts");
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

fn names_that_answer(server: &Server, url: &str) -> BTreeSet<String> {
    (0..40).filter_map(|_| from_host(server, url)).collect()
}

#[test]
fn a_service_answers_and_spreads() {
    let server = Server::with_node(&["nginx.tar.gz", "busybox.tar"]);
    server.apply(WEB);
    server.kubectl("wait --for=condition=Available deployment/nginx --timeout=30s").ok();
    let address = server.kubectl("get service nginx -o jsonpath={.spec.clusterIP}").ok();
    let cluster = format!("http://{address}/hostname");
    eventually("all three answer", Duration::from_secs(10), || {
        (names_that_answer(&server, &cluster).len() == 3).then_some(())
    });
    assert_eq!(names_that_answer(&server, &format!("http://{NODE_IP}:30080/hostname")).len(), 3);

    server.kubectl("run client --image=busybox:1.35 --command -- sleep 3600").ok();
    server.kubectl("wait --for=condition=Ready pod/client --timeout=30s").ok();
    for name in ["nginx", "nginx.default", "nginx.default.svc.cluster.local", address.as_str()] {
        let said = server.kubectl(&format!("exec client -- wget -q -O - http://{name}/")).ok();
        assert_eq!(said, "Welcome to nginx!", "by {name}");
    }
    // Each pod reaches itself through the Service, in time: forty tries from one pod reach all three.
    let pod = server.kubectl("get pods -l app=nginx -o jsonpath={.items[0].metadata.name}").ok();
    let script = format!("for i in $(seq 40); do wget -q -O - http://{address}/hostname; done | sort -u | wc -l");
    assert_eq!(server.kubectl_args(&["exec", &pod, "--", "sh", "-c", &script], "").ok(), "3", "hairpin");

    server.kubectl(&format!("exec {pod} -- touch /tmp/away")).ok();
    server.kubectl(&format!("wait --for=condition=Ready=false pod/{pod} --timeout=20s")).ok();
    eventually("the pod that is not ready gets none", Duration::from_secs(5), || {
        let names = names_that_answer(&server, &cluster);
        (names.len() == 2 && !names.contains(&pod)).then_some(())
    });
}
