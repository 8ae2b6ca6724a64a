//! The client of the task service (ATS), which carries the signalling of transfers.
//!
//! # Layout
//! - [`settings`](Settings): which service, which project, as whom; options, environment and files.
//! - [`model`](Task): tasks, messages and ids, read liberally.
//! - [`client`](Client): one method a call, with timeouts and retries.
//! - `http`: one request and its answer, nothing repeated.
//! - [`events`](Events): the WebSocket of events, which reconnects by itself.
//! - [`renewal`](Renewal): keeps a claim alive.
//! - [`error`](Error): what can go wrong, in words that help.
//!
//! Nothing here knows what is transferred: payloads and messages are JSON to it.

mod backoff;
mod client;
mod clock;
mod error;
mod events;
mod http;
mod model;
mod moment;
mod renewal;
mod settings;
mod socket;
mod text;

pub use client::{Client, Health, ListQuery, NewTask, P2pHealth, Policy};
pub use error::{Error, Result};
pub use events::{Event, EventKind, Events, Subscription};
pub use model::{ActorRef, Message, Part, Status, Task, TaskId};
pub use renewal::{Lost, Renewal};
pub use settings::{Actor, Environment, Origin, Overrides, Secret, Settings, Warning};
