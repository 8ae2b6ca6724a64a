//! Those who wait for the answer to a handshake: a client, or a node that passes it on.

use std::net::SocketAddrV4;

use bytes::Bytes;

use super::message::{Handshake, Mode};
use crate::rpc::filter::{is_host, may_use};
use crate::rpc::{self, Answer, Via};

/// The answer to a handshake.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HandshakeAnswer {
    /// The Noise message.
    pub noise: Bytes,
    /// The socket it leaves by on its way through nodes; `None`: the one the request came on.
    pub via: Option<Via>,
}

/// Who waits for the answer to a handshake, and the path of the answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiter {
    /// The request that brought the first message.
    pub incoming: rpc::Incoming,
    path: ReturnPath,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ReturnPath {
    /// The client asked us itself.
    Direct,
    /// Back through `node`, which the client asked.
    ThroughNode { client: SocketAddrV4, node: SocketAddrV4 },
}

impl Waiter {
    /// `None` if a server does not get such messages, or if the message names an address that nobody can
    /// have.
    pub(super) fn new(incoming: rpc::Incoming, message: &Handshake) -> Option<Self> {
        let from = incoming.from;
        // The answer does not need the request's value, and hundreds may wait.
        let incoming = rpc::Incoming { value: None, ..incoming };
        let path = match message.mode {
            // An address in the message would be nothing but the sender's claim.
            Mode::FromClient => ReturnPath::Direct,
            Mode::FromRelay => ReturnPath::ThroughNode { client: message.peer_address?, node: from },
            Mode::FromSecondRelay => {
                let node = message.relay_address.filter(|to| may_use(*to, *from.ip()))?;
                ReturnPath::ThroughNode { client: message.peer_address?, node }
            }
            Mode::FromServer | Mode::Reply => return None,
        };
        let waiter = Self { incoming, path };
        is_host(waiter.client()).then_some(waiter)
    }

    /// Where the client is, as far as we know.
    pub(super) fn client(&self) -> SocketAddrV4 {
        match self.path {
            ReturnPath::Direct => self.incoming.from,
            ReturnPath::ThroughNode { client, .. } => client,
        }
    }

    /// Whether the client asked us itself.
    pub(super) fn is_direct(&self) -> bool {
        self.path == ReturnPath::Direct
    }

    /// The request to answer, and the answer to it.
    pub(super) fn answered(self, answer: &HandshakeAnswer) -> (rpc::Incoming, Answer) {
        let noise = answer.noise.to_vec();
        let answer = match self.path {
            ReturnPath::Direct => Answer::bare(Some(Handshake::new(Mode::Reply, noise).encode().into())),
            ReturnPath::ThroughNode { client, node } => {
                let message =
                    Handshake { peer_address: Some(client), ..Handshake::new(Mode::FromServer, noise) };
                Answer::Relay { value: message.encode().into(), to: node, via: answer.via }
            }
        };
        (self.incoming, answer)
    }
}
