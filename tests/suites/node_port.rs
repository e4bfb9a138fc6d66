//! The node's own port, as metrics collectors and other API servers reach it.

use std::fs::File;
use std::net::TcpListener;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

use crate::harness::namespace::NODE_IP;
use crate::harness::{Output, Server, eventually};

/// Takes the node's port in the server's namespace.
fn listen(server: &Server) -> TcpListener {
    let namespace = File::open(format!("/run/netns/{}", server.namespace.name)).expect("it exists");
    let entered = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("tests run as root");
        TcpListener::bind((NODE_IP, 10250)).expect("nobody else is there")
    });
    entered.join().expect("it binds")
}

/// `curl` of a path on the node's port, its certificate verified; the code stands on the last line.
fn ask(server: &Server, host: &str, path: &str, as_admin: bool) -> Output {
    let tls = |file: &str| server.data_directory().join("server/tls").join(file);
    let mut curl = server.namespace.command("curl");
    curl.args(["-s", "--max-time", "10", "-w", "\n%{http_code}", "--cacert"]).arg(tls("server-ca.crt"));
    if as_admin {
        curl.arg("--cert").arg(tls("client-admin.crt")).arg("--key").arg(tls("client-admin.key"));
    }
    curl.arg(format!("https://{host}:10250{path}")).output().expect("curl is installed").into()
}

#[test]
fn the_nodes_port_serves_administrators_only() {
    let server = Server::with_node(&["busybox.tar"]);
    server.kubectl("run talker --image=busybox:1.35 --restart=Never -- echo spoken").ok();
    server.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/talker --timeout=30s").ok();
    let log = "/containerLogs/default/talker/talker";

    assert_eq!(ask(&server, NODE_IP, "/healthz", false).ok(), "ok\n200");
    assert_eq!(ask(&server, NODE_IP, log, false).ok(), "Unauthorized\n401");
    assert_eq!(ask(&server, NODE_IP, log, true).ok(), "spoken\n\n200");
    // A certificate of another authority is no one's: an answer, not a broken connection.
    let tls = |file: &str| server.data_directory().join("server/tls").join(file);
    let mut curl = server.namespace.command("curl");
    curl.args(["-s", "--max-time", "10", "-w", "\n%{http_code}", "--cacert"]).arg(tls("server-ca.crt"));
    curl.arg("--cert").arg(tls("request-header-ca.crt")).arg("--key").arg(tls("request-header-ca.key"));
    let foreign: Output = curl.arg(format!("https://{NODE_IP}:10250{log}")).output().expect("curl is installed").into();
    assert_eq!(foreign.ok(), "Unauthorized\n401");
}

#[test]
fn a_second_server_on_the_machine_works_without_the_nodes_port() {
    let mut server = Server::with_node(&[]);
    server.end(Signal::SIGTERM);
    let taken = listen(&server);
    server.restart();
    eventually("the log says so", Duration::from_secs(30), || {
        server.log().contains("the node's port cannot be opened").then_some(())
    });
    server.wait_for_node();
    drop(taken);
}
