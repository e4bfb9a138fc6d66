//! Real network namespaces for tests: nameless, so that they are gone with the process whatever happens.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

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

/// A node with two routed pods (10.42.0.2 and .3, fd42::2 and ::3), a client outside (192.0.2.2, 2001:db8::2) and
/// another node (192.0.2.3) with a pod 10.42.1.5, fd42:0:0:1::5. All but the node serve port 8080.
pub struct Machines {
    pub node: Namespace,
    pub pods: [Namespace; 2],
    pub client: Namespace,
    pub other: Namespace,
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
        Self { node, pods: [one, two], client, other }
    }
}
