//! A network of its own for tests, on the loopback address.

use std::net::Ipv4Addr;

use crate::dht::Dht;
use crate::error::Error;
pub use crate::private::bootstrap_of;
use crate::private::private_network;

/// Starts `size` persistent nodes on 127.0.0.1, at any ports, that know each other.
///
/// # Errors
/// [`Error::Bind`].
pub async fn testnet(size: usize) -> Result<Vec<Dht>, Error> {
    private_network(Ipv4Addr::LOCALHOST.into(), &vec![0; size]).await
}
