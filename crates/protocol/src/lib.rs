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

/// The header by which a hub says, with each of its answers, what it does that the task service need not:
/// names, with spaces between them.
pub const HUB_FEATURES: &str = "x-hub-features";

/// One of [`HUB_FEATURES`]: a request that changes a task's state may bring `parts`, which are posted on the
/// task before and with it or not at all, and come back as `message`; a claim may be `only_pending`, and is
/// refused then where the actor has the task already.
pub const ACTION_MESSAGES: &str = "action-messages";

/// How long a hub's relay serves a key that no task names, counted from the request for it. Whoever needs it
/// for longer asks again.
pub const RELAY_ALLOWLIST_TIME: Duration = Duration::from_secs(10 * 60);
