//! The hub over real sockets.

mod events;
mod http;
mod life;
mod relay;
mod support;
