//! `kubectl exec POD -- COMMAND`, with `-i` and `-t`.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use coracle_base::url;
use coracle_client::path;
use coracle_streams::remote_command::client::{Input, carry};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::line::Line;
use super::session::Session;
use super::target;
use super::terminal::{self, Raw};
use crate::Failure;

/// Reads that wait for a slow server before standard input waits.
const QUEUE: usize = 4;

pub async fn run(session: &Session, line: &Line) -> Result<ExitCode, Failure> {
    let (pod, command) = match line.words.as_slice() {
        [pod, command @ ..] if !command.is_empty() => (pod, command),
        _ => return Err(Failure::usage("say which pod and which command, as `exec nginx-1 -- ls`")),
    };
    let pod = pod.strip_prefix("pod/").or_else(|| pod.strip_prefix("pods/")).unwrap_or(pod);
    let stdin = line.is_set("stdin");
    let tty = stdin && line.is_set("tty") && std::io::stdin().is_terminal();
    if line.is_set("tty") && !tty {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let place = path::object(&target::resource("pods")?, &session.namespace, pod);
    let container = container(&session.get(&place, "application/json").await?, line.value("container"))?;
    let mut parameters = vec![("container", container.as_str()), ("stdout", "true")];
    parameters.extend((!tty).then_some(("stderr", "true")));
    parameters.extend(stdin.then_some(("stdin", "true")));
    parameters.extend(tty.then_some(("tty", "true")));
    let mut request = target::with_query(place + "/exec", &parameters);
    // Empty words are words.
    command.iter().for_each(|word| request.push_str(&format!("&command={}", url::encode(word))));
    let socket = session.websocket(&request).await?;

    let (sender, input) = mpsc::channel(QUEUE);
    let (stdout, stderr) = (terminal::output(std::io::stdout())?, terminal::output(std::io::stderr())?);
    let carried = carry(socket, input, stdout, stderr);
    let status = if tty {
        // Raw before the first byte is read, and until the last one is shown.
        let raw = Raw::enter().context("the terminal cannot be made raw")?;
        terminal::read_input(sender.clone());
        let status = tokio::select! {
            status = carried => status,
            end = attend(sender) => {
                drop(raw);
                return Ok(ExitCode::from(end?));
            }
        };
        drop(raw);
        status
    } else {
        match stdin {
            true => terminal::read_input(sender),
            false => drop(sender),
        }
        carried.await
    };
    outcome(&status.context("the command's streams ended")?)
}

/// Tells the terminal's sizes until a signal ends the process; gives the exit code then.
async fn attend(sender: mpsc::Sender<Input>) -> std::io::Result<u8> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal).into_iter();
    let mut next = || ends.next().expect("there are three");
    let (mut interrupted, mut terminated, mut hung_up) = (next()?, next()?, next()?);
    loop {
        if let Some(size) = terminal::size() {
            // Without a reader the command ended, which the other side of the select tells.
            let _ = sender.send(size).await;
        }
        tokio::select! {
            _ = resized.recv() => {}
            _ = interrupted.recv() => return Ok(128 + 2),
            _ = terminated.recv() => return Ok(128 + 15),
            _ = hung_up.recv() => return Ok(128 + 1),
        }
    }
}

/// The asked container, else the pod's default one, else its first.
fn container(pod: &Value, asked: Option<&str>) -> Result<String, Failure> {
    if let Some(phase @ ("Succeeded" | "Failed")) = pod["status"]["phase"].as_str() {
        let text = format!("cannot exec into a container in a completed pod; current phase is {phase}");
        return Err(Failure::Failed(anyhow!(text)));
    }
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let names: Vec<&str> = containers.filter_map(|container| container["name"].as_str()).collect();
    let default = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    if let Some(name) = asked.or(default.filter(|name| names.contains(name))) {
        return Ok(name.to_owned());
    }
    let first = names.first().context("the pod has no container")?;
    if names.len() > 1 {
        eprintln!("Defaulted container {first:?} out of: {}", names.join(", "));
    }
    Ok((*first).to_owned())
}

/// The command's exit code, as the Status on the error channel holds it.
fn outcome(status: &[u8]) -> Result<ExitCode, Failure> {
    let status: Value = serde_json::from_slice(status).context("the server's status is not JSON")?;
    if status["status"] == "Success" {
        return Ok(ExitCode::SUCCESS);
    }
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let code = causes.filter(|cause| cause["reason"] == "ExitCode").find_map(|cause| cause["message"].as_str());
    match code.and_then(|code| code.parse::<u8>().ok()).filter(|_| status["reason"] == "NonZeroExitCode") {
        Some(code) => {
            eprintln!("command terminated with exit code {code}");
            Ok(ExitCode::from(code))
        }
        None => Err(Failure::Failed(anyhow!("{}", status["message"].as_str().unwrap_or("the command failed")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exit_codes_are_the_commands() {
        let status = |reason: &str| {
            json!({ "status": "Failure", "reason": reason, "message": "no such file",
                "details": { "causes": [{ "reason": "ExitCode", "message": "7" }] } })
            .to_string()
        };
        assert_eq!(outcome(br#"{"status":"Success"}"#).unwrap(), ExitCode::SUCCESS);
        assert_eq!(outcome(status("NonZeroExitCode").as_bytes()).unwrap(), ExitCode::from(7));
        assert_eq!(outcome(status("InternalError").as_bytes()).unwrap_err().to_string(), "no such file");
    }

    #[test]
    fn the_default_container_is_the_annotated_one_or_the_first() {
        let mut pod = json!({ "spec": { "containers": [{ "name": "a" }, { "name": "b" }] } });
        assert_eq!(container(&pod, None).unwrap(), "a");
        assert_eq!(container(&pod, Some("b")).unwrap(), "b");
        pod["metadata"] = json!({ "annotations": { "kubectl.kubernetes.io/default-container": "b" } });
        assert_eq!(container(&pod, None).unwrap(), "b");
        pod["status"] = json!({ "phase": "Failed" });
        assert!(container(&pod, None).unwrap_err().to_string().contains("completed pod"));
    }
}
