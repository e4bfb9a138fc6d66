//! The supervised runtime, for real: killed, restarted and adopted while a sandbox lives.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::proto::cri as wire;
use crate::testing::TestRuntime;

fn sandbox(instance: &str) -> wire::PodSandboxConfig {
    let node = wire::NamespaceOption { network: wire::NamespaceMode::Node as i32, ..Default::default() };
    let security = wire::LinuxSandboxSecurityContext { namespace_options: Some(node), ..Default::default() };
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: "p".into(),
            uid: "u".into(),
            namespace: "n".into(),
            attempt: 0,
        }),
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: format!("/coracle-{instance}/kubepods/podu"),
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_survive_the_runtimes_death_and_the_agents() {
    let mut runtime = TestRuntime::start().await;
    let id = runtime.cri.run_pod_sandbox(sandbox(&runtime.instance), String::new()).await.unwrap();
    let pid_file = runtime.directory.path().join("containerd/containerd.pid");
    let pid = |path: &Path| std::fs::read_to_string(path).unwrap().parse::<i32>().unwrap();
    let first = pid(&pid_file);

    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let containerd = runtime.containerd.as_mut().unwrap();
    containerd.generation.wait_for(|generation| *generation == 2).await.unwrap();
    let second = pid(&pid_file);
    assert_ne!(first, second);
    let status = runtime.cri.pod_sandbox_status(&id).await.unwrap();
    assert_eq!(status.state(), wire::PodSandboxState::SandboxReady);

    // The agent is killed: its supervisor is gone without a word, containerd stays and is found again.
    drop(runtime.containerd.take());
    let base = runtime.directory.path().join("containerd");
    let adopted = start(&base, runtime.programs.clone(), &runtime.settings, runtime.shutdown.clone()).await.unwrap();
    assert_eq!(pid(&pid_file), second, "the running one is adopted");
    runtime.containerd = Some(adopted);
    assert_eq!(runtime.cri.pod_sandboxes(&[]).await.unwrap().len(), 1);
    runtime.stop().await;
}
