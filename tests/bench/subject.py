"""What is measured: the processes of a control plane in a network namespace of its own; everything is removed on exit."""
import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ADDRESS = "192.0.2.10"
TICKS = os.sysconf("SC_CLK_TCK")


@functools.cache
def upstream(name):
    """A program of upstream's, built when it is not."""
    built = subprocess.run([os.path.join(ROOT, "tests/upstream/build"), name], check=True, stdout=subprocess.PIPE, text=True)
    return os.path.join(built.stdout.strip(), name)


class Subject:
    """Subclasses start their processes with `spawn` and keep `kubeconfig` where it is named here."""

    def __init__(self):
        self.name = f"coracle-bench-{os.getpid()}"
        self.directory = tempfile.TemporaryDirectory(prefix="coracle-bench-")
        self.kubeconfig = self.path("kubeconfig.yaml")
        self.processes = {}

    def path(self, *names):
        return os.path.join(self.directory.name, *names)

    def __enter__(self):
        ip = lambda *words: subprocess.run(["ip", *words], check=True)
        ip("netns", "add", self.name)
        for words in (["link", "set", "lo", "up"], ["link", "add", "node0", "type", "veth", "peer", "name", "node1"],
                      ["addr", "add", ADDRESS + "/24", "dev", "node0"], ["link", "set", "node0", "up"], ["link", "set", "node1", "up"]):
            ip("-n", self.name, *words)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.stop()
        for process in self.processes.values():
            with contextlib.suppress(Exception):
                process.kill()
                process.wait()
        self.remove()
        subprocess.run(["ip", "netns", "delete", self.name])
        self.directory.cleanup()

    def remove(self):
        """Removes what the processes left outside of the directory."""

    def inside(self, command, **options):
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.name}", *command], **options)

    def spawn(self, name, *command, **options):
        log = open(self.path(f"{name}.log"), "a")
        command = ["nsenter", f"--net=/run/netns/{self.name}", *command]
        self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)

    def log(self, name):
        with open(self.path(f"{name}.log"), errors="replace") as file:
            return file.read()[-4000:]

    def until_ready(self, name, begin, limit=120):
        """Waits for `/readyz`; gives the seconds since `begin`."""
        while True:
            answer = self.inside(["curl", "-sk", "--max-time", "1", f"https://{ADDRESS}:6443/readyz"], capture_output=True)
            if answer.stdout == b"ok":
                return time.monotonic() - begin
            if self.processes[name].poll() is not None or time.monotonic() - begin > limit:
                sys.exit(f"{name} did not become ready:\n{self.log(name)}")
            time.sleep(0.005)

    def stop(self, how=signal.SIGTERM):
        """Ends all, the last started first: kube-apiserver without its etcd hangs on SIGTERM for minutes."""
        for name in reversed(list(self.processes)):
            process = self.processes.pop(name)
            process.send_signal(how)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kubectl(self, *words, **options):
        done = self.inside([upstream("kubectl"), "--kubeconfig", self.kubeconfig, *words], capture_output=True, text=True, **options)
        if done.returncode != 0:
            sys.exit(f"kubectl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def _proc(self, name):
        for process in self.processes.values():
            with open(f"/proc/{process.pid}/{name}") as file:
                yield file.read()

    def memory(self):
        """PSS in MiB over all processes: whole, file-backed, anonymous."""
        sums = [0, 0, 0]
        for text in self._proc("smaps_rollup"):
            values = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
            for index, name in enumerate(("Pss", "Pss_File", "Pss_Anon")):
                sums[index] += values[name] / 1024
        return tuple(round(value, 1) for value in sums)

    def cpu_seconds(self):
        fields = [text.rsplit(")", 1)[1].split() for text in self._proc("stat")]
        return sum(int(words[11]) + int(words[12]) for words in fields) / TICKS

    def written(self):
        """Bytes that reached the block layer."""
        texts = list(self._proc("io"))
        return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("write_bytes"))

    def wakeups(self):
        """Voluntary context switches of all threads that live."""
        count = 0
        for process in self.processes.values():
            for task in os.listdir(f"/proc/{process.pid}/task"):
                with contextlib.suppress(OSError), open(f"/proc/{process.pid}/task/{task}/status") as file:
                    count += next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))
        return count


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} x {model}, kernel {os.uname().release}"
