//! Pods created and watched until a scheduler has bound each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use coracle_base::task;
use http::Method;
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::connection::Connection;
use crate::figures::{Delays, joined, own_cpu};
use crate::kubeconfig::Target;
use crate::requests::Plan;

/// How long nothing may happen before the rest counts as never bound.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let target = Target::read(arguments.text("kubeconfig")?)?;
    let path = arguments.text("path")?;
    let count = arguments.number("count", 1000usize)?;
    let in_flight = arguments.number("in-flight", 16usize)?;
    let connection = Connection::open(&target).await?;
    let head = connection.request(Method::GET, &format!("{path}?limit=1"));
    let (_, list) = connection.exchange(head, Bytes::new()).await?;
    let list: Value = serde_json::from_str(&list.text())?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("the list has no revision")?;
    let watch = format!("{path}?watch=true&resourceVersion={revision}");
    let (status, mut events) = connection.send(connection.request(Method::GET, &watch), Bytes::new()).await?;
    if !status.is_success() {
        bail!("the watch answers {status}");
    }
    let plan = Arc::new(Plan::read(arguments)?);
    let sent: Arc<Mutex<HashMap<usize, Instant>>> = Arc::default();
    let (begin, cpu) = (Instant::now(), own_cpu());
    let makers: Vec<_> = (0..in_flight)
        .map(|worker| {
            let (plan, sent, connection) = (plan.clone(), sent.clone(), connection.clone());
            task::spawn("maker", async move {
                for index in (worker..count).step_by(in_flight) {
                    sent.lock().expect("nobody panics with it").insert(index, Instant::now());
                    if let Err(failure) = plan.send(&connection, index).await? {
                        bail!("create: {failure}");
                    }
                }
                Ok(())
            })
        })
        .collect();
    let mut delays = Delays::default();
    let mut bound = vec![false; count];
    let mut last = begin;
    let mut rest = Vec::new();
    while delays.len() < count {
        let Ok(data) = tokio::time::timeout(PATIENCE, events.data()).await else { break };
        let data = data.context("the watch ended")??;
        events.flow_control().release_capacity(data.len())?;
        rest.extend_from_slice(&data);
        let end = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        for line in rest.drain(..end).as_slice().split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let event: Value = serde_json::from_slice(line)?;
            let pod = &event["object"];
            let number =
                pod["metadata"]["name"].as_str().and_then(|name| name.rsplit('-').next()?.parse::<usize>().ok());
            let Some(number) = number.filter(|number| *number < count && !bound[*number]) else { continue };
            if pod["spec"]["nodeName"].is_string()
                && let Some(sent) = sent.lock().expect("nobody panics with it").get(&number)
            {
                bound[number] = true;
                last = Instant::now();
                delays.push(last - *sent);
            }
        }
    }
    for maker in makers {
        maker.await??;
    }
    let done = delays.len();
    let took = (last - begin).as_secs_f64();
    let figures = json!({
        "requests": done,
        "failed": count - done,
        "seconds": took,
        "per_second": done as f64 / took,
        "own_cpu_us": (own_cpu() - cpu).as_secs_f64() * 1e6 / done.max(1) as f64,
    });
    Ok(joined(figures, delays.percentiles()))
}
