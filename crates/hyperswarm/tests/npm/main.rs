//! With npm hyperswarm, each in the other's network.

mod lossy;
mod peers;
#[path = "../../../udx/tests/common/proxy.rs"]
mod proxy;
mod topics;
