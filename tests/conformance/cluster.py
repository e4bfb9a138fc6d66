"""A coracle cluster of one node for the suite, in a network namespace of its own, with the images that the tests name."""
import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../bench"))
from node import Node  # noqa: E402
from registry import Registry  # noqa: E402


class Cluster:
    def __init__(self, binary, log):
        if binary:
            os.environ["CORACLE_BINARY"] = binary
        images = subprocess.run([os.path.join(HERE, "../images/make"), "conformance"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.images, self.packages = os.path.join(images, "conformance.tar"), os.path.join(images, "packages")
        self.node, self.log, self.registry = Node(), log, None
        self.kubeconfig = self.node.kubeconfig

    @property
    def inside_words(self):
        return ["nsenter", f"--net=/run/netns/{self.node.name}"]

    def __enter__(self):
        try:
            self.node.__enter__()
            self.registry = Registry(self.node.path("registry"), self.inside_words, self.packages)
            self.registry.start()
            self.node.flags += ["--private-registry", self.registry.mirrors]
            self.node.start()
            self.node.inside([sys.executable, os.path.join(HERE, "registry.py"), self.images], check=True)
            self.node.wait_ready()
            self.node.import_image(self.images)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *what):
        # A second interrupt does not stop what removes everything.
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, signal.SIG_IGN)
        try:
            shutil.copy(self.node.path("coracle.log"), self.log)
        except OSError as error:
            print(f"the server's log is lost: {error}", file=sys.stderr)
        if self.registry:
            self.registry.stop()
        self.node.__exit__(*what)
