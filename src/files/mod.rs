//! Files as a transfer needs them: names that are safe to write and to show, the file that is sent, and
//! the one that grows beside its target until it is whole.
//!
//! Everything here that touches a disk blocks; callers on the async runtime use `spawn_blocking`.
//!
//! # Layout
//! - `text`: which characters deceive, and text escaped for showing
//! - `name`: the name a file is written under
//! - `source`: the file that is sent
//! - `target`: where a file is to go, and what stops it
//! - `partial`: the temporary file beside the target, and its way to the final name; `place` is the folder
//!   and the name that it is to get, `checkpoints` what is remembered of it for a later process
//! - `private`: files that are for this user alone
//! - `dir`: an opened folder, which later changes to its path don't redirect; renames that replace nothing

mod checkpoints;
mod dir;
mod name;
mod partial;
mod place;
mod source;
mod target;
mod text;

pub use name::SafeName;
pub use partial::{Partial, sweep};
pub use source::{Proof, Source, SourceError};
pub use target::{Target, TargetError, free_space, prepare_folder};
pub use text::{display, display_path};
