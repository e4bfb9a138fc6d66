//! Images on the node: what is built in, and what pods ask for.

use std::time::Duration;

use coracle_base::backoff::{Backoff, Shape};

use crate::cri::{Cri, RuntimeError};

pub mod archive;
pub mod collect;
pub mod contents;
pub mod credentials;
pub mod ensure;
pub mod import;
pub mod pause;

/// Waits until an image that was just written is known to the CRI, which learns of it by an event.
pub async fn known(cri: &Cri, image: &str) -> Result<(), RuntimeError> {
    let mut backoff = Backoff::new(Shape::doubling(Duration::from_millis(5), Duration::from_millis(200)));
    let wait = async {
        loop {
            if cri.image_status(image).await?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    };
    let late = RuntimeError::Incomplete { call: "image_status", what: "an image that was just written" };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or(Err(late))
}
