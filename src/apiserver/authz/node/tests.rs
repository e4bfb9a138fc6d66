//! What a node may do, against a namespace with one of its pods.

use super::*;
use crate::authn::service_account::tests::Objects;

const POD: &str = r#"{"metadata":{"uid":"p"},"spec":{
    "nodeName":"n1","serviceAccountName":"web","imagePullSecrets":[{"name":"pull"}],
    "containers":[{"env":[{"valueFrom":{"secretKeyRef":{"name":"env","key":"k"}}}],"envFrom":[{"configMapRef":{"name":"all"}}]}],
    "volumes":[{"secret":{"secretName":"tls"}},{"projected":{"sources":[{"configMap":{"name":"ca"}}]}},
               {"persistentVolumeClaim":{"claimName":"data"}}]}}"#;
const MIRROR: &str = r#"{"metadata":{"uid":"m","annotations":{"kubernetes.io/config.mirror":"x"}},
    "spec":{"nodeName":"n1","volumes":[{"secret":{"secretName":"stolen"}}]}}"#;
const VOLUME: &str = r#"{"metadata":{"uid":"v"},"spec":{"claimRef":{"namespace":"web","name":"data"}}}"#;

fn check(asked: &str, expected: bool) {
    let objects = Objects::default().with("pods", "web", "a", POD).with("pods", "web", "mirror", MIRROR).with(
        "persistentvolumes",
        "",
        "pv",
        VOLUME,
    );
    let words: Vec<&str> = asked.split(' ').collect();
    let [node, verb, what, namespace, name] = words[..5] else { panic!("{asked}") };
    let (resource, group) = what.split_once('.').unwrap_or((what, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let empty = |word: &'static str| if word == "-" { "" } else { word };
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let user = User::new(format!("system:node:{node}"), &[NODES]);
    let target = ResourceTarget {
        group,
        resource,
        subresource,
        namespace: empty(leak(namespace)),
        name: empty(leak(name)),
        fields: words.get(5).copied().unwrap_or_default(),
    };
    let decision = authorize(&Attributes { user: &user, verb, target: Target::Resource(target) }, &objects).unwrap();
    assert_eq!(decision.allowed(), expected, "{asked}: {decision:?}");
}

#[test]
fn a_node_reads_what_its_pods_name() {
    for name in ["pull", "env", "tls"] {
        check(&format!("n1 get secrets web {name}"), true);
        check(&format!("n2 get secrets web {name}"), false);
    }
    for name in ["all", "ca"] {
        check(&format!("n1 watch configmaps web {name}"), true);
    }
    check("n1 get secrets web other", false);
    check("n1 get secrets web stolen", false);
    check("n1 get secrets other tls", false);
    check("n1 list secrets web -", false);
    check("n1 update secrets web tls", false);
    check("n1 get persistentvolumeclaims web data", true);
    check("n1 get persistentvolumes - pv", true);
    check("n2 get persistentvolumes - pv", false);
    check("n1 create serviceaccounts/token web web", true);
    check("n1 create serviceaccounts/token web default", false);
}

#[test]
fn a_node_writes_its_own_objects() {
    check("n1 create leases.coordination.k8s.io kube-node-lease -", true);
    check("n1 update leases.coordination.k8s.io kube-node-lease n1", true);
    check("n1 update leases.coordination.k8s.io kube-node-lease n2", false);
    check("n1 update leases.coordination.k8s.io kube-system n1", false);
    check("n1 get nodes - n1", true);
    check("n1 get nodes - n2", false);
    check("n1 list nodes - -", false);
    check("n1 watch nodes - - metadata.name=n1", true);
    check("n1 patch nodes/status - n1", true);
    check("n1 delete nodes - n1", false);
}

#[test]
fn a_node_reads_its_own_pods() {
    check("n1 get pods web a", true);
    check("n2 get pods web a", false);
    check("n1 watch pods - - spec.nodeName=n1", true);
    check("n1 watch pods - - spec.nodeName=n2", false);
    check("n1 watch pods - - spec.nodeName!=n1", false);
    check("n1 list pods - -", false);
    check("n1 patch pods/status web a", true);
    check("n1 create pods/exec web a", false);
}

#[test]
fn the_rest_is_what_the_role_says() {
    check("n1 list services - -", true);
    check("n1 create events web -", true);
    check("n1 create deployments.apps web -", false);
}
