//! What an image archive holds: its small files until the index says what they are, its layers by what stored them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;

use bytes::Bytes;

use super::archive::{Descriptor, DockerImage, Index, Manifest, name_of};
use crate::containerd::content::{Blob, GC_CONFIG, GC_LAYER, digest};
use crate::cri::RuntimeError;
use crate::proto::containerd::types;

/// Larger files are layers.
const SMALL: u64 = 1 << 20;
/// Bytes of small files that are held at most; what comes after them is stored as layers are.
const HELD: u64 = 64 << 20;
/// Indexes within indexes; builders write one level.
const DEEPEST: usize = 8;
/// Where a layout keeps blobs.
const BLOBS: &str = "blobs/sha256/";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Labels of an index that name its manifests.
const GC_MANIFEST: &str = "containerd.io/gc.ref.content.m";

/// Why an archive is not imported, before its path is added.
#[derive(Debug)]
pub(super) enum Failure {
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

pub(super) type Labelled = (Blob, Vec<(String, String)>);
pub(super) type Image = (String, types::Descriptor, Vec<Labelled>);

/// The files of an archive, by path.
#[derive(Default)]
pub(super) struct Contents {
    small: HashMap<String, Bytes>,
    /// Digest, size and whether it is gzip, of files that are in the content store already.
    layers: HashMap<String, Layer>,
    links: HashMap<String, String>,
}

#[derive(Clone)]
pub(super) struct Layer {
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) gzip: bool,
}

/// Names of the images in an archive that is not compressed; its layers are read and not kept.
pub fn inspect(archive: impl Read) -> Result<Vec<String>, String> {
    let contents = Contents::read(archive, |path, entry, size| {
        std::io::copy(entry, &mut std::io::sink())?;
        let digest = path.replacen(BLOBS, "sha256:", 1);
        Ok(Layer { digest, size, gzip: false })
    });
    let images = contents.and_then(|contents| contents.images()).map_err(|failure| format!("{failure:?}"))?;
    Ok(images.into_iter().map(|(name, ..)| name).collect())
}

impl Contents {
    /// Reads a tar. `keep` stores a layer: its path, what reads it, and its size.
    pub(super) fn read(
        reader: impl Read,
        mut keep: impl FnMut(&str, &mut dyn Read, u64) -> Result<Layer, Failure>,
    ) -> Result<Self, Failure> {
        let mut contents = Self::default();
        let mut held = 0;
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(malformed)? {
            let mut entry = entry.map_err(malformed)?;
            let path = entry.path().map_err(malformed)?.to_string_lossy().trim_start_matches("./").to_owned();
            let size = entry.size();
            match entry.header().entry_type() {
                tar::EntryType::Regular if size <= SMALL && held + size <= HELD => {
                    held += size;
                    let mut content = Vec::with_capacity(size as usize);
                    entry.read_to_end(&mut content)?;
                    // A blob whose content has another digest is none.
                    if path.strip_prefix(BLOBS).is_none_or(|hex| digest(&content) == format!("sha256:{hex}")) {
                        contents.small.insert(path, content.into());
                    }
                }
                tar::EntryType::Regular => {
                    let layer = keep(&path, &mut entry, size)?;
                    contents.layers.insert(path, layer);
                }
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    if let Some(target) = entry.link_name().map_err(malformed)? {
                        contents.links.insert(path, target.to_string_lossy().into_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    /// Every image that has a name, at least one: the name, what it points to, and the blobs that are not stored yet.
    pub(super) fn images(&self) -> Result<Vec<Image>, Failure> {
        let images = if self.small.contains_key("index.json") { self.layout()? } else { self.docker()? };
        if images.is_empty() { Err(Failure::Unnamed) } else { Ok(images) }
    }

    /// The images of an OCI layout.
    fn layout(&self) -> Result<Vec<Image>, Failure> {
        let index: Index = parse("index.json", &self.small["index.json"])?;
        let mut images = Vec::new();
        for descriptor in &index.manifests {
            let Some(name) = name_of(descriptor) else { continue };
            let mut blobs = Vec::new();
            self.gather(descriptor, 0, &mut HashSet::new(), &mut blobs)?;
            images.push((name, wire(descriptor), blobs));
        }
        Ok(images)
    }

    /// What is not in the content store of a manifest or index, parts before what refers to them.
    /// `seen` holds digests: what is named several times is gathered once.
    fn gather(
        &self,
        descriptor: &Descriptor,
        depth: usize,
        seen: &mut HashSet<String>,
        blobs: &mut Vec<Labelled>,
    ) -> Result<(), Failure> {
        if !seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        let missing = || Failure::Malformed(format!("blob {} is missing", descriptor.digest));
        let content = self.blob(&descriptor.digest).ok_or_else(missing)?;
        let mut labels = Vec::new();
        if INDEXES.contains(&descriptor.media_type.as_str()) {
            if depth == DEEPEST {
                return Err(Failure::Malformed(format!("indexes are nested more than {DEEPEST} deep")));
            }
            let index: Index = parse(&descriptor.digest, content)?;
            // Archives of one platform keep the index of all: what is absent is left out.
            let present = index.manifests.iter().filter(|manifest| self.blob(&manifest.digest).is_some());
            for (place, manifest) in present.enumerate() {
                self.gather(manifest, depth + 1, seen, blobs)?;
                labels.push((format!("{GC_MANIFEST}.{place}"), manifest.digest.clone()));
            }
        } else {
            let manifest: Manifest = parse(&descriptor.digest, content)?;
            for part in manifest.layers.iter().chain([&manifest.config]) {
                if seen.insert(part.digest.clone()) {
                    self.add_part(part, blobs)?;
                }
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
        } else if !self.layers.contains_key(&blob_path(&part.digest)) {
            return Err(Failure::Malformed(format!("blob {} is missing", part.digest)));
        }
        Ok(())
    }

    fn blob(&self, digest: &str) -> Option<&Bytes> {
        self.small.get(&blob_path(digest))
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

/// Where a layout keeps the blob of this digest.
fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
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

    fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, path, &content[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// A layout whose index names `levels` indexes, each of which names the next one `width` times.
    fn nested(levels: usize, width: usize) -> Result<Vec<String>, String> {
        let mut files = Vec::new();
        let mut add = |content: serde_json::Value| {
            let content = content.to_string().into_bytes();
            let digest = digest(&content);
            files.push((blob_path(&digest), content));
            digest
        };
        let config = add(serde_json::json!({}));
        let mut last = add(serde_json::json!({"config": {"digest": config, "size": 2}}));
        let mut media_type = MANIFEST;
        for _ in 0..levels {
            let entry = serde_json::json!({"mediaType": media_type, "digest": last, "size": 1});
            last = add(serde_json::json!({"manifests": vec![entry; width]}));
            media_type = INDEXES[0];
        }
        let annotations = serde_json::json!({"io.containerd.image.name": "a"});
        let entry = serde_json::json!({"mediaType": media_type, "digest": last, "size": 1, "annotations": annotations});
        let index = serde_json::json!({"manifests": [entry]});
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        inspect(&tar_of(&files)[..])
    }

    #[test]
    fn indexes_that_name_each_other_over_and_over_are_read_once() {
        assert_eq!(nested(1, 1).unwrap(), ["docker.io/library/a:latest"]);
        assert_eq!(nested(DEEPEST, 1000).unwrap(), ["docker.io/library/a:latest"]);
        assert!(nested(DEEPEST + 1, 1).unwrap_err().contains("nested"));
    }

    #[test]
    fn links_are_resolved_within_the_archive() {
        assert_eq!(resolve("a/layer.tar", "../b/layer.tar"), "b/layer.tar");
        assert_eq!(resolve("a/layer.tar", "../../../etc/passwd"), "etc/passwd");
    }
}
