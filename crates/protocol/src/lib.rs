//! What the peers of a transfer and the hub between them agree on. No I/O, no clock.
//!
//! # Layout
//! - [`offer`]: the payload of a task that offers a file; [`metadata`]: what its sender says of it besides.
//! - [`p2p`]: the object in it by which two peers of this package find each other without a topic; `list` has
//!   the lists of text in it.
//! - [`statement`]: what a peer signs of a transfer, and [`completion`]: what its receiver says at the end.
//! - [`receipt`]: both together, for whoever wants to see them later.
//! - [`identity`]: the keys that sign, [`handover`]: how one takes another's place, and [`scope`]: within
//!   which bounds one of them stands for an actor.
//! - [`tunnel`]: how two peers meet at a hub where nothing but HTTPS goes out.
//! - [`text`]: which foreign text may be shown as it is, and how the rest is escaped; `joiners` has the
//!   places where characters that can't be seen belong.

pub mod completion;
pub mod handover;
pub mod identity;
mod joiners;
mod list;
pub mod metadata;
pub mod offer;
pub mod p2p;
pub mod receipt;
pub mod scope;
pub mod statement;
pub mod text;
pub mod tunnel;

use std::time::Duration;

/// How long a hub's relay serves a key that no task names, counted from the request for it. Whoever needs it
/// for longer asks again.
pub const RELAY_ALLOWLIST_TIME: Duration = Duration::from_secs(10 * 60);
