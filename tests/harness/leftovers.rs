//! What test runs that were interrupted left behind: found by the process number in its name, removed by the next run.

use std::path::Path;
use std::process::Command;
use std::sync::Once;

use super::server::CORACLE;

/// Names of namespaces and directories begin with this; the run's process number follows.
pub const PREFIX: &str = "coracle-test-";

/// Once a run: removes servers, containers, directories and namespaces of runs that are no more.
pub fn remove() {
    static ONCE: Once = Once::new();
    ONCE.call_once(remove_all);
}

fn remove_all() {
    let namespaces = dead_in(Path::new("/run/netns"));
    for name in &namespaces {
        // Whatever runs in there was started by the run.
        let pids = Command::new("ip").args(["netns", "pids", name]).output().expect("iproute2 is installed");
        let pids = String::from_utf8_lossy(&pids.stdout).into_owned();
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
    for name in dead_in(&std::env::temp_dir()) {
        let directory = std::env::temp_dir().join(&name);
        let run = name.split('-').take(3).collect::<Vec<_>>().join("-");
        let mut uninstall = match namespaces.iter().find(|namespace| namespace.starts_with(&format!("{run}-"))) {
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{namespace}")).arg(CORACLE);
                command
            }
            None => Command::new(CORACLE),
        };
        let _ = uninstall.args(["uninstall", "--yes", "--data-dir"]).arg(directory.join("data")).output();
        let _ = std::fs::remove_dir_all(&directory);
        eprintln!("removed {}, which a run that was interrupted had left", directory.display());
    }
    for name in namespaces {
        let _ = Command::new("ip").args(["netns", "delete", &name]).status();
    }
}

/// Names in the directory that a run gave which is no more.
fn dead_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| run_of(name).is_some_and(|run| !Path::new("/proc").join(run).exists())).collect()
}

/// The process number in `coracle-test-PROCESS-...`.
fn run_of(name: &str) -> Option<&str> {
    let (run, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    run.bytes().all(|digit| digit.is_ascii_digit()).then_some(run)
}

#[test]
fn what_a_dead_run_left_is_removed() {
    let mut dead = Command::new("true").spawn().expect("it starts");
    let name = format!("{PREFIX}{}-0", dead.id());
    dead.wait().expect("it ends");
    assert!(Command::new("ip").args(["netns", "add", &name]).status().expect("iproute2 is installed").success());
    assert!(dead_in(Path::new("/run/netns")).contains(&name));
    let own = format!("{PREFIX}{}-x", std::process::id());
    assert_eq!(run_of(&own), Some(&*std::process::id().to_string()));
    assert_eq!(run_of("coracle-test-AbCdEf"), None);
    remove_all();
    assert!(!Path::new("/run/netns").join(&name).exists());
}
