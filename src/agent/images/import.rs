//! Importing image archives into containerd, each file of them read once and streamed.
//!
//! Small files are kept until the archive's index says what they are; large ones are layers, and go to the content store as they come.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coracle_base::task;
use tokio::runtime::Handle;

use super::archive::{BytesRead, Descriptor, DockerImage, Index, Manifest, name_of, open};
use crate::containerd::content::{Blob, ContentStore, GC_CONFIG, GC_LAYER, digest};
use crate::cri::RuntimeError;
use crate::proto::containerd::types;

/// Larger files are layers.
const SMALL: u64 = 1 << 20;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Labels of an index that name its manifests.
const GC_MANIFEST: &str = "containerd.io/gc.ref.content.m";

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{}: {source}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: not an image archive ({why}); a docker archive (docker save) or an OCI layout is wanted", path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{}: the archive names no image; save it by its name, not by its ID", path.display())]
    Unnamed { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Runtime {
        path: PathBuf,
        #[source]
        source: RuntimeError,
    },
}

/// Why one archive failed, before its path is added.
enum Failure {
    Read(std::io::Error),
    Malformed(String),
    Unnamed,
    Runtime(RuntimeError),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Read(error)
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        Failure::Runtime(error)
    }
}

impl ContentStore {
    /// Imports every image of the archive at `path`; gives their full names. Images of the same name are replaced.
    pub async fn import_archive(&self, path: &Path, read: BytesRead) -> Result<Vec<String>, ImportError> {
        let path = path.to_owned();
        let failed = |failure| match failure {
            Failure::Read(source) => ImportError::Read { path: path.clone(), source },
            Failure::Malformed(why) => ImportError::Malformed { path: path.clone(), why },
            Failure::Unnamed => ImportError::Unnamed { path: path.clone() },
            Failure::Runtime(source) => ImportError::Runtime { path: path.clone(), source },
        };
        self.ensure_namespace().await.map_err(|error| failed(error.into()))?;
        let lease = self.lease(&path.to_string_lossy()).await.map_err(|error| failed(error.into()))?;
        let outcome = self.import_under_lease(&path, read, &lease).await;
        self.end_lease(&lease).await;
        outcome.map_err(failed)
    }

    async fn import_under_lease(&self, path: &Path, read: BytesRead, lease: &str) -> Result<Vec<String>, Failure> {
        let reader = open(path, read)?;
        let (store, runtime, lease_of_layers) = (self.clone(), Handle::current(), lease.to_owned());
        let files = task::blocking(move || Files::read(reader, &store, &runtime, &lease_of_layers)).await;
        let files = files.map_err(|error| Failure::Malformed(error.to_string()))??;
        let images = if files.small.contains_key("index.json") { files.layout()? } else { files.docker()? };
        if images.is_empty() {
            return Err(Failure::Unnamed);
        }
        let mut names = Vec::new();
        for (name, target, blobs) in images {
            for (blob, labels) in blobs {
                self.write(lease, blob, labels).await?;
            }
            self.name_image(&name, target).await?;
            names.push(name);
        }
        Ok(names)
    }
}

type Labelled = (Blob, Vec<(String, String)>);
type Image = (String, types::Descriptor, Vec<Labelled>);

/// The files of an archive, by path.
#[derive(Default)]
struct Files {
    small: HashMap<String, Bytes>,
    /// Digest, size and whether it is gzip, of files that are in the content store already.
    layers: HashMap<String, Layer>,
    links: HashMap<String, String>,
}

#[derive(Clone)]
struct Layer {
    digest: String,
    size: u64,
    gzip: bool,
}

impl Files {
    fn read(reader: impl Read, store: &ContentStore, runtime: &Handle, lease: &str) -> Result<Self, Failure> {
        let mut files = Files::default();
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(malformed)? {
            let mut entry = entry.map_err(malformed)?;
            let path = entry.path().map_err(malformed)?.to_string_lossy().trim_start_matches("./").to_owned();
            match entry.header().entry_type() {
                tar::EntryType::Regular if entry.size() <= SMALL => {
                    let mut content = Vec::with_capacity(entry.size() as usize);
                    entry.read_to_end(&mut content)?;
                    files.small.insert(path, content.into());
                }
                tar::EntryType::Regular => {
                    let size = entry.size();
                    let expected = path.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}"));
                    let written = store.write_stream(runtime, lease, &path, &mut entry, size, expected)?;
                    files.layers.insert(path, Layer { digest: written.digest, size, gzip: written.gzip });
                }
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    if let Some(target) = entry.link_name().map_err(malformed)? {
                        files.links.insert(path, target.to_string_lossy().into_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(files)
    }

    /// The images of an OCI layout.
    fn layout(&self) -> Result<Vec<Image>, Failure> {
        let index: Index = parse("index.json", &self.small["index.json"])?;
        let mut images = Vec::new();
        for descriptor in &index.manifests {
            let Some(name) = name_of(descriptor) else { continue };
            let mut blobs = Vec::new();
            self.gather(descriptor, &mut blobs)?;
            images.push((name, wire(descriptor), blobs));
        }
        Ok(images)
    }

    /// What is not in the content store of a manifest or index, parts before what refers to them.
    fn gather(&self, descriptor: &Descriptor, blobs: &mut Vec<Labelled>) -> Result<(), Failure> {
        let missing = || Failure::Malformed(format!("blob {} is missing", descriptor.digest));
        let content = self.blob(&descriptor.digest).ok_or_else(missing)?;
        let mut labels = Vec::new();
        if INDEXES.contains(&descriptor.media_type.as_str()) {
            let index: Index = parse(&descriptor.digest, content)?;
            // Archives of one platform keep the index of all: what is absent is left out.
            let present = index.manifests.iter().filter(|manifest| self.blob(&manifest.digest).is_some());
            for (place, manifest) in present.enumerate() {
                self.gather(manifest, blobs)?;
                labels.push((format!("{GC_MANIFEST}.{place}"), manifest.digest.clone()));
            }
        } else {
            let manifest: Manifest = parse(&descriptor.digest, content)?;
            for part in manifest.layers.iter().chain([&manifest.config]) {
                self.add_part(part, blobs)?;
            }
            labels.push((GC_CONFIG.to_owned(), manifest.config.digest));
            let layers = manifest.layers.into_iter().enumerate();
            labels.extend(layers.map(|(place, layer)| (format!("{GC_LAYER}.{place}"), layer.digest)));
        }
        blobs.push((Blob::new(&descriptor.media_type, content.clone()), labels));
        Ok(())
    }

    fn add_part(&self, part: &Descriptor, blobs: &mut Vec<Labelled>) -> Result<(), Failure> {
        if let Some(content) = self.blob(&part.digest) {
            blobs.push((Blob::new(&part.media_type, content.clone()), Vec::new()));
        } else if !self.layers.values().any(|layer| layer.digest == part.digest) {
            return Err(Failure::Malformed(format!("blob {} is missing", part.digest)));
        }
        Ok(())
    }

    /// A small blob, by digest; one whose content has another digest is none.
    fn blob(&self, digest_text: &str) -> Option<&Bytes> {
        let path = format!("blobs/{}", digest_text.replace(':', "/"));
        self.small.get(&path).filter(|content| digest(content) == digest_text)
    }

    /// The images of a docker archive, with manifests made for them.
    fn docker(&self) -> Result<Vec<Image>, Failure> {
        let list = self
            .small
            .get("manifest.json")
            .ok_or_else(|| Failure::Malformed("it has neither index.json nor manifest.json".to_owned()))?;
        let list: Vec<DockerImage> = parse("manifest.json", list)?;
        let mut images = Vec::new();
        for image in &list {
            let mut blobs = Vec::new();
            let missing = |path: &str| Failure::Malformed(format!("file {path} is missing"));
            let config = self.small.get(&image.config).ok_or_else(|| missing(&image.config))?;
            let config = Blob::new("application/vnd.oci.image.config.v1+json", config.clone());
            let mut layers = Vec::new();
            for path in &image.layers {
                let layer = self.docker_layer(path, &mut blobs).ok_or_else(|| missing(path))?;
                let kind = if layer.gzip { "tar+gzip" } else { "tar" };
                let media_type = format!("application/vnd.oci.image.layer.v1.{kind}");
                layers.push((media_type, layer));
            }
            let entries = layers.iter().map(|(media_type, layer)| {
                serde_json::json!({"mediaType": media_type, "digest": layer.digest, "size": layer.size})
            });
            let manifest = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": config.media_type, "digest": config.digest, "size": config.bytes.len()},
                "layers": entries.collect::<Vec<_>>(),
            });
            let mut labels = vec![(GC_CONFIG.to_owned(), config.digest.clone())];
            let places = layers.iter().enumerate();
            labels.extend(places.map(|(place, (_, layer))| (format!("{GC_LAYER}.{place}"), layer.digest.clone())));
            let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
            let target = manifest.descriptor();
            blobs.push((config, Vec::new()));
            blobs.push((manifest, labels));
            let mut blobs = Some(blobs);
            for tag in image.repo_tags.iter().flatten() {
                // The blobs are written once, for the first of the image's names.
                images.push((super::archive::full_name(tag), target.clone(), blobs.take().unwrap_or_default()));
            }
        }
        Ok(images)
    }

    fn docker_layer(&self, path: &str, blobs: &mut Vec<Labelled>) -> Option<Layer> {
        let path = self.links.get(path).map_or(path.to_owned(), |target| resolve(path, target));
        if let Some(layer) = self.layers.get(&path) {
            return Some(layer.clone());
        }
        let content = self.small.get(&path)?;
        let blob = Blob::new("application/vnd.oci.image.layer.v1.tar", content.clone());
        let layer =
            Layer { digest: blob.digest.clone(), size: content.len() as u64, gzip: content.starts_with(&[0x1f, 0x8b]) };
        blobs.push((blob, Vec::new()));
        Some(layer)
    }
}

/// The path in the archive that a link at `path` means.
fn resolve(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, content: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(content).map_err(|error| Failure::Malformed(format!("{name}: {error}")))
}

fn malformed(error: std::io::Error) -> Failure {
    Failure::Malformed(error.to_string())
}

fn wire(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        annotations: BTreeMap::clone(&descriptor.annotations).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::testing::TestRuntime;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    /// A layer of two megabytes that no compression shrinks below what is kept in memory.
    fn layer() -> Vec<u8> {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u8
        })
        .take(2 << 20)
        .collect();
        tar_of(&[("noise", &noise)])
    }

    fn config(layer: &[u8]) -> Vec<u8> {
        let tree = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}});
        tree.to_string().into_bytes()
    }

    fn docker_archive() -> Vec<u8> {
        let layer = layer();
        let manifest = r#"[{"Config":"c.json","RepoTags":["team/docker:1"],"Layers":["l/layer.tar"]}]"#;
        tar_of(&[("l/layer.tar", &layer), ("c.json", &config(&layer)), ("manifest.json", manifest.as_bytes())])
    }

    fn layout(name: Option<&str>) -> Vec<u8> {
        let (layer, path) = (layer(), |content: &[u8]| format!("blobs/{}", digest(content).replace(':', "/")));
        let config = config(&layer);
        let entry =
            |content: &[u8]| serde_json::json!({"mediaType": "x", "digest": digest(content), "size": content.len()});
        let manifest = serde_json::json!({"schemaVersion": 2, "config": entry(&config), "layers": [entry(&layer)]});
        let manifest = manifest.to_string().into_bytes();
        let mut named = entry(&manifest);
        named["mediaType"] = MANIFEST.into();
        if let Some(name) = name {
            named["annotations"] = serde_json::json!({"io.containerd.image.name": name});
        }
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [named]}).to_string();
        tar_of(&[
            ("index.json", index.as_bytes()),
            (&path(&manifest), &manifest),
            (&path(&config), &config),
            (&path(&layer), &layer),
        ])
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn archives_of_each_form_become_images() {
        let runtime = TestRuntime::start().await;
        let store = ContentStore::new(&runtime.settings.socket());
        let gzip = |content: Vec<u8>| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &content).unwrap();
            encoder.finish().unwrap()
        };
        let cases = [
            ("a.tar", docker_archive(), Ok("docker.io/team/docker:1")),
            ("b.tar.gz", gzip(layout(Some("example.com/oci:2"))), Ok("example.com/oci:2")),
            ("c.tar.zst", zstd::encode_all(&layout(Some("zst"))[..], 1).unwrap(), Ok("docker.io/library/zst:latest")),
            ("d.tar", layout(None), Err("names no image")),
            ("e.tar", b"not an archive at all".repeat(100), Err("not an image archive")),
            ("f.tar", tar_of(&[("readme", b"hello")]), Err("neither index.json nor manifest.json")),
        ];
        for (file, content, expected) in cases {
            let path = runtime.directory.path().join(file);
            std::fs::write(&path, &content).unwrap();
            let read = BytesRead::default();
            match (store.import_archive(&path, read.clone()).await, expected) {
                (Ok(names), Ok(expected)) => {
                    assert_eq!(names, [expected]);
                    assert!(read.get() > 0 && read.get() <= content.len() as u64);
                    crate::images::known(&runtime.cri, expected).await.unwrap();
                }
                (Err(error), Err(expected)) => {
                    let said = error.to_string();
                    assert!(said.contains(expected) && said.contains(file), "{said}");
                }
                (outcome, expected) => panic!("{file}: {outcome:?} instead of {expected:?}"),
            }
        }
        runtime.stop().await;
    }

    #[test]
    fn links_are_resolved_within_the_archive() {
        assert_eq!(resolve("a/layer.tar", "../b/layer.tar"), "b/layer.tar");
        assert_eq!(resolve("a/layer.tar", "../../../etc/passwd"), "etc/passwd");
    }
}
