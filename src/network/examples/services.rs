//! Times the table with many Services in a network namespace of its own: `cargo run -p coracle-network --example services [number]`.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use coracle_client::Key;
use coracle_network::services::plan::{self, NodeFacts};
use coracle_network::services::{Ledger, Owner, Table, TableConfig};
use coracle_network::views::{ServiceView, SliceView};

fn views(number: usize, endpoints: &[IpAddr]) -> (Owner, ServiceView, SliceView) {
    let address = format!("10.43.{}.{}", number / 250, number % 250 + 1);
    let service = format!(
        r#"{{"metadata":{{"namespace":"default"}},"spec":{{"clusterIPs":["{address}"],"ports":[{{"name":"http","port":80}}]}}}}"#
    );
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|address| format!(r#"{{"addresses":["{address}"],"conditions":{{"ready":true}}}}"#))
        .collect();
    let slice = format!(
        r#"{{"metadata":{{"namespace":"default","labels":{{"kubernetes.io/service-name":"s{number}"}}}},"addressType":"IPv4",
        "ports":[{{"name":"http","port":8080}}],"endpoints":[{}]}}"#,
        endpoints.join(",")
    );
    let service = ServiceView::read(service.as_bytes()).expect("it reads");
    let slice = SliceView::read(slice.as_bytes()).expect("it reads").expect("it has a Service");
    (Owner::Service(Key::new("default", format!("s{number}"))), service, slice)
}

fn set(ledger: &mut Ledger, number: usize, endpoints: &[IpAddr], node: &NodeFacts) {
    let (owner, service, slice) = views(number, endpoints);
    ledger.plan(&owner, |groups| plan::service(&service, std::iter::once(&slice), node, groups));
}

/// Microseconds to connect: median and 99th of a hundred.
fn connect(address: &str) -> (u128, u128) {
    let address: SocketAddr = address.parse().expect("an address");
    let mut times: Vec<u128> = (0..1000)
        .map(|_| {
            let start = Instant::now();
            TcpStream::connect(address).expect("it answers");
            start.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    (times[500], times[990])
}

fn main() -> anyhow::Result<()> {
    let count: usize = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    let commands = "ip link set lo up; ip addr add 10.42.0.1/32 dev lo; ip route add 10.43.0.0/16 dev lo src 10.42.0.1";
    anyhow::ensure!(std::process::Command::new("sh").args(["-ec", commands]).status()?.success(), "ip failed");
    let listener = TcpListener::bind("10.42.0.1:8080")?;
    std::thread::spawn(move || listener.incoming().for_each(drop));

    let node = NodeFacts::default();
    let here: IpAddr = "10.42.0.1".parse()?;
    let there = |number: usize| IpAddr::from([10, 42, (number / 250) as u8, (number % 250 + 1) as u8]);
    let table = Table::open(TableConfig::default())?;
    let start = Instant::now();
    table.change(|ledger| {
        set(ledger, 0, &[here], &node);
        for number in 1..count {
            set(ledger, number, &[there(number), there(number + 1)], &node);
        }
    })?;
    println!("{count} Services planned        {:>8.1?}", start.elapsed());
    let start = Instant::now();
    table.install()?;
    println!("table replaced             {:>8.1?}", start.elapsed());
    let mut slowest = std::time::Duration::ZERO;
    let start = Instant::now();
    for number in 1..=100 {
        let one = Instant::now();
        table.change(|ledger| set(ledger, number, &[there(number), there(number + 2)], &node))?;
        slowest = slowest.max(one.elapsed());
    }
    println!("one Service changed        {:>8.1?} (slowest {slowest:.1?})", start.elapsed() / 100);
    let (direct, service) = (connect("10.42.0.1:8080"), connect("10.43.0.1:80"));
    println!("connect directly           p50 {} us, p99 {} us", direct.0, direct.1);
    println!("connect through a Service  p50 {} us, p99 {} us", service.0, service.1);
    Ok(())
}
