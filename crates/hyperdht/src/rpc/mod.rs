//! The plain DHT as a state machine: messages, routing table, queries, upkeep. It is given
//! datagrams and the time, and gives back datagrams, events and its next deadline.

pub mod message;
mod seam;

pub use seam::{Answer, Incoming, QuerySpec, Reply, Request, RequestError, Token, Transmit, Via};
