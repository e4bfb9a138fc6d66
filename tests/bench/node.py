"""A release-built coracle server in a network namespace of its own, for the figures; everything is removed on exit."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ADDRESS = "192.0.2.10"


def binary():
    """The release binary; `CORACLE_BINARY` names another one."""
    given = os.environ.get("CORACLE_BINARY")
    if given:
        return given
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "coracle"], cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release", "coracle")


class Node:
    def __init__(self, with_agent=True, flags=()):
        self.binary, self.with_agent, self.flags = binary(), with_agent, list(flags)
        self.name = f"coracle-bench-{os.getpid()}"
        self.directory = tempfile.TemporaryDirectory(prefix="coracle-bench-")
        self.data = os.path.join(self.directory.name, "data")
        self.kubeconfig = os.path.join(self.directory.name, "kubeconfig.yaml")
        self.process = None

    def __enter__(self):
        ip = lambda *words: subprocess.run(["ip", *words], check=True)
        ip("netns", "add", self.name)
        for words in (["link", "set", "lo", "up"], ["link", "add", "node0", "type", "veth", "peer", "name", "node1"],
                      ["addr", "add", ADDRESS + "/24", "dev", "node0"], ["link", "set", "node0", "up"], ["link", "set", "node1", "up"]):
            ip("-n", self.name, *words)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.stop(signal.SIGTERM)
        self.inside([self.binary, "uninstall", "--yes", "--data-dir", self.data], capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.name])
        self.directory.cleanup()

    def inside(self, command, **options):
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.name}", *command], **options)

    def start(self):
        """Starts the server; gives the seconds from exec to `/readyz` ok."""
        command = [self.binary, "server", "--data-dir", self.data, "--write-kubeconfig", self.kubeconfig, "--node-ip", ADDRESS, *self.flags]
        if not self.with_agent:
            command.append("--disable-agent")
        log = open(os.path.join(self.directory.name, "log"), "a")
        begin = time.monotonic()
        self.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.name}", *command], stdout=log, stderr=log)
        while True:
            answer = self.inside(["curl", "-sk", "--max-time", "1", f"https://{ADDRESS}:6443/readyz"], capture_output=True)
            if answer.stdout == b"ok":
                return time.monotonic() - begin
            if self.process.poll() is not None or time.monotonic() - begin > 60:
                sys.exit("the server did not become ready:\n" + open(log.name).read()[-4000:])
            time.sleep(0.005)

    def stop(self, how):
        self.process.send_signal(how)
        self.process.wait(20)

    def kubectl(self, *words, **options):
        program = os.path.join(os.environ.get("CORACLE_UPSTREAM", os.path.expanduser("~/.cache/coracle/upstream-v1.37.2")), "kubectl")
        done = self.inside([program, "--kubeconfig", self.kubeconfig, *words], capture_output=True, text=True, **options)
        if done.returncode != 0:
            sys.exit(f"kubectl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def wait_ready(self):
        """Until a node is registered and Ready."""
        while not self.kubectl("get", "nodes", "-o", "name"):
            time.sleep(0.01)
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")

    def import_image(self, name):
        cache = os.environ.get("CORACLE_IMAGES", os.path.expanduser("~/.cache/coracle/images"))
        self.inside([self.binary, "images", "import", "--data-dir", self.data, os.path.join(cache, name)], check=True, capture_output=True)

    def proc(self, name):
        with open(f"/proc/{self.process.pid}/{name}") as file:
            return file.read()

    def memory(self):
        """PSS in MiB: whole, file-backed, anonymous."""
        values = {line.split(":")[0]: int(line.split()[1]) for line in self.proc("smaps_rollup").splitlines()[1:]}
        return tuple(round(values[name] / 1024, 1) for name in ("Pss", "Pss_File", "Pss_Anon"))

    def cpu_seconds(self):
        fields = self.proc("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def written(self):
        """Bytes that reached the block layer."""
        return int(next(line.split()[1] for line in self.proc("io").splitlines() if line.startswith("write_bytes")))


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} x {model}, kernel {os.uname().release}"


def show(figures):
    """A row a figure: name, value, target; then all of them as one line of JSON."""
    for name, value, target in figures:
        print(f"{name:42} {value:>12} {('target ' + str(target)) if target else ''}")
    print(json.dumps({"machine": machine(), **{name: value for name, value, _ in figures}}))
