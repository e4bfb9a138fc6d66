//! Writing images into containerd: blobs by digest, then a name that points at a manifest.

use std::collections::HashSet;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::cri::{RuntimeError, channel};
use crate::proto::containerd::services::content::v1 as content;
use crate::proto::containerd::services::images::v1 as images;
use crate::proto::containerd::services::leases::v1 as leases;
use crate::proto::containerd::services::namespaces::v1 as namespaces;
use crate::proto::containerd::types::Descriptor;

/// The namespace in which the CRI keeps its images and containers.
pub const NAMESPACE: &str = "k8s.io";

/// The label of images that are never removed for space; containerd 1.6 does not tell the CRI's clients of it.
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// A piece of an image in memory.
pub struct Blob {
    pub media_type: String,
    /// `sha256:<hex>`
    pub digest: String,
    pub bytes: Bytes,
}

/// An image whose pieces are all in memory; the first is what the name points at.
pub struct ImageContent {
    pub name: String,
    /// Each with the labels that keep the blobs it refers to from being collected.
    pub blobs: Vec<(Blob, Vec<(String, String)>)>,
}

/// A connection to containerd's own services. Cloning is a reference count.
#[derive(Clone)]
pub struct ContentStore {
    channel: Channel,
}

impl Blob {
    pub fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.to_owned(), digest: digest(&bytes), bytes }
    }

    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: self.bytes.len() as i64,
            annotations: Default::default(),
        }
    }
}

/// `sha256:<hex>` of the bytes.
pub fn digest(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

fn hex(hash: &[u8]) -> String {
    use std::fmt::Write;
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl ImageContent {
    /// An image of one platform; makes its OCI manifest.
    pub fn from_parts(name: &str, config: Blob, layers: Vec<Blob>) -> Self {
        let entry = |blob: &Blob| serde_json::json!({"mediaType": blob.media_type, "digest": blob.digest, "size": blob.bytes.len()});
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": entry(&config),
            "layers": layers.iter().map(entry).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(media_type, manifest.to_string().into_bytes());
        let mut labels = vec![(GC_CONFIG.to_owned(), config.digest.clone())];
        labels.extend(
            layers.iter().enumerate().map(|(index, layer)| (format!("{GC_LAYER}.{index}"), layer.digest.clone())),
        );
        let mut blobs = vec![(manifest, labels), (config, Vec::new())];
        blobs.extend(layers.into_iter().map(|layer| (layer, Vec::new())));
        Self { name: name.to_owned(), blobs }
    }
}

/// Labels of a manifest that name the blobs it refers to (containerd docs/garbage-collection.md).
pub const GC_CONFIG: &str = "containerd.io/gc.ref.content.config";
pub const GC_LAYER: &str = "containerd.io/gc.ref.content.l";

/// What is sent in one message when a blob is written.
const CHUNK: usize = 1 << 20;

impl ContentStore {
    pub fn new(socket: &Path) -> Self {
        Self { channel: channel(socket) }
    }

    /// Whether the image's name is known.
    pub async fn has_image(&self, name: &str) -> Result<bool, RuntimeError> {
        let request = request(images::GetImageRequest { name: name.to_owned() }, None);
        match images::images_client::ImagesClient::new(self.channel.clone()).get(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
            Err(status) => Err(RuntimeError::Refused { call: "images.get", status }),
        }
    }

    /// Writes the image's blobs and then its name; what is there already stays.
    pub async fn import(&self, image: ImageContent) -> Result<(), RuntimeError> {
        self.ensure_namespace().await?;
        let lease = self.lease(&image.name).await?;
        let result = self.import_under(&lease, image).await;
        self.end_lease(&lease).await;
        result
    }

    /// What was written under the lease and is named by nothing may be collected from here on.
    pub async fn end_lease(&self, lease: &str) {
        let request = request(leases::DeleteRequest { id: lease.to_owned(), sync: false }, None);
        let _ = leases::leases_client::LeasesClient::new(self.channel.clone()).delete(request).await;
    }

    async fn import_under(&self, lease: &str, image: ImageContent) -> Result<(), RuntimeError> {
        let target = image.blobs.first().map(|(blob, _)| blob.descriptor());
        // References first, so that a manifest never stands without its parts.
        for (blob, labels) in image.blobs.into_iter().rev() {
            self.write(lease, blob, labels).await?;
        }
        let target = target.ok_or(RuntimeError::Incomplete { call: "import", what: "any blob" })?;
        self.name_image(&image.name, target).await
    }

    /// Names of the images that stay whatever the disk has room for.
    pub async fn pinned(&self) -> Result<HashSet<String>, RuntimeError> {
        let mut client = images::images_client::ImagesClient::new(self.channel.clone());
        let filters = vec![format!("labels.{:?}=={}", PINNED.0, PINNED.1)];
        let answer = client.list(request(images::ListImagesRequest { filters }, None)).await;
        let answer = answer.map_err(|status| RuntimeError::Refused { call: "images.list", status })?;
        Ok(answer.into_inner().images.into_iter().map(|image| image.name).collect())
    }

    /// Points `name` at a manifest or index that is in the store.
    pub async fn name_image(&self, name: &str, target: Descriptor) -> Result<(), RuntimeError> {
        // What was brought by hand may be had from nowhere else.
        let labels = [("io.cri-containerd.image", "managed"), (PINNED.0, PINNED.1)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let image = images::Image { name: name.to_owned(), labels: labels.into(), target: Some(target) };
        let mut client = images::images_client::ImagesClient::new(self.channel.clone());
        match client.create(request(images::CreateImageRequest { image: Some(image.clone()) }, None)).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == tonic::Code::AlreadyExists => {
                let update = request(images::UpdateImageRequest { image: Some(image) }, None);
                let answer = client.update(update).await;
                answer.map(drop).map_err(|status| RuntimeError::Refused { call: "images.update", status })
            }
            Err(status) => Err(RuntimeError::Refused { call: "images.create", status }),
        }
    }

    /// A lease that ends by itself within an hour should we be killed.
    pub async fn lease(&self, purpose: &str) -> Result<String, RuntimeError> {
        let id = format!("coracle-{}-{:x}", &digest(purpose.as_bytes())[7..23], std::process::id());
        let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let labels = [("containerd.io/gc.expire".to_owned(), expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())];
        let create = request(leases::CreateRequest { id: id.clone(), labels: labels.into() }, None);
        match leases::leases_client::LeasesClient::new(self.channel.clone()).create(create).await {
            Err(status) if status.code() != tonic::Code::AlreadyExists => {
                Err(RuntimeError::Refused { call: "leases.create", status })
            }
            _ => Ok(id),
        }
    }

    pub(crate) async fn ensure_namespace(&self) -> Result<(), RuntimeError> {
        let namespace = namespaces::Namespace { name: NAMESPACE.to_owned(), labels: Default::default() };
        let create = namespaces::CreateNamespaceRequest { namespace: Some(namespace) };
        let create = request(create, None);
        match namespaces::namespaces_client::NamespacesClient::new(self.channel.clone()).create(create).await {
            Err(status) if status.code() != tonic::Code::AlreadyExists => {
                Err(RuntimeError::Refused { call: "namespaces.create", status })
            }
            _ => Ok(()),
        }
    }

    /// Writes one blob; one that is there already stays.
    pub(crate) async fn write(
        &self,
        lease: &str,
        blob: Blob,
        labels: Vec<(String, String)>,
    ) -> Result<(), RuntimeError> {
        let total = blob.bytes.len() as i64;
        let base = content::WriteContentRequest {
            r#ref: format!("coracle-{}", blob.digest),
            total,
            expected: blob.digest.clone(),
            ..Default::default()
        };
        let mut messages = Vec::with_capacity(blob.bytes.len() / CHUNK + 2);
        let mut offset = 0;
        while offset < blob.bytes.len() {
            let end = (offset + CHUNK).min(blob.bytes.len());
            messages.push(content::WriteContentRequest {
                action: content::WriteAction::Write as i32,
                offset: offset as i64,
                data: blob.bytes[offset..end].to_vec(),
                ..base.clone()
            });
            offset = end;
        }
        messages.push(content::WriteContentRequest {
            action: content::WriteAction::Commit as i32,
            offset: total,
            labels: labels.into_iter().collect(),
            ..base
        });
        let refused = |status: tonic::Status| RuntimeError::Refused { call: "content.write", status };
        let mut client = content::content_client::ContentClient::new(self.channel.clone());
        let stream = request(futures::stream::iter(messages), Some(lease));
        let result = match client.write(stream).await {
            Ok(answer) => drain(answer.into_inner()).await,
            Err(status) => Err(status),
        };
        match result {
            Err(status) if status.code() != tonic::Code::AlreadyExists => Err(refused(status)),
            _ => Ok(()),
        }
    }
}

/// A blob that was written as it was read.
pub(crate) struct Written {
    pub(crate) digest: String,
    pub(crate) gzip: bool,
}

impl ContentStore {
    /// Writes `size` bytes of `reader` as a blob, from a thread that may block; `expected` is its digest where it is known.
    pub(crate) fn write_stream(
        &self,
        runtime: &tokio::runtime::Handle,
        lease: &str,
        reference: &str,
        reader: &mut dyn std::io::Read,
        size: u64,
        expected: Option<String>,
    ) -> Result<Written, RuntimeError> {
        let (sender, messages) = tokio::sync::mpsc::channel(4);
        let mut client = content::content_client::ContentClient::new(self.channel.clone());
        let stream =
            futures::stream::unfold(messages, |mut messages| async { Some((messages.recv().await?, messages)) });
        let stream = request(stream, Some(lease));
        let _guard = runtime.enter();
        let writing =
            coracle_base::task::spawn("blob", async move { drain(client.write(stream).await?.into_inner()).await });
        let base = content::WriteContentRequest {
            r#ref: format!("coracle-{lease}-{reference}"),
            total: size as i64,
            expected: expected.clone().unwrap_or_default(),
            ..Default::default()
        };
        let incomplete =
            |_| RuntimeError::Incomplete { call: "content.write", what: "the rest of a file of the archive" };
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let (mut offset, mut gzip) = (0, false);
        while offset < size {
            let mut data = vec![0; CHUNK.min((size - offset) as usize)];
            reader.read_exact(&mut data).map_err(incomplete)?;
            hash.update(&data);
            gzip |= offset == 0 && data.starts_with(&[0x1f, 0x8b]);
            let action = content::WriteAction::Write as i32;
            let message = content::WriteContentRequest { action, offset: offset as i64, data, ..base.clone() };
            offset += message.data.len() as u64;
            // A writer that is gone has the blob already, or says why below; the rest is read for the digest.
            let _ = sender.blocking_send(message);
        }
        let digest = hex(hash.finish().as_ref());
        let action = content::WriteAction::Commit as i32;
        let commit = content::WriteContentRequest { action, offset: size as i64, expected: digest.clone(), ..base };
        let _ = sender.blocking_send(commit);
        drop(sender);
        match runtime.block_on(writing) {
            Ok(Err(status)) if status.code() != tonic::Code::AlreadyExists => {
                Err(RuntimeError::Refused { call: "content.write", status })
            }
            Err(_) => Err(RuntimeError::Incomplete { call: "content.write", what: "an end" }),
            Ok(_) if expected.is_some_and(|expected| expected != digest) => {
                Err(RuntimeError::Incomplete { call: "content.write", what: "the digest that a blob's name says" })
            }
            Ok(_) => Ok(Written { digest, gzip }),
        }
    }
}

async fn drain<T: Message + Default>(mut stream: tonic::Streaming<T>) -> Result<(), tonic::Status> {
    while stream.message().await?.is_some() {}
    Ok(())
}

/// A request in Kubernetes' namespace, under a lease where one is given.
pub fn request<T>(message: T, lease: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    if let Some(lease) = lease.and_then(|lease| MetadataValue::try_from(lease).ok()) {
        request.metadata_mut().insert("containerd-lease", lease);
    }
    request
}
