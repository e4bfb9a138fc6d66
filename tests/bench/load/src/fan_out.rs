//! Many watchers of one collection while its objects change: how long until each, and the last, has seen a change.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use coracle_api::object::Encoding;
use coracle_base::task;
use h2::RecvStream;
use http::{Method, header};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::body::{self, Template, digits};
use crate::connection::{Connection, Unread};
use crate::figures::{Delays, joined, own_cpu};
use crate::kubeconfig::Target;

/// Writes in flight when they go as fast as they can.
const IN_FLIGHT: usize = 16;
/// The number of a write stands behind this in its events.
const MARK: &[u8] = b"sequence-";

struct Board {
    /// When each write was sent, and how many watchers have not seen it.
    writes: Mutex<Vec<(Instant, usize)>>,
    /// From a write to each of its events, and to the last.
    each: Mutex<Delays>,
    last: Mutex<Delays>,
    seen: AtomicUsize,
    over: AtomicBool,
}

pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let target = Arc::new(Target::read(arguments.text("kubeconfig")?)?);
    let path = arguments.text("path")?.to_owned();
    let watchers = arguments.number("watchers", 100usize)?;
    let stalled = arguments.number("stalled", 0usize)?;
    let rate = arguments.number("rate", 200usize)?;
    let span = Duration::from_secs(arguments.number("seconds", 10u64)?);
    let objects = arguments.number("objects", 200usize)?;
    let writer = Writer {
        connection: Connection::open(&target).await?,
        name: body::name_of(arguments.text("body")?)?,
        body: Template::read(arguments.text("body")?, Encoding::Json)?,
        path: path.clone(),
        objects,
    };
    let revision = writer.fill().await?;
    let board = Arc::new(Board {
        writes: Mutex::default(),
        each: Mutex::default(),
        last: Mutex::default(),
        seen: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let watch = format!("{path}?watch=true&resourceVersion={revision}");
    let mut tasks = Vec::new();
    for _ in 0..watchers {
        let connection = Connection::open(&target).await?;
        let (status, body) = connection.send(connection.request(Method::GET, &watch), Bytes::new()).await?;
        if !status.is_success() {
            bail!("a watch answers {status}");
        }
        tasks.push(task::spawn("watcher", board.clone().follow(body, connection)));
    }
    let mut silent = Vec::new();
    for _ in 0..stalled {
        silent.push(Unread::watch(&target, &watch).await?);
    }
    if let Some(file) = arguments.optional("ready") {
        // Tells who started us that all watches are open, for a look at the server's memory.
        std::fs::write(file, "ready")?;
        while std::path::Path::new(file).exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let (begin, cpu) = (Instant::now(), own_cpu());
    let writes = writer.run(&board, watchers, rate, span).await?;
    let wrote = begin.elapsed();
    let expected = writes * watchers;
    let deadline = Instant::now() + Duration::from_secs(20);
    while board.seen.load(Ordering::Relaxed) < expected && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (took, cpu) = (begin.elapsed(), own_cpu() - cpu);
    board.over.store(true, Ordering::Relaxed);
    let seen = board.seen.load(Ordering::Relaxed);
    let take = |delays: &Mutex<Delays>| std::mem::take(&mut *delays.lock().expect("nobody panics with it"));
    let (each, last) = (take(&board.each), take(&board.last));
    let complete = last.len();
    let figures = json!({
        "watchers": watchers,
        "stalled": silent.len(),
        "writes": writes,
        "writes_per_second": writes as f64 / wrote.as_secs_f64(),
        "seen_by_all": complete,
        "events": seen,
        "lost": expected - seen.min(expected),
        "seconds": took.as_secs_f64(),
        "per_second": seen as f64 / took.as_secs_f64(),
        "own_cpu_us": cpu.as_secs_f64() * 1e6 / seen.max(1) as f64,
        "each": each.percentiles(),
    });
    Ok(joined(figures, last.percentiles()))
}

struct Writer {
    connection: Connection,
    path: String,
    name: String,
    body: Template,
    objects: usize,
}

impl Writer {
    /// Creates the objects (they may be there already); gives a revision at which all are.
    async fn fill(&self) -> anyhow::Result<String> {
        for number in 0..self.objects {
            let head =
                self.connection.request(Method::POST, &self.path).header(header::CONTENT_TYPE, "application/json");
            let (status, answer) = self.connection.exchange(head, self.body.fill(number, 0)).await?;
            if !status.is_success() && status.as_u16() != 409 {
                bail!("create answers {status}: {}", answer.text());
            }
        }
        let head = self.connection.request(Method::GET, &format!("{}?limit=1", self.path));
        let (_, answer) = self.connection.exchange(head, Bytes::new()).await?;
        let list: Value = serde_json::from_str(&answer.text())?;
        list["metadata"]["resourceVersion"].as_str().map(str::to_owned).context("the list has no revision")
    }

    /// Updates for `span`, `rate` a second; the number of them.
    async fn run(self, board: &Arc<Board>, watchers: usize, rate: usize, span: Duration) -> anyhow::Result<usize> {
        let writer = Arc::new(self);
        let begin = Instant::now();
        if rate == 0 {
            let all = (0..IN_FLIGHT).map(|_| {
                let (writer, board) = (writer.clone(), board.clone());
                task::spawn("writer", async move {
                    let mut count = 0;
                    while begin.elapsed() < span {
                        writer.write(&board, watchers).await?;
                        count += 1;
                    }
                    anyhow::Ok(count)
                })
            });
            let mut count = 0;
            for one in all.collect::<Vec<_>>() {
                count += one.await??;
            }
            return Ok(count);
        }
        let gap = Duration::from_secs(1) / u32::try_from(rate)?;
        let mut pending = Vec::new();
        while begin.elapsed() < span {
            let (writer, board) = (writer.clone(), board.clone());
            pending.push(task::spawn("writer", async move { writer.write(&board, watchers).await }));
            tokio::time::sleep_until((begin + gap * u32::try_from(pending.len())?).into()).await;
        }
        let count = pending.len();
        for one in pending {
            one.await??;
        }
        Ok(count)
    }

    async fn write(&self, board: &Board, watchers: usize) -> anyhow::Result<()> {
        let sequence = {
            let mut writes = board.writes.lock().expect("nobody panics with it");
            writes.push((Instant::now(), watchers));
            writes.len() - 1
        };
        let number = sequence % self.objects;
        let name = self.name.replace("@@@@@@@", std::str::from_utf8(&digits(number))?);
        let head = self.connection.request(Method::PUT, &format!("{}/{name}", self.path));
        let head = head.header(header::CONTENT_TYPE, "application/json");
        let (status, answer) = self.connection.exchange(head, self.body.fill(number, sequence)).await?;
        if !status.is_success() {
            bail!("update answers {status}: {}", answer.text());
        }
        Ok(())
    }
}

impl Board {
    /// Reads a watch to its end.
    async fn follow(self: Arc<Self>, mut body: RecvStream, _open: Connection) {
        // What came of an event whose line is not over.
        let mut rest = Vec::new();
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
            let mut lines = data.split_inclusive(|&byte| byte == b'\n');
            if !rest.is_empty()
                && let Some(line) = lines.next()
            {
                rest.extend_from_slice(line);
                if line.ends_with(b"\n") {
                    self.event(&rest);
                    rest.clear();
                }
            }
            for line in lines {
                if line.ends_with(b"\n") { self.event(line) } else { rest.extend_from_slice(line) }
            }
        }
        if !self.over.load(Ordering::Relaxed) {
            eprintln!("load: a watch ended");
        }
    }

    fn event(&self, line: &[u8]) {
        let Some(at) = find(line, MARK) else { return };
        let Some(digits) = line.get(at + MARK.len()..at + MARK.len() + 7) else { return };
        let Some(sequence) = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<usize>().ok()) else {
            return;
        };
        let now = Instant::now();
        let mut writes = self.writes.lock().expect("nobody panics with it");
        let Some((sent, left)) = writes.get_mut(sequence).filter(|(_, left)| *left > 0) else { return };
        *left -= 1;
        let delay = now - *sent;
        if *left == 0 {
            self.last.lock().expect("nobody panics with it").push(delay);
        }
        drop(writes);
        self.each.lock().expect("nobody panics with it").push(delay);
        self.seen.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where `mark` stands; it is near the end of an object with few bytes like its first.
fn find(line: &[u8], mark: &[u8]) -> Option<usize> {
    line.windows(mark.len()).rposition(|window| window == mark)
}
