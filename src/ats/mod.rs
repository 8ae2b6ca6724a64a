//! The client of the task service (ATS), which carries the signalling of transfers.
//!
//! # Layout
//! - [`settings`](Settings): which service, which project, as whom; options, environment and files.
//! - [`model`](Task): tasks, messages and ids, read liberally; [`health`](Health) what a service says of
//!   itself.
//! - [`client`](Client): one method a call, with the timeouts and retries of its [`policy`](Policy).
//! - `http`: one request and its answer, nothing repeated; `redirect`: where it goes when it is sent on;
//!   `answer`: what is read of an answer, and how much at most; `clock`: the service's time, read off its
//!   answers.
//! - [`events`](Events): the WebSocket of events, which reconnects by itself.
//! - [`renewal`](Renewal): keeps a claim alive.
//! - [`account`](Account): whom the service takes this client for.
//! - [`join`]: takes a hub's invitation, and keeps the key in the user's settings.
//! - [`error`](AtsError): what can go wrong, in words that help.
//!
//! Nothing here knows what is transferred: payloads and messages are JSON to it.

mod account;
mod answer;
mod backoff;
mod client;
mod clock;
mod error;
mod events;
mod health;
mod http;
mod join;
mod model;
mod moment;
mod policy;
mod redirect;
mod renewal;
mod settings;
mod socket;
mod text;

pub use account::Account;
pub use client::Client;
pub use error::AtsError;
pub(crate) use events::POLL_INTERVAL;
pub use events::{AtsEvent, EventKind, Events, Listener, Subscribed, Subscription};
pub use health::{Health, P2pHealth, TunnelHealth};
pub(crate) use http::said;
pub use join::{Joined, Joining, join};
pub use model::{ActorRef, ListQuery, Message, NewTask, Part, Status, Task, TaskId, TaskPage};
pub use policy::Policy;
pub use renewal::{Lost, Renewal};
pub use settings::{
    Actor, Environment, Origin, Overrides, Secret, SettingSource, Settings, Sourced, Warning, WebSettings,
};
pub(crate) use text::{SHOWN, printable_without};
