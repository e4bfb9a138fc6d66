"""Image archives as bytes: layers from directories, configurations, and the two forms that runtimes import."""
import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}[platform.machine()]
OCI = "application/vnd.oci.image."


def digest(content):
    return hashlib.sha256(content).hexdigest()


def layer(root):
    """The directory as one layer; the same content gives the same bytes, owned by root."""
    def owned_by_root(entry):
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        return entry
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory, directories, files in os.walk(root):
            directories.sort()
            for name in sorted(directories + files):
                path = os.path.join(directory, name)
                archive.add(path, arcname=os.path.relpath(path, root), recursive=False, filter=owned_by_root)
    return buffer.getvalue()


class Image:
    """One image: its names, its layers (uncompressed, lowest first), and what a container of it runs."""

    def __init__(self, names, layers, entrypoint, command, user, label):
        self.names, self.layers = names, layers
        self.config = json.dumps(dict(
            architecture=ARCHITECTURE, os="linux", created="2026-01-01T00:00:00Z",
            config=dict(Entrypoint=entrypoint or None, Cmd=command or None, User=user, WorkingDir="/",
                        Env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                        Labels={"dev.coracle.rebuilt-from": label}),
            rootfs=dict(type="layers", diff_ids=["sha256:" + digest(content) for content in layers]))).encode()

    def manifest(self, compressed):
        """The image's manifest, and the blobs that it names, by their digests."""
        blobs = [gzip.compress(content, mtime=0) if compressed else content for content in self.layers]
        kind = OCI + "layer.v1.tar" + ("+gzip" if compressed else "")
        described = lambda kind, blob: dict(mediaType=kind, digest="sha256:" + digest(blob), size=len(blob))
        manifest = json.dumps(dict(schemaVersion=2, mediaType=OCI + "manifest.v1+json", config=described(OCI + "config.v1+json", self.config),
                                   layers=[described(kind, blob) for blob in blobs])).encode()
        return manifest, {digest(blob): blob for blob in [self.config, *blobs]}


def layout(images, compressed):
    """An OCI layout of all images; what they share is in it once."""
    blobs, entries = {}, []
    for image in images:
        manifest, parts = image.manifest(compressed)
        blobs |= parts | {digest(manifest): manifest}
        entries += [dict(mediaType=OCI + "manifest.v1+json", digest="sha256:" + digest(manifest), size=len(manifest),
                         platform=dict(architecture=ARCHITECTURE, os="linux"),
                         annotations={"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]})
                    for name in image.names]
    index = dict(schemaVersion=2, mediaType=OCI + "index.v1+json", manifests=entries)
    return tar_of({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode(),
                   **{"blobs/sha256/" + name: blob for name, blob in blobs.items()}})


def docker(images):
    """A docker archive of all images, as `docker save` writes it."""
    files, list_of = {}, []
    for image in images:
        config = digest(image.config) + ".json"
        layers = {digest(content) + "/layer.tar": content for content in image.layers}
        list_of.append(dict(Config=config, RepoTags=image.names, Layers=list(layers)))
        files |= {config: image.config} | layers
    return tar_of({"manifest.json": json.dumps(list_of).encode(), **files})


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as result:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            result.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def compress(name, content):
    """The archive compressed as the end of its name says."""
    if name.endswith(".gz"):
        return gzip.compress(content, mtime=0)
    if name.endswith(".zst"):
        return subprocess.run(["zstd", "-q", "-c"], input=content, check=True, capture_output=True).stdout
    return content
