//! Bad input gets a clear error and loses nothing.

use crate::harness::Server;
use crate::harness::namespace::{NODE_IP, NetworkNamespace};
use crate::harness::server::CORACLE;

/// Method, path, content type, body; expected code and reason (empty: no Status is expected).
type Case<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);

/// Sends `body` as the admin and gives the code and body of the answer.
fn send(server: &Server, method: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
    let file = server.directory.path().join("body");
    std::fs::write(&file, body).expect("it is written");
    let token = server.kubectl("create token default -n kube-system").ok();
    let answer = server
        .namespace
        .command("curl")
        .args(["-sk", "--max-time", "10", "-X", method, "-w", "\n%{http_code}"])
        .args(["-H", &format!("Authorization: Bearer {token}"), "-H", &format!("Content-Type: {content_type}")])
        .args(["--path-as-is", "--data-binary", &format!("@{}", file.display())])
        .arg(format!("https://{NODE_IP}:6443{path}"))
        .output()
        .expect("curl starts");
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').expect("curl prints the code");
    (code.parse().expect("a code is a number"), body.to_owned())
}

#[test]
fn hostile_requests_are_answered_by_a_status() {
    let server = Server::control_plane();
    server
        .kubectl("create clusterrolebinding all --clusterrole=cluster-admin --serviceaccount=kube-system:default")
        .ok();
    let maps = "/api/v1/namespaces/default/configmaps";
    let deep =
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let large = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    let cases: &[Case] = &[
        ("POST", maps, "application/json", b"{", 400, "BadRequest"),
        ("POST", maps, "application/json", b"\xff\xfe", 400, "BadRequest"),
        ("POST", maps, "application/json", deep.as_bytes(), 400, "BadRequest"),
        ("POST", maps, "application/json", large.as_bytes(), 413, "RequestEntityTooLarge"),
        ("POST", maps, "application/yaml", b"a: [b", 400, "BadRequest"),
        ("POST", maps, "application/vnd.kubernetes.protobuf", b"k8s\x00\xff\xff", 400, "BadRequest"),
        ("POST", maps, "text/plain", b"hello", 415, "UnsupportedMediaType"),
        (
            "POST",
            maps,
            "application/json",
            br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#,
            400,
            "BadRequest",
        ),
        (
            "POST",
            maps,
            "application/json",
            br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"A_b"}}"#,
            422,
            "Invalid",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps?labelSelector=a=b=c",
            "application/json",
            b"",
            400,
            "BadRequest",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps?fieldSelector=spec.no=b",
            "application/json",
            b"",
            400,
            "BadRequest",
        ),
        ("GET", "/api/v1/namespaces/default/boats", "application/json", b"", 404, ""),
        ("GET", "/api/v1/namespaces/../../../etc/passwd", "application/json", b"", 404, ""),
        ("GET", "/api/v1/namespaces/default/configmaps/..%2f..%2fsecrets", "application/json", b"", 404, ""),
        ("BREW", maps, "application/json", b"", 405, "MethodNotAllowed"),
    ];
    for (method, path, content_type, body, code, reason) in cases {
        let (answered, text) = send(&server, method, path, content_type, body);
        assert_eq!(answered, *code, "{method} {path} {content_type}: {text}");
        if !reason.is_empty() {
            let status: serde_json::Value = serde_json::from_str(&text).expect("a Status is JSON");
            assert_eq!(status["reason"], *reason, "{method} {path}: {text}");
        }
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn who_is_not_known_gets_nothing() {
    let server = Server::control_plane();
    for header in ["Authorization: Bearer forged.token.here", "Authorization: Basic YTpi", "X-Nothing: x"] {
        let answer = server
            .namespace
            .command("curl")
            .args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", header])
            .arg(format!("https://{NODE_IP}:6443/api/v1/secrets"))
            .output()
            .expect("curl starts");
        let code = String::from_utf8_lossy(&answer.stdout).into_owned();
        assert!(code == "401" || code == "403", "{header}: {code}");
    }
}

#[test]
fn the_command_line_says_what_is_wrong_in_one_line() {
    let namespace = NetworkNamespace::new();
    let run = |arguments: &[&str]| {
        let output = namespace.command(CORACLE).args(arguments).output().expect("coracle starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
    };
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let (code, said) = run(&["server", "--data-dri", data]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--data-dir") && said.lines().count() == 1, "{said}");
    let (code, said) = run(&["sever"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("server") && said.lines().count() == 1, "{said}");
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("it is written");
    let (code, said) = run(&["server", "--disable-agent", "--data-dir", file.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(1));
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_port_in_use_and_a_data_directory_in_use_are_said() {
    let server = Server::control_plane();
    let data = server.data_directory();
    let second = server.coracle(&[
        "server",
        "--disable-agent",
        "--node-ip",
        NODE_IP,
        "--data-dir",
        data.to_str().expect("UTF-8"),
    ]);
    assert_eq!(second.code, 1);
    assert!(second.error().lines().last().expect("a line").contains("data"), "it names the directory");
    let other = server.directory.path().join("other");
    let third = server.coracle(&[
        "server",
        "--disable-agent",
        "--node-ip",
        NODE_IP,
        "--data-dir",
        other.to_str().expect("UTF-8"),
    ]);
    assert_eq!(third.code, 1);
    assert!(third.error().contains("6443"), "it names the port");
}

/// A shell that spoils something for what it starts: its script, and what the server then says.
const SPOILED: [(&str, &str); 4] = [
    (r#"exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin -- "$@""#, "CAP_SYS_ADMIN is missing"),
    (r#"mount -t tmpfs tmpfs /sys/fs/cgroup; exec "$@""#, "no cgroups are mounted at /sys/fs/cgroup"),
    (
        r#"mount -t tmpfs tmpfs /sys/fs/cgroup; echo cpu pids >/sys/fs/cgroup/cgroup.controllers; exec "$@""#,
        "the cgroup controller memory is missing: boot the kernel with cgroup_enable=memory",
    ),
    (
        r#"echo 0 >/proc/sys/net/ipv4/ip_forward; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$@""#,
        "IP forwarding cannot be switched on, /proc/sys/net/ipv4/ip_forward is not to be written",
    ),
];

#[test]
fn what_the_machine_lacks_is_said_in_one_line() {
    for (script, said) in SPOILED {
        let namespace = NetworkNamespace::new();
        let directory = tempfile::tempdir().expect("a directory");
        let output = namespace
            .command("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", script, "spoiled", CORACLE, "server"])
            .args(["--node-ip", NODE_IP, "--log-filter", "error", "--data-dir"])
            .arg(directory.path().join("data"))
            .arg("--write-kubeconfig")
            .arg(directory.path().join("kubeconfig"))
            .output()
            .expect("util-linux is installed");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let last = text.trim().lines().last().expect("it says something");
        assert!(last.contains(said), "{said}: {text}");
        let data = directory.path().join("data");
        let removed = namespace.command(CORACLE).args(["uninstall", "--yes", "--data-dir"]).arg(&data).status();
        assert!(removed.expect("coracle starts").success() && !data.exists());
    }
}
