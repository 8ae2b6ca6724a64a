//! Peer-to-peer file transfer for agents: a task service signals, Hyperswarm carries the bytes.
//!
//! # Layout
//!
//! - [`node`] is one agent's end of all its transfers: `watch` finds the offers that come in, [`send`] is one
//!   outgoing transfer, [`receive`] one incoming. The two do not know each other; what they share, a node's
//!   limits among it, is in `context`.
//! - Each has two ways: `direct`, by a key, between two peers of this package; `topic`, with an original.
//!   When either dials, waits or gives up is `reconnect`'s to say.
//! - [`connection`] is the place on the network, connections kept for the next file, and what is told of
//!   them.
//! - [`pump`] moves the bytes of one file over one connection. [`wire`] knows the frames, [`files`] the disk,
//!   [`ats`] the task service; none knows another.
//! - `tunnel` is where peers meet that UDP does not lead to.
//! - `web` is the way to servers: by which proxy, and whose certificates are trusted.
//! - [`trust`] is who this node is to others, and by what it knows them again.
//! - `offer` is what a task offers, the offers that wait for an answer, and who is behind what a task says.
//! - [`options`], [`event`] and [`error`] are what a node is told, tells and fails with; `transfer` and
//!   `progress` tell it at a pace that a listener can follow.
//! - `places` says how many transfers run at once, and whose turn is next.
//! - `running` are the transfers that run, to end one by its id.
//! - `troubles` is what keeps this machine from receiving for a while.
//! - `remarks` is what a transfer says on its task for people who read there, `signs_of_life` what it says so
//!   that its peer goes on waiting.
//! - `receipts` keeps what both ends of a transfer signed; [`verify`] checks it.
//! - `sync` has small tools that all use, `private` those for files of this user alone; `limits` says what
//!   strangers can make a transfer hold, and other numbers of one.
//! - [`doctor`] finds out why transfers would fail; [`log`] tells on stderr what happens inside; [`dht`] is a
//!   node of the DHT for others.
//! - `binding` shows all of it to Node.js; nothing else knows that it is there.
//!
//! Below are the crates of the network, each with a map of its own: `udx`, `secret_stream`, `hyperdht` (which
//! decides whose handshake is answered, and in `connect::race` whether a connection goes through a relay) and
//! `hyperswarm`; and `protocol`, what an offer says. CONTRIBUTING.md has the map of the whole house.

pub mod ats;
#[cfg(feature = "binding")]
mod binding;
pub mod connection;
mod context;
pub mod dht;
pub mod doctor;
pub mod error;
pub mod event;
pub mod files;
mod limits;
pub mod log;
pub mod node;
mod offer;
pub mod options;
mod places;
mod private;
mod progress;
pub mod pump;
mod receipts;
pub mod receive;
mod reconnect;
mod remarks;
mod running;
pub mod send;
mod signs_of_life;
mod sync;
mod transfer;
mod troubles;
pub mod trust;
mod tunnel;
pub mod verify;
mod watch;
mod web;
pub mod wire;
