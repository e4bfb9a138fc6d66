//! Many requests over one connection: curl reads them from a file.

use std::fmt::Write;

use serde_json::Value;

use super::Target;

pub struct Request {
    method: &'static str,
    path: String,
    body: Option<Value>,
}

pub struct Answer {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

impl Request {
    pub fn new(method: &'static str, path: String, body: Option<Value>) -> Self {
        Self { method, path, body }
    }
}

/// Bytes; curl reads no longer lines from its file of options.
const LONG: usize = 50_000;
const END: &str = "\n@@@\n";

/// The answers in the order of requests.
pub fn send(target: &Target<'_>, requests: &[Request]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (index, part) in requests.chunks(500).enumerate() {
        answers.extend(send_part(target, part, index));
    }
    answers
}

fn send_part(target: &Target<'_>, requests: &[Request], part: usize) -> Vec<Answer> {
    let mut options = String::new();
    for (index, request) in requests.iter().enumerate() {
        let next = if index > 0 { "next\n" } else { "" };
        let _ = write!(
            options,
            "{next}url = \"{}{}\"\nrequest = {}\nsilent\ninsecure\nmax-time = 60\nheader = \"User-Agent: differential/1\"\n\
             header = \"Content-Type: application/json\"\nwrite-out = \"\\n%{{http_code}} %{{header_json}}\\n@@@\\n\"\n",
            target.base, request.path, request.method
        );
        for pair in target.identity.chunks(2) {
            let option = pair[0].trim_start_matches('-').replace('H', "header");
            let _ = writeln!(options, "{option} = \"{}\"", pair[1]);
        }
        if let Some(body) = &request.body {
            let text = body.to_string();
            if text.len() > LONG {
                let path = target.scratch.join(format!("batch-{part}-{index}"));
                std::fs::write(&path, text).expect("the body is written");
                let _ = writeln!(options, "data-binary = \"@{}\"", path.display());
            } else {
                let _ = writeln!(options, "data-binary = \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            }
        }
    }
    let path = target.scratch.join("batch");
    std::fs::write(&path, options).expect("the options are written");
    let output = target.namespace.command("curl").arg("-K").arg(&path).output().expect("curl starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<Answer> = text.split_terminator(END).map(read).collect();
    assert_eq!(answers.len(), requests.len(), "every request is answered: {}", String::from_utf8_lossy(&output.stderr));
    answers
}

/// A body, then a line with the code and the headers.
fn read(text: &str) -> Answer {
    // The headers are printed on several lines, and may hold braces.
    let begins = |line: &str| line.as_bytes().get(..3).is_some_and(|code| code.iter().all(u8::is_ascii_digit));
    let mut lines = text.rmatch_indices('\n').map(|(place, _)| place + 1);
    let line = lines.find(|place| begins(&text[*place..]) && text[place + 3..].starts_with(" {"));
    let line = line.expect("curl prints headers");
    let start = line + 3;
    let headers: Value = serde_json::from_str(&text[start + 1..]).expect("headers are JSON");
    let warnings = headers["warning"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Answer {
        code: text[line..start].parse().unwrap_or(0),
        body: serde_json::from_str(text[..line].trim()).unwrap_or_default(),
        warnings: warnings.map(str::to_owned).collect(),
    }
}
