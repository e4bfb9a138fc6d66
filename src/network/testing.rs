//! Real network namespaces for tests: nameless, so that they are gone with the process whatever happens.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use coracle_api::object::Meta;
use coracle_api::{Object, Resource, Status};
use coracle_client::{ObjectEvent, ObjectSource, Selection};
use futures::StreamExt;
use futures::stream::BoxStream;
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace held by a thread of its own.
pub struct Namespace {
    file: OwnedFd,
    /// The holder's thread id, by which `ip link ... netns` finds the namespace.
    holder: i32,
    _release: mpsc::Sender<()>,
}

impl Namespace {
    pub fn new() -> Self {
        let (release, held) = mpsc::channel::<()>();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
            let file: OwnedFd = std::fs::File::open("/proc/thread-self/ns/net").expect("own namespace").into();
            sender.send((file, nix::unistd::gettid().as_raw())).expect("the test waits");
            let _ = held.recv();
        });
        let (file, holder) = receiver.recv().expect("the holder answers");
        let namespace = Self { file, holder, _release: release };
        namespace.shell("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; ip link set lo up");
        namespace
    }

    pub fn file(&self) -> OwnedFd {
        self.file.try_clone().expect("a descriptor is free")
    }

    pub fn holder(&self) -> i32 {
        self.holder
    }

    /// A path under which the namespace can be opened while this lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/task/{}/ns/net", std::process::id(), self.holder)
    }

    /// Runs `work` on a throw-away thread inside the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).expect("the namespace lives");
                work()
            });
            thread.join().expect("the work does not panic")
        })
    }

    /// Runs shell commands inside; gives what they print, panics when they fail.
    pub fn shell(&self, script: &str) -> String {
        let output = self.run(|| Command::new("sh").args(["-ec", script]).output().expect("sh runs"));
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Serves TCP and UDP on this port of all addresses; each answer is `name client-address`.
    pub fn serve(&self, name: &str, port: u16) {
        let bind = SocketAddr::new("::".parse().expect("an address"), port);
        let (listener, udp) =
            self.run(|| (TcpListener::bind(bind).expect("free"), UdpSocket::bind(bind).expect("free")));
        let tcp_name = name.to_owned();
        let name = name.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().expect("connected").ip().to_canonical();
                let _ = write!(stream, "{tcp_name} {peer}");
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(format!("{name} {}", peer.ip().to_canonical()).as_bytes(), peer);
            }
        });
    }

    /// Asks what `serve` serves; the answer, or the error's kind.
    pub fn ask(&self, address: &str, port: u16) -> String {
        let address: IpAddr = address.parse().expect("an address");
        self.run(|| {
            let attempt = || {
                let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(2))?;
                stream.set_read_timeout(Some(Duration::from_secs(2)))?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok::<_, std::io::Error>(answer)
            };
            attempt().unwrap_or_else(|error| format!("{:?}", error.kind()))
        })
    }

    pub fn ask_udp(&self, address: &str, port: u16) -> String {
        let address: IpAddr = address.parse().expect("an address");
        self.run(|| {
            let attempt = || {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.set_read_timeout(Some(Duration::from_secs(2)))?;
                socket.connect((address, port))?;
                socket.send(b"?")?;
                let mut buffer = [0; 64];
                let length = socket.recv(&mut buffer)?;
                Ok::<_, std::io::Error>(String::from_utf8_lossy(&buffer[..length]).into_owned())
            };
            attempt().unwrap_or_else(|error| format!("{:?}", error.kind()))
        })
    }
}

/// A runtime all of whose threads are in the namespace, as an agent's are.
pub fn agent<T: Send>(node: &Namespace, work: impl Future<Output = T> + Send) -> T {
    node.run(|| {
        let namespace = std::sync::Arc::new(node.file());
        let enter = move || nix::sched::setns(&*namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("it lives");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().on_thread_start(enter).build();
        runtime.expect("a runtime").block_on(work)
    })
}

/// A node with two routed pods (10.42.0.2 and .3, fd42::2 and ::3), a client outside (192.0.2.2, 2001:db8::2) and
/// another node (192.0.2.3) with a pod 10.42.1.5, fd42:0:0:1::5. All but the node serve port 8080.
pub struct Machines {
    pub node: Namespace,
    pub pods: [Namespace; 2],
    pub client: Namespace,
    _other: Namespace,
}

impl Machines {
    pub fn new() -> Self {
        let [node, one, two, client, other] = std::array::from_fn(|_| Namespace::new());
        node.shell(
            "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             test ! -e /proc/sys/net/bridge/bridge-nf-call-iptables || echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables
             ip link add lan type bridge; ip link set lan up
             ip addr add 192.0.2.1/24 dev lan; ip addr add 2001:db8::1/64 dev lan nodad
             ip route add 10.43.0.0/16 dev lo src 192.0.2.1; ip route add fd43::/112 dev lo src 2001:db8::1",
        );
        for (number, pod) in [(2, &one), (3, &two)] {
            node.shell(&format!(
                "ip link add pod{number} type veth peer name eth0 netns {holder}
                 ip link set pod{number} address ee:ee:ee:ee:ee:ee up
                 ip route add 10.42.0.{number} dev pod{number}; ip route add fd42::{number} dev pod{number}",
                holder = pod.holder()
            ));
            pod.shell(&format!(
                "ip link set eth0 up; ip addr add 10.42.0.{number}/32 dev eth0; ip addr add fd42::{number}/128 dev eth0 nodad
                 ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
                 ip neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
                 ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1
                 ip route add default via fe80::1 dev eth0"
            ));
        }
        for (number, machine) in [(2, &client), (3, &other)] {
            node.shell(&format!(
                "ip link add lan{number} type veth peer name eth0 netns {}; ip link set lan{number} master lan up",
                machine.holder()
            ));
            machine.shell(&format!(
                "ip link set eth0 up; ip addr add 192.0.2.{number}/24 dev eth0; ip addr add 2001:db8::{number}/64 dev eth0 nodad
                 ip route add 203.0.113.0/24 via 192.0.2.1; ip route add 10.42.0.0/24 via 192.0.2.1
                 ip route add 2001:db8:f::/64 via 2001:db8::1; ip route add fd42::/64 via 2001:db8::1"
            ));
        }
        other.shell("ip addr add 10.42.1.5/32 dev lo; ip addr add fd42:0:0:1::5/128 dev lo");
        node.shell("ip route add 10.42.1.0/24 via 192.0.2.3; ip route add fd42:0:0:1::/64 via 2001:db8::3");
        one.serve("one", 8080);
        two.serve("two", 8080);
        other.serve("other", 8080);
        client.serve("client", 8080);
        Self { node, pods: [one, two], client, _other: other }
    }
}

/// An `ObjectSource` that the test plays: what is put is listed and watched.
#[derive(Default)]
pub struct Played {
    state: std::sync::Mutex<PlayedState>,
}

#[derive(Default)]
struct PlayedState {
    /// Lists never end: the API server does not answer.
    silent: bool,
    revision: u64,
    objects: std::collections::BTreeMap<(String, String), Object>,
    watchers: Vec<(Resource, tokio::sync::mpsc::Sender<ObjectEvent>)>,
}

impl Played {
    pub fn silent() -> Self {
        Self { state: std::sync::Mutex::new(PlayedState { silent: true, ..PlayedState::default() }) }
    }

    /// Creates or changes an object of a kind of v1 or discovery.k8s.io/v1.
    pub fn put(&self, object: &serde_json::Value) {
        let mut state = self.state.lock().expect("no panic");
        state.revision += 1;
        let (resource, object) = parse(object, state.revision);
        state.objects.insert((resource.plural.to_string(), object.meta().name.to_string()), object.clone());
        state.tell(&resource, &ObjectEvent::Applied(object));
    }

    pub fn delete(&self, object: &serde_json::Value) {
        let mut state = self.state.lock().expect("no panic");
        state.revision += 1;
        let (resource, object) = parse(object, state.revision);
        state.objects.remove(&(resource.plural.to_string(), object.meta().name.to_string()));
        state.tell(&resource, &ObjectEvent::Deleted(object));
    }
}

impl PlayedState {
    fn tell(&mut self, resource: &Resource, event: &ObjectEvent) {
        // A watcher that is gone closes its end, perhaps between these lines.
        self.watchers.retain(|(watched, sender)| watched != resource || sender.try_send(event.clone()).is_ok());
    }
}

fn parse(object: &serde_json::Value, revision: u64) -> (Resource, Object) {
    let text = |pointer: &str| object.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
    let resource = match text("/kind") {
        "Service" => Resource::find("", "v1", "services"),
        "EndpointSlice" => Resource::find("discovery.k8s.io", "v1", "endpointslices"),
        kind => panic!("no kind {kind} here"),
    }
    .expect("in the catalog");
    let meta = Meta {
        namespace: text("/metadata/namespace").into(),
        name: text("/metadata/name").into(),
        uid: text("/metadata/name").into(),
        ..Meta::default()
    };
    (resource.clone(), Object::new(resource, revision, object.to_string().into(), meta))
}

impl ObjectSource for Played {
    fn list_watch(&self, resource: &Resource, _: Selection) -> BoxStream<'static, Result<ObjectEvent, Status>> {
        let mut state = self.state.lock().expect("no panic");
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1000);
        if state.silent {
            return futures::stream::pending().boxed();
        }
        let list = state.objects.iter().filter(|((plural, _), _)| *plural == *resource.plural);
        for event in
            list.map(|(_, object)| ObjectEvent::Applied(object.clone())).chain([ObjectEvent::Synced(state.revision)])
        {
            sender.try_send(event).expect("the test lists few objects");
        }
        state.watchers.push((resource.clone(), sender));
        futures::stream::poll_fn(move |context| receiver.poll_recv(context).map(|event| event.map(Ok))).boxed()
    }
}
