"""A release-built coracle server, with or without a node, for the figures."""
import json
import os
import subprocess
import time

from subject import ADDRESS, ROOT, Subject, machine


def built(name, package):
    """A release binary of this checkout, built when it is not; `CORACLE_BINARY` and `LOAD_BINARY` name other ones."""
    given = os.environ.get(f"{name.upper()}_BINARY")
    if given:
        return given
    subprocess.run(["cargo", "build", "--release", "--locked", "--package", package, "--bin", name], cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release", name)


class Node(Subject):
    def __init__(self, with_agent=True, flags=()):
        super().__init__()
        self.binary, self.with_agent, self.flags = built("coracle", "coracle"), with_agent, list(flags)
        self.data = self.path("data")

    @property
    def process(self):
        return self.processes["coracle"]

    def start(self):
        """Starts the server; gives the seconds from exec to `/readyz` ok."""
        command = [self.binary, "server", "--data-dir", self.data, "--write-kubeconfig", self.kubeconfig, "--node-ip", ADDRESS, *self.flags]
        if not self.with_agent:
            command.append("--disable-agent")
        begin = time.monotonic()
        self.spawn("coracle", *command)
        return self.until_ready("coracle", begin)

    def remove(self):
        self.inside([self.binary, "uninstall", "--yes", "--data-dir", self.data], capture_output=True)

    def wait_ready(self):
        """Until a node is registered and Ready."""
        while not self.kubectl("get", "nodes", "-o", "name"):
            time.sleep(0.01)
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")

    def import_image(self, name):
        cache = os.environ.get("CORACLE_IMAGES", os.path.expanduser("~/.cache/coracle/images"))
        self.inside([self.binary, "images", "import", "--data-dir", self.data, os.path.join(cache, name)], check=True, capture_output=True)


def show(figures):
    """A row a figure: name, value, target; then all of them as one line of JSON."""
    for name, value, target in figures:
        print(f"{name:42} {value:>12} {('target ' + str(target)) if target else ''}")
    print(json.dumps({"machine": machine(), **{name: value for name, value, _ in figures}}))
