"""Debian's packages as a tree to take files from; nothing is installed, and nothing of the machine gets in."""
import glob
import os
import platform
import shutil
import subprocess
import tempfile

# Debian's packages still name paths that are links since /usr was merged.
MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
LOADER = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1", "armv7l": "lib/ld-linux-armhf.so.3"}


def merged_root(root):
    """Makes an empty root file system whose /bin, /sbin and /lib are links into /usr."""
    for link, target in MERGED.items():
        os.makedirs(os.path.join(root, target), exist_ok=True)
        os.symlink(target, os.path.join(root, link))


def download(packages, directory):
    """The archives of `packages` and of all that they depend on; `directory` keeps them from one time to the next."""
    os.makedirs(os.path.join(directory, "partial"), exist_ok=True)
    for path in (directory, os.path.join(directory, "partial")):
        os.chmod(path, 0o777)  # apt downloads as its own user
    with tempfile.NamedTemporaryFile() as nothing_is_installed:
        os.chmod(nothing_is_installed.name, 0o644)
        options = ["-o", f"Dir::State::status={nothing_is_installed.name}", "-o", f"Dir::Cache::archives={directory}",
                   "-o", "Debug::NoLocking=1", "--no-install-recommends"]
        fetch = ["apt-get", "-qq", "--yes", "--download-only", *options, "install", *packages]
        # A machine that was just made has no package lists.
        if subprocess.run(fetch, capture_output=True).returncode != 0:
            subprocess.run(["apt-get", "-qq", "update"], check=True)
            subprocess.run(fetch, check=True, stdout=subprocess.DEVNULL)
        uris = subprocess.run(["apt-get", "-qq", "--print-uris", *options, "-o", "Dir::Cache::archives=/nonexistent", "install", *packages],
                              check=True, capture_output=True, text=True).stdout
    # Each line is 'URI' FILE SIZE HASH; the directory may hold other versions from earlier times.
    return [os.path.join(directory, line.split()[1]) for line in uris.splitlines()]


class Tree:
    """What `packages`, with all that they depend on, would put on an empty machine."""

    def __init__(self, packages, cache):
        self.scratch = tempfile.TemporaryDirectory(prefix="coracle-packages-")
        self.root = self.scratch.name
        merged_root(self.root)
        for archive in download(packages, cache):
            content = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], check=True, stdout=subprocess.PIPE).stdout
            subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", self.root], check=True, input=content)
        self.libraries = os.path.join(self.root, "usr/lib", os.uname().machine + "-linux-gnu")
        self.loader = os.path.realpath(glob.glob(self.libraries + "/ld-linux*")[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.scratch.cleanup()

    def program(self, path, root, place=None):
        """Copies the program at `path`, with the libraries that it is linked with, into another root, there as `place`."""
        self.file(path, root, place)
        self.linked(path, root)

    def linked(self, path, root):
        """Copies the libraries that the file at `path` is linked with, and their loader."""
        listing = subprocess.run([self.loader, "--library-path", self.libraries, "--list", self.root + path], check=True, capture_output=True, text=True)
        for word in listing.stdout.split():
            if word.startswith(self.root):
                self.file(word[len(self.root):], root)
        self.file("/" + LOADER[platform.machine()], root)

    def file(self, path, root, place=None):
        target = root + (place or path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        source = self.root + path
        while os.path.islink(source):  # also to absolute paths, which mean this root's
            link = os.readlink(source)
            source = self.root + link if link.startswith("/") else os.path.join(os.path.dirname(source), link)
        shutil.copy(source, target)

    def tree(self, pattern, root):
        """Copies the directories and files that match `pattern` as they are."""
        found = glob.glob(self.root + pattern)
        if not found:
            raise FileNotFoundError(f"no package has {pattern}")
        for path in found:
            target = root + path[len(self.root):]
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy(path, target, follow_symlinks=False)
