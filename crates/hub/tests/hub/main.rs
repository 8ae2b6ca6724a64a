//! The hub over real sockets.

mod access;
mod actors;
mod attacks;
mod certificate;
mod clocks_apart;
mod commands;
mod database;
mod database_clock;
mod database_lost;
mod database_tls;
mod events;
mod filled;
mod full_disk;
mod hostile;
mod http;
mod life;
mod names;
mod openapi;
mod other_hubs;
mod page;
mod permissions;
mod plans;
mod postgres;
mod power_cut;
#[path = "../kill/random.rs"]
mod random;
mod relay;
mod shared;
mod store;
mod support;
mod synced;
mod tls;
mod traced;
mod tunnel;
mod valve;
