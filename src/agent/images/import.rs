//! Importing image archives into containerd, each file of them read once and streamed.

use std::path::{Path, PathBuf};

use coracle_base::task;
use tokio::runtime::Handle;

use super::archive::{BytesRead, open};
use super::contents::{Contents, Failure, Layer};
use crate::containerd::content::ContentStore;
use crate::cri::RuntimeError;

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
        let read = move || {
            Contents::read(reader, |path, entry, size| {
                let expected = path.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}"));
                let written = store.write_stream(&runtime, &lease_of_layers, path, entry, size, expected)?;
                Ok(Layer { digest: written.digest, size, gzip: written.gzip })
            })
        };
        let contents = task::blocking(read).await.map_err(|error| Failure::Malformed(error.to_string()))??;
        let mut names = Vec::new();
        for (name, target, blobs) in contents.images()? {
            for (blob, labels) in blobs {
                self.write(lease, blob, labels).await?;
            }
            self.name_image(&name, target).await?;
            names.push(name);
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerd::content::digest;
    use crate::images::contents::MANIFEST;

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
}
