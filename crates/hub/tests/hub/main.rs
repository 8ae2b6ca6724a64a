//! The hub over real sockets.

mod events;
mod http;
mod life;
mod permissions;
mod relay;
mod support;
