//! `kubectl logs POD`.

use std::io::Write;
use std::process::ExitCode;

use coracle_client::path;
use futures::AsyncReadExt;

use super::line::Line;
use super::session::Session;
use super::target;
use crate::Failure;

pub async fn run(session: &Session, line: &Line) -> Result<ExitCode, Failure> {
    let (pod, container) = match line.words.as_slice() {
        [pod] => (pod, line.value("container")),
        [pod, container] => (pod, Some(container.as_str())),
        _ => return Err(Failure::usage("say which pod, as `logs nginx-1`")),
    };
    let pod = pod.strip_prefix("pod/").or_else(|| pod.strip_prefix("pods/")).unwrap_or(pod);
    let since = match line.value("since") {
        Some(text) => text
            .trim_end_matches('s')
            .parse::<u64>()
            .map(|seconds| seconds.to_string())
            .map_err(|_| Failure::usage(format!("--since {text}: not seconds, as 60s")))?,
        None => String::new(),
    };
    let request = path::object(&target::resource("pods")?, &session.namespace, pod) + "/log";
    let parameters = [
        ("container", container.unwrap_or_default()),
        ("follow", line.value("follow").unwrap_or_default()),
        ("previous", line.value("previous").unwrap_or_default()),
        ("tailLines", line.value("tail").filter(|lines| *lines != "-1").unwrap_or_default()),
        ("timestamps", line.value("timestamps").unwrap_or_default()),
        ("sinceSeconds", &since),
    ];
    let mut log = session.stream(&target::with_query(request, &parameters)).await?;
    let mut buffer = vec![0; 16 * 1024];
    let mut output = std::io::stdout();
    loop {
        match log.read(&mut buffer).await? {
            0 => return Ok(ExitCode::SUCCESS),
            read => {
                output.write_all(&buffer[..read])?;
                output.flush()?;
            }
        }
    }
}
