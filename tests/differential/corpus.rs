//! Reads the corpus: requests as text, in the order they are sent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What curl prints after the body: a line of JSON, which `Answer::parse` reads.
pub const PRINTED: &str = "\n{\"code\":%{http_code},\"headers\":%{header_json}}";

/// One request. `{rv}`, `{uid}`, `{continue}` and `{etag}` stand for what the same server answered with last; `<<N*text>>` for
/// a text N times.
pub struct Request {
    /// `file: title`.
    pub name: String,
    pub method: String,
    pub path: String,
    pub headers: Vec<String>,
    pub body: String,
}

#[derive(Default)]
pub struct Answer {
    pub code: u16,
    /// By lower-case name.
    pub headers: BTreeMap<String, Vec<String>>,
    pub body: String,
    revision: String,
    uid: String,
    continuation: String,
    etag: String,
}

/// The files of a corpus, by name.
pub fn files(directory: &Path, wanted: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the corpus is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == wanted))
        .collect();
    files.sort();
    files
}

/// Requests are `### title`, a line `METHOD path`, header lines, an empty line and the body.
pub fn read(file: &Path) -> Vec<Request> {
    let text = std::fs::read_to_string(file).expect("it is UTF-8");
    let stem = file.file_stem().expect("it has a name").to_string_lossy().into_owned();
    let mut requests = Vec::new();
    for block in text.split("### ").skip(1) {
        let (head, body) = block.split_once("\n\n").unwrap_or((block, ""));
        let mut lines = head.lines();
        let title = lines.next().expect("a title");
        let (method, path) = lines.next().and_then(|line| line.split_once(' ')).expect("METHOD path");
        let mut headers: Vec<String> = lines.map(str::to_owned).collect();
        let body = body.trim();
        let typed = headers.iter().any(|header| header.to_lowercase().starts_with("content-type"));
        if !body.is_empty() && !typed {
            headers.push(format!("Content-Type: application/{}", if body.starts_with('{') { "json" } else { "yaml" }));
        }
        requests.push(Request {
            name: format!("{stem}: {title}"),
            method: method.to_owned(),
            path: path.to_owned(),
            headers,
            body: body.to_owned(),
        });
    }
    requests
}

impl Answer {
    /// Reads what curl printed: the body, then a line with code and headers.
    pub fn parse(printed: &str, last: &Answer) -> Self {
        let (body, end) = printed.rsplit_once("\n{\"code\"").unwrap_or(("", ""));
        let end: Value = serde_json::from_str(&format!("{{\"code\"{end}")).unwrap_or_default();
        let headers: BTreeMap<String, Vec<String>> = serde_json::from_value(end["headers"].clone()).unwrap_or_default();
        let first = body.lines().next().unwrap_or_default();
        let tree: Value = serde_json::from_str(body).or_else(|_| serde_json::from_str(first)).unwrap_or(Value::Null);
        let metadata = |field: &str, before: &str| {
            tree["metadata"][field].as_str().filter(|text| !text.is_empty()).unwrap_or(before).to_owned()
        };
        Self {
            code: end["code"].as_u64().unwrap_or(0) as u16,
            revision: metadata("resourceVersion", &last.revision),
            uid: metadata("uid", &last.uid),
            continuation: metadata("continue", &last.continuation),
            etag: headers.get("etag").map_or_else(|| last.etag.clone(), |values| values.join(",")),
            headers,
            body: body.to_owned(),
        }
    }

    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|values| values.join(" | ")).unwrap_or_default()
    }

    pub fn fill(&self, text: &str) -> String {
        let filled = [
            ("{rv}", &self.revision),
            ("{uid}", &self.uid),
            ("{continue}", &self.continuation),
            ("{etag}", &self.etag),
        ]
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        let repeat = |captures: &regex::Captures<'_>| captures[2].repeat(captures[1].parse().expect("a number"));
        REPEATED.replace_all(&filled, repeat).into_owned()
    }
}

static REPEATED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<<(\d+)\*(.*?)>>").expect("the pattern is constant"));
