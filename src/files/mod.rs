//! Files as a transfer needs them: names that are safe to write and to show, the file that is sent, and
//! the one that grows beside its target until it is whole.
//!
//! Everything here that touches a disk blocks; callers on the async runtime use `spawn_blocking`.
//!
//! # Layout
//! - `text`: which characters deceive, and text escaped for showing
//! - `name`: the name a file is written under; `obeyed`: those that programs obey
//! - `source`: what is sent: a file, a folder, bytes in memory, or a stream that was spooled; and what files
//!   were when they were hashed last
//! - `target`: where a file is to go, and what stops it
//! - `present`: files that are here already; `arrivals`: what those are that came
//! - `preserved`: what a received file has of its source beside the content
//! - `partial`: the temporary file beside the target, and its way to the final name; `place` is the folder
//!   and the name that it is to get, `checkpoints` what is remembered of it for a later process,
//!   `temporary` its name
//! - `tree`: the same for a folder, which comes as the `archive` that its `source` makes, `journal` what is
//!   remembered of it; `sink` is either of the two
//! - `holes`: zeros that take no place on the disk
//! - `json_path`: paths in JSON, whatever their bytes
//! - `private`: files that are for this user alone
//! - `dir`: an opened folder, which later changes to its path don't redirect; renames that replace nothing

mod archive;
mod arrivals;
mod checkpoints;
mod dir;
mod holes;
mod journal;
pub(crate) mod json_path;
mod name;
mod obeyed;
mod partial;
mod place;
mod present;
mod preserved;
mod sink;
mod source;
mod target;
mod temporary;
mod text;
mod tree;

pub use archive::TreeSize;
pub(crate) use arrivals::Arrivals;
pub use json_path::JsonPath;
pub use name::SafeName;
pub use partial::{Partial, sweep};
pub(crate) use present::{is_folder_there, is_there, of_size};
pub use preserved::{Preserved, Rights};
pub use sink::Sink;
pub use source::{ARCHIVE_SUFFIX, HashCache, Proof, Source, SourceError, Spool, SpoolError, TreeOptions};
pub use target::{Existing, Target, TargetError, free_space, prepare_folder};
pub use text::{display, display_path};
pub use tree::{OfferedTree, PartialTree};
