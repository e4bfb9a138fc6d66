"""The rows: each puts a load on a subject that has started and gives `{cell: {figure: value}}`.

Figures that every cell of requests has: the server's CPU in microseconds a request, requests a second, p50 and p99 in microseconds,
and the generator's own CPU in microseconds a request.
"""
import json
import os
import subprocess
import time

from node import built
from subject import upstream

BODIES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bodies")
PROTOBUF = "application/vnd.kubernetes.protobuf"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
# Kind: collection, body, patch.
KINDS = {
    "configmap": ("/api/v1/namespaces/bench/configmaps", "configmap.json", "configmap-patch.json"),
    "pod": ("/api/v1/namespaces/bench/pods", "pod.json", "pod-patch.json"),
    "plain-pod": ("/api/v1/namespaces/bench/pods", "plain-pod.json", "pod-patch.json"),
    "node": ("/api/v1/nodes", "node.json", "node.json"),
    "service": ("/api/v1/namespaces/bench/services", "service.json", "service.json"),
    "endpointslice": ("/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices", "endpointslice.json", "endpointslice.json"),
}


class Bench:
    """A subject with the namespace `bench`, and the scale of the run: 1 for figures, less for a try."""

    def __init__(self, subject, scale):
        self.subject, self.scale = subject, scale
        self.generator = built("load", "load")
        if not subject.kubectl("get", "namespace", "bench", "--ignore-not-found", "-o", "name"):
            subject.kubectl("create", "namespace", "bench")
        # The peer without its controller manager makes none; pods need it.
        while not subject.kubectl("get", "-n", "bench", "serviceaccount", "default", "--ignore-not-found", "-o", "name"):
            subject.inside([upstream("kubectl"), "--kubeconfig", subject.kubeconfig, "create", "-n", "bench", "serviceaccount", "default"],
                           capture_output=True)

    def count(self, number):
        return max(20, int(number * self.scale))

    def command(self, name, **options):
        words = [self.generator, name, "--kubeconfig", self.subject.kubeconfig]
        for option, value in options.items():
            words += ["--" + option.replace("_", "-"), str(value)]
        return words

    def load(self, name, **options):
        """Runs the generator; its figures with the server's CPU a request."""
        before = self.subject.cpu_seconds()
        done = self.subject.inside(self.command(name, **options), capture_output=True, text=True)
        cpu = self.subject.cpu_seconds() - before
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        figures = json.loads(done.stdout)
        requests = figures.get("requests", figures.get("events"))
        return {"cpu_us": cpu * 1e6 / max(requests, 1), **figures, **({"note": done.stderr.strip()} if done.stderr.strip() else {})}

    def requests(self, operation, kind, count, in_flight, **options):
        path, body, patch = KINDS[kind]
        return self.load("requests", operation=operation, path=options.pop("path", path), body=os.path.join(BODIES, body),
                         patch=os.path.join(BODIES, patch), count=count, in_flight=in_flight, **options)

    def fill(self, kind, count, first=0):
        self.requests("create", kind, count, 32, first=first)

    def empty(self, kind, count):
        self.requests("delete", kind, count, 32, query="gracePeriodSeconds=0")


WRITES = ("create", "get", "update", "patch", "apply", "delete")


def writes(bench, in_flights=(1, 16, 64), encoding="json", operations=WRITES):
    cells = {}
    for kind in ("configmap", "pod"):
        for in_flight in in_flights:
            count = bench.count({1: 1500, 16: 6000, 64: 12000}[in_flight])
            for operation in operations:
                more = {"query": "gracePeriodSeconds=0"} if operation == "delete" else {}
                cells[f"{operation} {kind} x{in_flight}"] = bench.requests(operation, kind, count, in_flight, encoding=encoding, **more)
    return cells


def writes_protobuf(bench):
    return writes(bench, (16,), "protobuf", ("create", "get", "update", "delete"))


def lists(bench):
    objects = bench.count(10_000)
    bench.fill("pod", objects)
    shapes = {
        "json": ("", {}, 40), "protobuf": ("", {"accept": PROTOBUF}, 40), "table": ("", {"accept": TABLE}, 20),
        "pages of 500": ("limit=500", {}, 20), "one page of 500": ("limit=500", {"pages": "no"}, 400),
        "label, a tenth": ("labelSelector=group%3Dg3", {}, 200), "field, a tenth": ("fieldSelector=spec.schedulerName%3Dbench-3", {}, 200)}
    cells = {}
    for name, (query, more, count) in shapes.items():
        cells[f"list {objects} pods, {name}"] = bench.requests("list", "pod", bench.count(count), 4, query=query, connections=4, **more)
    bench.empty("pod", objects)
    return cells


def watch(bench):
    cells = {}
    path, body, _ = KINDS["configmap"]
    seconds = max(3, int(10 * bench.scale))
    for watchers, stalled, rate in ((100, 0, 200), (1000, 0, 200), (100, 100, 200), (100, 0, 0)):
        speed = f"{rate} writes/s" if rate else "writes as fast as they go"
        behind = f" beside {stalled} that never read" if stalled else ""
        cells[f"{watchers} watchers{behind}, {speed}"] = bench.load(
            "fan-out", path=path, body=os.path.join(BODIES, body), watchers=watchers, stalled=stalled, rate=rate, seconds=seconds)
    return cells


def resting(bench, seconds=10):
    """PSS and CPU while nothing is asked."""
    time.sleep(5)
    cpu = bench.subject.cpu_seconds()
    time.sleep(seconds)
    whole, file_backed, anonymous = bench.subject.memory()
    share = (bench.subject.cpu_seconds() - cpu) / seconds * 100
    return {"pss_mib": whole, "file_mib": file_backed, "anonymous_mib": anonymous, "cpu_percent": round(share, 2)}


def memory(bench):
    subject, cells = bench.subject, {}
    cells["at rest"] = resting(bench)
    few, many = bench.count(1000), bench.count(10_000)
    bench.fill("pod", few)
    cells[f"{few} pods"] = resting(bench)
    bench.fill("pod", many - few, first=few)
    cells[f"{many} pods"] = resting(bench)
    bench.empty("pod", many)
    cells["all deleted again"] = base = resting(bench)
    path, body, _ = KINDS["configmap"]
    watchers, flag = bench.count(1000), subject.path("watching")
    words = bench.command("fan-out", path=path, body=os.path.join(BODIES, body), watchers=watchers, rate=1, seconds=1, ready=flag)
    generator = subprocess.Popen(["nsenter", f"--net=/run/netns/{subject.name}", *words], stdout=subprocess.DEVNULL)
    try:
        while not os.path.exists(flag):
            if generator.poll() is not None:
                raise RuntimeError("the watchers ended")
            time.sleep(0.05)
        cells[f"{watchers} watchers"] = held = resting(bench)
        each = (held["pss_mib"] - base["pss_mib"]) * 1024 / watchers
        cells["a watcher"] = {"pss_kib": round(each, 1)}
    finally:
        if os.path.exists(flag):
            os.remove(flag)
        generator.wait(60)
    return cells


def start(bench):
    """Restarts with 10,000 objects; the first start was measured when the subject came up."""
    subject = bench.subject
    objects = bench.count(10_000)
    bench.fill("configmap", objects)
    subject.stop()
    cells = {"exec to /readyz, empty": {"seconds": round(subject.first_start, 3)}}
    cells[f"restart with {objects} objects"] = {"seconds": round(subject.start(), 3)}
    bench.empty("configmap", objects)
    return cells


def idle(bench):
    subject, seconds = bench.subject, max(10, int(120 * bench.scale))
    time.sleep(15)
    cpu, written, wakeups, begin = subject.cpu_seconds(), subject.written(), subject.wakeups(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begin
    whole, file_backed, anonymous = subject.memory()
    return {f"{seconds} s at rest": {
        "pss_mib": whole, "file_mib": file_backed, "anonymous_mib": anonymous,
        "cpu_percent": round((subject.cpu_seconds() - cpu) / took * 100, 3),
        "written_mb_a_day": round((subject.written() - written) / took * 86400 / 1e6, 1),
        "wakeups_per_second": round((subject.wakeups() - wakeups) / took, 1)}}


def scheduling(bench):
    nodes, pods = bench.count(5000), bench.count(5000)
    path, body, _ = KINDS["plain-pod"]
    bench.fill("node", nodes)
    time.sleep(2)
    cells = {f"basic, {pods} pods on {nodes} nodes": bench.load(
        "schedule", operation="create", path=path, body=os.path.join(BODIES, body), count=pods, in_flight=32)}
    bench.empty("plain-pod", pods)
    bench.empty("node", nodes)
    return cells


# Name: (function, what the peer needs beside kube-apiserver and etcd). In the order of a full run.
ROWS = {
    "writes": (writes, ()),
    "writes-protobuf": (writes_protobuf, ()),
    "lists": (lists, ()),
    "watch": (watch, ()),
    "memory": (memory, ()),
    "start": (start, ()),
    "scheduling": (scheduling, ("kube-scheduler",)),
    "idle": (idle, ("kube-scheduler", "kube-controller-manager")),
}
# Rows of the issue whose subject or measure is not built, with the reason.
MISSING = {
    "Services in the kernel beside kube-proxy": "not built yet",
    "pods from apply to Running, broken down": "not built yet; tests/bench/start has the whole",
    "restart with 1,000 watchers until all are synced again": "the generator does not connect again",
    "scheduling with affinity, spread and preemption": "not built yet",
}
