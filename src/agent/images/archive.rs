//! Image archives as files: docker archives and OCI layouts, plain or compressed, and what their index files say.
//!
//! Shapes: OCI image-spec image-layout.md; docker archives as `docker save` writes them (manifest.json).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

/// A descriptor of the OCI image spec.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: i64,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

/// An index: index.json of a layout, or a list of manifests for several platforms.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
}

/// An image manifest.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
}

/// One image of a docker archive; paths are of files in the archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layers: Vec<String>,
}

/// How much of the file was read; shared with whoever shows progress.
#[derive(Clone, Default)]
pub struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counting {
    file: File,
    read: BytesRead,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.0.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens an archive; what compressed it is told by its first bytes.
pub(super) fn open(path: &Path, read: BytesRead) -> std::io::Result<Box<dyn Read + Send>> {
    let mut magic = [0; 4];
    let known = File::open(path)?.read(&mut magic)?;
    let reader = BufReader::with_capacity(256 << 10, Counting { file: File::open(path)?, read });
    Ok(match &magic[..known] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(reader)?),
        _ => Box::new(reader),
    })
}

/// The full name of an image reference: `nginx` is `docker.io/library/nginx:latest`.
/// Upstream: github.com/distribution/reference ParseDockerRef.
pub fn full_name(reference: &str) -> String {
    let (domain, rest) = match reference.split_once('/') {
        Some((domain, rest)) if domain.contains(['.', ':']) || domain == "localhost" => (domain, rest.to_owned()),
        Some(_) => ("docker.io", reference.to_owned()),
        None => ("docker.io", format!("library/{reference}")),
    };
    let last = rest.rsplit('/').next().unwrap_or_default();
    let tag = if last.contains([':', '@']) { "" } else { ":latest" };
    format!("{domain}/{rest}{tag}")
}

/// The name that a layout's index gives an image: containerd's annotation, or the specification's where it is whole.
pub(super) fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotation = |key: &str| descriptor.annotations.get(key).filter(|value| !value.is_empty());
    if let Some(name) = annotation("io.containerd.image.name") {
        return Some(full_name(name));
    }
    let name = annotation("org.opencontainers.image.ref.name")?;
    // A bare tag names no image.
    name.contains(['/', ':']).then(|| full_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_completed() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.22", "docker.io/library/nginx:1.22"),
            ("team/app", "docker.io/team/app:latest"),
            ("registry.example.com/app", "registry.example.com/app:latest"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("localhost/app", "localhost/app:latest"),
            ("app@sha256:00", "docker.io/library/app@sha256:00"),
        ] {
            assert_eq!(full_name(short), full);
        }
    }
}
