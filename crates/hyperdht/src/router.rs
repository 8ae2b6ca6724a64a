//! Passes handshakes and punches between clients and servers (spec/dht.md §13).

use std::time::Instant;

use crate::rpc::{Answer, Incoming};
use crate::store::Forwards;

/// Who handles PEER_HANDSHAKE and PEER_HOLEPUNCH requests at this node.
#[derive(Debug, Default)]
pub struct Router {}

impl Router {
    /// What to do about a request with one of the two commands. `None` is silence, or a request
    /// that a server of this node took and answers later.
    pub fn on_request(
        &mut self,
        now: Instant,
        incoming: &Incoming,
        forwards: &mut Forwards,
    ) -> Option<Answer> {
        let target = incoming.target?;
        forwards.get(now, &target)?;
        None
    }
}
