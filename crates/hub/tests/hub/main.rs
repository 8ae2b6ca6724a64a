//! The hub over real sockets.

mod events;
mod full_disk;
mod http;
mod life;
mod permissions;
mod names;
mod relay;
mod store;
mod support;
