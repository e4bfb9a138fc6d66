"""A registry on the loopback of the cluster's network, with all images of an archive, and the `registries.yaml` that leads to it."""
import http.client
import json
import os
import subprocess
import sys
import tarfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../images"))
from packages import Tree  # noqa: E402

PORT = 5000
CONFIGURATION = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {storage}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class Registry:
    """Debian's docker-registry, taken from its package and run with everything it writes in `directory`."""

    def __init__(self, directory, inside, packages):
        self.directory, self.inside, self.process = directory, inside, None
        self.mirrors = os.path.join(directory, "registries.yaml")
        os.makedirs(directory)
        self.tree = Tree(["docker-registry"], packages)
        with open(self.mirrors, "w") as file:
            json.dump({"mirrors": {"registry.k8s.io": {"endpoint": [f"http://127.0.0.1:{PORT}"]}}}, file)  # JSON is YAML

    def start(self):
        configuration = os.path.join(self.directory, "configuration.yaml")
        with open(configuration, "w") as file:
            file.write(CONFIGURATION.format(storage=os.path.join(self.directory, "storage"), port=PORT))
        log = open(os.path.join(self.directory, "log"), "w")
        self.process = subprocess.Popen([*self.inside, self.tree.loader, "--library-path", self.tree.libraries,
                                         self.tree.root + "/usr/bin/docker-registry", "serve", configuration], stdout=log, stderr=log)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.tree.scratch.cleanup()


def push(archive):
    """Pushes all images of the OCI layout `archive`. Runs inside of the registry's network: `registry.py ARCHIVE`."""
    with tarfile.open(archive) as layout:
        read = lambda name: layout.extractfile(name).read()
        blob = lambda digest: read("blobs/" + digest.replace(":", "/"))
        registry = connect()
        for entry in json.loads(read("index.json"))["manifests"]:
            # The mirror is asked without the name of the registry that it stands for.
            repository, tag = entry["annotations"]["io.containerd.image.name"].split("/", 1)[1].rsplit(":", 1)
            content = blob(entry["digest"])
            manifest = json.loads(content)
            for part in [manifest["config"], *manifest["layers"]]:
                if ask(registry, "HEAD", f"/v2/{repository}/blobs/{part['digest']}").status != 200:
                    upload = ask(registry, "POST", f"/v2/{repository}/blobs/uploads/").getheader("Location")
                    path = upload.split(f":{PORT}", 1)[-1]
                    answer = ask(registry, "PUT", f"{path}{'&' if '?' in path else '?'}digest={part['digest']}", blob(part["digest"]), "application/octet-stream")
                    expect(answer, 201, part["digest"])
            expect(ask(registry, "PUT", f"/v2/{repository}/manifests/{tag}", content, manifest["mediaType"]), 201, f"{repository}:{tag}")


def connect():
    """A connection to the registry, which may be starting still."""
    for _ in range(300):
        registry = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        try:
            if ask(registry, "GET", "/v2/").status == 200:
                return registry
        except ConnectionError:
            time.sleep(0.1)
    sys.exit("the registry does not answer")


def ask(registry, method, path, body=None, kind=None):
    registry.request(method, path, body, {"Content-Type": kind} if kind else {})
    answer = registry.getresponse()
    answer.read()
    return answer


def expect(answer, status, what):
    if answer.status != status:
        sys.exit(f"the registry answered {answer.status} to {what}")


if __name__ == "__main__":
    push(sys.argv[1])
