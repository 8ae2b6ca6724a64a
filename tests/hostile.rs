//! A node against a task service that sends what no client should trust: it goes on, holds little, and
//! whatever is honest beside the rest still arrives.

#[path = "hostile/amounts.rs"]
mod amounts;
#[path = "http/mod.rs"]
mod http;
#[path = "hostile/idle.rs"]
mod idle;
#[path = "hostile/lists.rs"]
mod lists;
#[path = "hostile/sends.rs"]
mod sends;
#[path = "hostile/service.rs"]
mod service;
#[path = "http/socket.rs"]
mod socket;
#[path = "hostile/streams.rs"]
mod streams;
