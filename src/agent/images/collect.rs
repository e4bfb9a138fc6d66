//! Which images the node has, and the removal of unused ones when the disk fills
//! (upstream: pkg/kubelet/images/image_gc_manager.go).
//!
//! Nothing here has a clock: `look` is called with each list of the runtime's containers, once a minute. How full the disk is
//! is asked of the kernel, which reads nothing for it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::containerd::content::ContentStore;
use crate::cri::{Cri, RuntimeError};
use crate::proto::cri::Image;

/// Percent of the disk in use at which images go, and down to which (upstream: imageGCHighThresholdPercent and ...Low...).
const HIGH: u64 = 85;
const LOW: u64 = 80;
/// A younger image may be about to be used (upstream: imageMinimumGCAge).
const YOUNGEST: Duration = Duration::from_secs(120);
/// Between two removals (upstream: ImageGCPeriod).
const PERIOD: Duration = Duration::from_secs(300);

pub struct Images {
    cri: Cri,
    /// Where containerd says which images are pinned; `None` for a runtime of the machine's own, which says so itself.
    content: Option<ContentStore>,
    /// On the file system of images.
    storage: PathBuf,
    seen: HashMap<String, Seen>,
    collected: Option<Instant>,
    /// A hash of the images' IDs, for whoever shows them.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Instant,
    used: Option<Instant>,
}

impl Images {
    pub fn new(cri: Cri, content: Option<ContentStore>, storage: PathBuf) -> (Self, watch::Receiver<u64>) {
        let (changed, receiver) = watch::channel(0);
        (Self { cri, content, storage, seen: HashMap::new(), collected: None, changed }, receiver)
    }

    /// Notes what is there and in use; frees space where there is too little.
    pub async fn look(&mut self) -> Result<(), RuntimeError> {
        let images = self.cri.images().await?;
        self.tell(&images);
        let used = self.used().await?;
        let now = Instant::now();
        self.seen.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in &images {
            let seen = self.seen.entry(image.id.clone()).or_insert(Seen { first: now, used: None });
            let is_used = used.contains(&image.id) || image.repo_tags.iter().any(|tag| used.contains(tag));
            seen.used = if is_used { Some(now) } else { seen.used };
        }
        let wanted = excess(&self.storage);
        if wanted == 0 || self.collected.is_some_and(|before| now - before < PERIOD) {
            return Ok(());
        }
        self.collected = Some(now);
        let pinned = match &self.content {
            Some(content) => content.pinned().await?,
            None => HashSet::new(),
        };
        let mut freed = 0;
        for image in unused(&images, &self.seen, &pinned, now) {
            if freed >= wanted {
                break;
            }
            self.cri.remove_image(&image.id).await?;
            tracing::info!(
                image = image.repo_tags.first(),
                bytes = image.size,
                "unused image removed, the disk is filling"
            );
            freed += image.size;
        }
        if freed < wanted {
            tracing::warn!(wanted, freed, "the disk of images is filling, and no more unused images can be removed");
        }
        Ok(())
    }

    fn tell(&self, images: &[Image]) {
        let ids: BTreeSet<_> = images.iter().map(|image| (&image.id, &image.repo_tags)).collect();
        let mut hasher = DefaultHasher::new();
        ids.hash(&mut hasher);
        let hash = hasher.finish();
        self.changed.send_if_modified(|known| std::mem::replace(known, hash) != hash);
    }

    /// The images of all containers, also of those that have ended: they may be started again.
    async fn used(&self) -> Result<HashSet<String>, RuntimeError> {
        let containers = self.cri.containers(&[]).await?;
        let names = |container: crate::proto::cri::Container| {
            [container.image_ref, container.image.map(|image| image.image).unwrap_or_default()]
        };
        Ok(containers.into_iter().flat_map(names).collect())
    }
}

/// Images that may go, those that were used longest ago first.
fn unused<'a>(
    images: &'a [Image],
    seen: &HashMap<String, Seen>,
    pinned: &HashSet<String>,
    now: Instant,
) -> Vec<&'a Image> {
    let mut spare: Vec<(Seen, &Image)> = images
        .iter()
        .filter(|image| !image.pinned && !image.repo_tags.iter().any(|tag| pinned.contains(tag)))
        .filter_map(|image| seen.get(&image.id).map(|seen| (*seen, image)))
        .filter(|(seen, _)| seen.used.is_none_or(|used| used < now) && now - seen.first >= YOUNGEST)
        .collect();
    spare.sort_by_key(|(seen, _)| (seen.used, seen.first));
    spare.into_iter().map(|(_, image)| image).collect()
}

/// Bytes to free; none below the upper threshold.
#[allow(clippy::unnecessary_cast)] // Narrower on 32-bit machines.
fn excess(storage: &std::path::Path) -> u64 {
    let Ok(found) = nix::sys::statvfs::statvfs(storage) else { return 0 };
    let block = found.fragment_size() as u64;
    let (capacity, available) = (found.blocks() as u64 * block, found.blocks_available() as u64 * block);
    if capacity == 0 || 100 - available.min(capacity) * 100 / capacity < HIGH {
        return 0;
    }
    (capacity / 100 * (100 - LOW)).saturating_sub(available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_go_first_and_some_never() {
        let now = Instant::now() + Duration::from_secs(1000);
        let ago = |seconds: u64| now - Duration::from_secs(seconds);
        let image = |id: &str, pinned: bool| Image {
            id: id.to_owned(),
            repo_tags: vec![format!("{id}:1")],
            pinned,
            ..Image::default()
        };
        let images: Vec<Image> = [
            ("young", false),
            ("in-use", false),
            ("pinned", true),
            ("imported", false),
            ("used-lately", false),
            ("used-long-ago", false),
            ("never-used", false),
        ]
        .map(|(id, pinned)| image(id, pinned))
        .into();
        let seen = |first: u64, used: Option<u64>| Seen { first: ago(first), used: used.map(ago) };
        let seen = HashMap::from([
            ("young".to_owned(), seen(10, None)),
            ("in-use".to_owned(), seen(900, Some(0))),
            ("pinned".to_owned(), seen(900, None)),
            ("imported".to_owned(), seen(900, None)),
            ("used-lately".to_owned(), seen(900, Some(200))),
            ("used-long-ago".to_owned(), seen(900, Some(500))),
            ("never-used".to_owned(), seen(900, None)),
        ]);
        let pinned = HashSet::from(["imported:1".to_owned()]);
        let ids: Vec<_> = unused(&images, &seen, &pinned, now).into_iter().map(|image| image.id.as_str()).collect();
        assert_eq!(ids, ["never-used", "used-long-ago", "used-lately"]);
    }
}
