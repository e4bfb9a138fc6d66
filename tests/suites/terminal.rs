//! Commands in containers: exec and attach with input and with a terminal, by upstream's kubectl and by the built-in one.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use crate::harness::kubectl::program;
use crate::harness::server::CORACLE;
use crate::harness::{Output, Server};

fn server_with_pod() -> Server {
    let server = Server::with_node(&["busybox.tar"]);
    server.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: 'busybox:1.35', command: [sleep, '3600']}
",
    );
    server.kubectl("wait --for=condition=Ready pod/shell --timeout=30s").ok();
    server
}

/// The built-in kubectl.
fn built_in(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut command = server.namespace.command(CORACLE);
    command.arg("kubectl").arg("--kubeconfig").arg(&server.kubeconfig).args(arguments);
    let mut child = start(&mut command);
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads its input");
    child.wait_with_output().expect("it ends").into()
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// A shell in the pod on a pseudo terminal of 91 columns: what is typed, and what the screen shows until its end. After the shell
/// the terminal's settings are shown.
fn on_a_terminal(server: &Server, kubectl: &str, typed: &str) -> Output {
    let line = format!(
        "stty cols 91 rows 33; before=$(stty -g); {kubectl} --kubeconfig {} exec -it shell -- sh; echo code=$?; \
         [ \"$before\" = \"$(stty -g)\" ] && echo restored",
        server.kubeconfig.display()
    );
    let mut child = start(server.namespace.command("script").args(["-qec", &line, "/dev/null"]));
    let mut output = child.stdout.take().expect("it is piped");
    let mut input = child.stdin.take().expect("it is piped");
    // The prompt says that the terminal is raw and the shell reads.
    let mut shown = Vec::new();
    let mut byte = [0];
    while !shown.ends_with(b"# ") {
        assert_eq!(output.read(&mut byte).expect("it reads"), 1, "{}", String::from_utf8_lossy(&shown));
        shown.push(byte[0]);
    }
    input.write_all(typed.as_bytes()).expect("it reads its input");
    output.read_to_end(&mut shown).expect("it reads");
    drop(input);
    let code = child.wait().expect("it ends").code().unwrap_or(-1);
    Output { code, stdout: String::from_utf8_lossy(&shown).into_owned(), stderr: String::new() }
}

#[test]
fn the_built_in_kubectl_runs_commands() {
    let server = server_with_pod();
    assert_eq!(built_in(&server, &["exec", "shell", "--", "hostname"], "").ok(), "shell");
    let counted = built_in(&server, &["exec", "-i", "shell", "--", "wc", "-c"], &"x".repeat(1 << 20));
    assert_eq!(counted.ok(), "1048576");
    let failed = built_in(&server, &["exec", "shell", "--", "sh", "-c", "echo out; echo wrong >&2; exit 7"], "");
    assert_eq!((failed.code, failed.stdout.as_str()), (7, "out\n"));
    assert_eq!(failed.stderr, "wrong\ncommand terminated with exit code 7\n");
    let missing = built_in(&server, &["exec", "nobody", "--", "true"], "");
    assert_eq!((missing.code, missing.stderr.contains("(NotFound)")), (1, true), "{missing:?}");
    let no_command = built_in(&server, &["exec", "shell", "--", "nothing-like-it"], "");
    assert_ne!(no_command.code, 0);
    assert!(no_command.stderr.contains("nothing-like-it"), "{}", no_command.stderr);
}

#[test]
fn a_shell_has_a_terminal_of_the_right_size() {
    let server = server_with_pod();
    let upstream = program().display().to_string();
    for kubectl in [&format!("{CORACLE} kubectl"), &upstream] {
        let shown = on_a_terminal(&server, kubectl, "tty; stty size\nexit 3\n").stdout;
        assert!(shown.contains("/dev/pts/"), "{kubectl}: {shown}");
        assert!(shown.contains("33 91"), "{kubectl}: {shown}");
        assert!(shown.contains("code=3"), "{kubectl}: {shown}");
        assert!(shown.contains("restored"), "{kubectl}: {shown}");
    }
}

#[test]
fn attach_reaches_the_first_process() {
    let server = Server::with_node(&["busybox.tar"]);
    server.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: 'busybox:1.35', stdin: true, stdinOnce: true, command: [sh, -c, 'while read line; do echo said $line; done']}
",
    );
    server.kubectl("wait --for=condition=Ready pod/echo --timeout=30s").ok();
    let said = server.kubectl_args(&["attach", "-i", "echo"], "hello\nagain\n").ok();
    assert!(said.ends_with("said hello\nsaid again"), "{said}");
    server.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/echo --timeout=30s").ok();
    assert_eq!(server.kubectl("logs echo").ok(), "said hello\nsaid again");
}

/// Each line as it is written, by upstream's kubectl and by the built-in one.
#[test]
fn logs_are_followed() {
    let server = server_with_pod();
    let say = |text: &str| {
        let line = format!("echo {text} > /proc/1/fd/1");
        server.kubectl_args(&["exec", "shell", "--", "sh", "-c", &line], "").ok();
    };
    say("first");
    let mut built_in = server.namespace.command(CORACLE);
    built_in.arg("kubectl").arg("--kubeconfig").arg(&server.kubeconfig);
    let mut upstream = server.namespace.command(program());
    upstream.arg("--kubeconfig").arg(&server.kubeconfig);
    for mut command in [built_in, upstream] {
        let mut child = start(command.args(["logs", "-f", "--tail=1", "shell"]));
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut next = || lines.next().expect("it goes on").expect("it is UTF-8");
        let before = next();
        say("second");
        assert_eq!(next(), "second", "after {before}");
        say("first");
        assert_eq!(next(), "first");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
    let shown = self::built_in(&server, &["logs", "--tail=2", "shell"], "").ok();
    assert_eq!(shown, "second\nfirst");
}
