//! Many requests of one kind, so many in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use coracle_api::object::Encoding;
use coracle_base::task;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::body::{self, Template, digits};
use crate::connection::Connection;
use crate::figures::{Delays, joined, own_cpu};
use crate::kubeconfig::Target;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What is sent, and how often.
pub struct Plan {
    method: Method,
    path: String,
    /// Of the object, with its place for the number; `None` where the path names none.
    name: Option<String>,
    query: String,
    body: Option<Template>,
    content_type: &'static str,
    accept: String,
    first: usize,
    objects: usize,
    count: usize,
    /// Where the numbers of writes begin: elsewhere at each run, or an update after a create would change nothing.
    sequence: usize,
    /// Whether an answer is a list that may go on.
    pages: bool,
    next: AtomicUsize,
}

/// What one of those in flight did.
#[derive(Default)]
struct Done {
    delays: Delays,
    bytes: usize,
    failed: usize,
    failure: Option<String>,
}

pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let target = Target::read(arguments.text("kubeconfig")?)?;
    let plan = Arc::new(Plan::read(arguments)?);
    let in_flight = arguments.number("in-flight", 1usize)?;
    let connections = arguments.number("connections", in_flight.div_ceil(16))?.max(1);
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(&target).await?);
    }
    let (begin, cpu) = (Instant::now(), own_cpu());
    let workers: Vec<_> = (0..in_flight)
        .map(|index| task::spawn("worker", plan.clone().work(open[index % connections].clone())))
        .collect();
    let mut all = Done::default();
    for worker in workers {
        let done = worker.await??;
        all.delays.append(done.delays);
        all.bytes += done.bytes;
        all.failed += done.failed;
        all.failure = all.failure.or(done.failure);
    }
    let (took, cpu) = (begin.elapsed().as_secs_f64(), own_cpu() - cpu);
    let done = all.delays.len();
    if let Some(failure) = &all.failure {
        eprintln!("load: {} of {} failed, the first: {failure}", all.failed, all.failed + done);
    }
    if done == 0 {
        bail!("no request succeeded");
    }
    let figures = json!({
        "requests": done,
        "failed": all.failed,
        "seconds": took,
        "per_second": done as f64 / took,
        "bytes": all.bytes / done,
        "own_cpu_us": cpu.as_secs_f64() * 1e6 / done as f64,
    });
    Ok(joined(figures, all.delays.percentiles()))
}

impl Plan {
    pub fn read(arguments: &Arguments) -> anyhow::Result<Self> {
        let operation = arguments.text("operation")?;
        let encoding = match arguments.optional("encoding").unwrap_or("json") {
            "json" => Encoding::Json,
            "protobuf" => Encoding::Protobuf,
            other => bail!("--encoding {other}: json or protobuf"),
        };
        let file = arguments.optional("body");
        let body = || Template::read(file.context("--body is missing")?, encoding);
        let media_type = if encoding == Encoding::Protobuf { PROTOBUF } else { "application/json" };
        let (method, body, content_type) = match operation {
            "create" => (Method::POST, Some(body()?), media_type),
            "update" => (Method::PUT, Some(body()?), media_type),
            "patch" => {
                let patch = Template::read(arguments.text("patch")?, Encoding::Json)?;
                (Method::PATCH, Some(patch), "application/strategic-merge-patch+json")
            }
            "apply" => (Method::PATCH, Some(body()?), "application/apply-patch+yaml"),
            "get" | "list" => (Method::GET, None, ""),
            "delete" => (Method::DELETE, None, ""),
            other => bail!("--operation {other}: none of create, get, update, patch, apply, delete, list"),
        };
        let count = arguments.number("count", 1usize)?;
        let named = !matches!(operation, "create" | "list");
        let query = arguments.optional("query").unwrap_or_default();
        let apply = if operation == "apply" { "fieldManager=bench&force=true" } else { "" };
        let query = [query, apply].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("&");
        Ok(Self {
            method,
            path: arguments.text("path")?.to_owned(),
            name: if named { Some(body::name_of(file.context("--body is missing")?)?) } else { None },
            query: if query.is_empty() { query } else { format!("?{query}") },
            body,
            content_type,
            accept: arguments.optional("accept").unwrap_or(media_type).to_owned(),
            first: arguments.number("first", 0usize)?,
            objects: arguments.number("objects", count)?,
            count,
            sequence: (SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() % 9_000_000) as usize,
            pages: operation == "list" && arguments.optional("pages") != Some("no"),
            next: AtomicUsize::new(0),
        })
    }

    async fn work(self: Arc<Self>, connection: Connection) -> anyhow::Result<Done> {
        let mut done = Done::default();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count {
                return Ok(done);
            }
            let begin = Instant::now();
            match self.send(&connection, index).await? {
                Ok(bytes) => {
                    done.delays.push(begin.elapsed());
                    done.bytes += bytes;
                }
                Err(failure) => {
                    done.failed += 1;
                    done.failure.get_or_insert(failure);
                }
            }
        }
    }

    /// Request number `index` with all pages of its answer: their length, or what the server said against it.
    pub async fn send(&self, connection: &Connection, index: usize) -> anyhow::Result<Result<usize, String>> {
        let number = self.first + index % self.objects;
        let mut path = self.path.clone();
        if let Some(name) = &self.name {
            path.push('/');
            let digits = digits(number);
            path.push_str(&name.replace("@@@@@@@", std::str::from_utf8(&digits)?));
        }
        let mut token = String::new();
        let mut length = 0;
        loop {
            let mut head = connection.request(self.method.clone(), &format!("{path}{}{token}", self.query));
            head = head.header(header::ACCEPT, &self.accept);
            let body = self
                .body
                .as_ref()
                .map_or_else(Bytes::new, |body| body.fill(number, (self.sequence + index) % 10_000_000));
            if !body.is_empty() {
                head = head.header(header::CONTENT_TYPE, self.content_type);
            }
            let (status, answer) = connection.exchange(head, body).await?;
            if !status.is_success() {
                return Ok(Err(describe(status, &answer.text())));
            }
            length += answer.length;
            match if self.pages { continuation(answer.head()) } else { None } {
                Some(next) => token = format!("&continue={next}"),
                None => return Ok(Ok(length)),
            }
        }
    }
}

fn describe(status: StatusCode, text: &str) -> String {
    format!("{status} {}", text.chars().take(400).collect::<String>())
}

/// The token of the next page. It stands in the list's metadata, which both servers write before the items.
fn continuation(head: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"\"continue\":\"";
    let head = &head[..head.len().min(2048)];
    let start = head.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let end = start + head[start..].iter().position(|&byte| byte == b'"')?;
    let token = std::str::from_utf8(&head[start..end]).ok()?;
    (!token.is_empty()).then(|| token.replace('+', "%2B").replace('=', "%3D").replace('/', "%2F"))
}
