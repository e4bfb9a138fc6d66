//! Streams through HTTP upgrades: SPDY/3.1 and WebSocket channels of exec, attach and port-forward.
//!
//! Invariants: one task reads and one writes each connection; every queue is bounded, so a slow reader slows its peer
//! and nobody else; what a client speaks (WebSocket) is translated to what container runtimes speak (SPDY), and bytes of equal
//! protocols are passed on unread. Upstream: k8s.io/apiserver pkg/util/proxy, KEP-4006.

pub mod proxy;
pub mod remote_command;
pub mod spdy;
pub mod tunnel;
pub mod upgrade;
pub mod websocket;

pub use proxy::{Kind, proxy};
pub use upgrade::{Refused, forward};
