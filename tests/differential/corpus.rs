//! Reads the corpus: requests as text, in the order they are sent.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One request. `{rv}` and `{uid}` in path and body stand for the last object that the same server answered with.
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
    pub content_type: String,
    pub body: String,
    revision: String,
    uid: String,
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
    /// Reads what curl printed: the body, then a line with code and content type.
    pub fn parse(printed: &str, last: &Answer) -> Self {
        let (body, end) = printed.rsplit_once('\n').unwrap_or(("", printed));
        let (code, content_type) = end.split_once(' ').unwrap_or((end, ""));
        let tree: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        let metadata = |field: &str, before: &str| {
            tree["metadata"][field].as_str().filter(|text| !text.is_empty()).unwrap_or(before).to_owned()
        };
        Self {
            code: code.parse().unwrap_or(0),
            content_type: content_type.to_owned(),
            revision: metadata("resourceVersion", &last.revision),
            uid: metadata("uid", &last.uid),
            body: body.to_owned(),
        }
    }

    pub fn fill(&self, text: &str) -> String {
        text.replace("{rv}", &self.revision).replace("{uid}", &self.uid)
    }
}
