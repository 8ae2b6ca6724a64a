//! Whole transfers, signalled by a hub on loopback, over its own DHT.

#[path = "transfer/absence.rs"]
mod absence;
#[path = "transfer/folders.rs"]
mod folders;
#[path = "transfer/gate.rs"]
mod gate;
#[path = "fuzzing/header.rs"]
mod header;
#[path = "http/mod.rs"]
mod http;
#[path = "transfer/identity.rs"]
mod identity;
#[path = "transfer/lab.rs"]
mod lab;
#[path = "transfer/local.rs"]
mod local;
#[path = "transfer/network.rs"]
mod network;
#[path = "transfer/open_offers.rs"]
mod open_offers;
#[path = "transfer/outcomes.rs"]
mod outcomes;
#[path = "transfer/peer.rs"]
mod peer;
#[path = "transfer/places.rs"]
mod places;
#[path = "transfer/processes.rs"]
mod processes;
#[path = "transfer/receivers.rs"]
mod receivers;
#[path = "transfer/resume.rs"]
mod resume;
#[path = "transfer/reuse.rs"]
mod reuse;
#[path = "transfer/senders.rs"]
mod senders;
#[path = "transfer/service.rs"]
mod service;
#[path = "transfer/signs_of_life.rs"]
mod signs_of_life;
#[path = "http/socket.rs"]
mod socket;
#[path = "transfer/trouble.rs"]
mod trouble;
#[path = "transfer/troubled.rs"]
mod troubled;
#[path = "transfer/tunnel.rs"]
mod tunnel;
#[path = "transfer/whole.rs"]
mod whole;
