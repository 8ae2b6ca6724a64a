//! The hub over real sockets.

mod access;
mod attacks;
mod commands;
mod events;
mod full_disk;
mod hostile;
mod http;
mod life;
mod names;
mod openapi;
mod page;
mod permissions;
mod relay;
mod store;
mod support;
mod synced;
mod tls;
