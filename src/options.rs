//! How a node is set up; `binding::options` makes it of what JavaScript gives.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::ats;
use crate::connection::RelayChoice;
use crate::error::{Code, Error, Result};
use crate::files;
use crate::trust::SeedChoice;
pub use crate::tunnel::TunnelChoice;

/// How long a wait for the other side lasts unless the caller says otherwise: to be claimed, to be
/// connected, to move a byte. The original's default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// Hex digits that are taken for a part of an identity, and for no part of an actor's id.
const HALF_IDENTITY: usize = 32;

/// How old an offer without an expiry of its own may be: originals give up after two minutes, and a task
/// that nobody cleaned up is no offer.
pub const DEFAULT_MAX_OFFER_AGE: Duration = Duration::from_secs(600);

/// How long what an interrupted transfer has left is kept, to be gone on with.
pub const DEFAULT_MAX_PARTIAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many files a node receives at once unless the caller says otherwise.
pub const DEFAULT_MAX_CONCURRENT: usize = 16;

/// The most that the caller may ask for: each has a connection, an open file and a thread.
pub const MAX_CONCURRENT: usize = 256;

/// Receipts that are kept unless the caller says otherwise: a few hundred kilobytes.
pub const DEFAULT_KEEP_RECEIPTS: usize = 100;

/// An actor to receive from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedPeer {
    /// Its id.
    pub actor: String,
    /// The only identity that it may show, here and as a recipient; without, the one that is known.
    pub identity: Option<[u8; 32]>,
}

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings of the task service that the caller gave, above environment and files.
    pub ats: ats::Overrides,
    /// The only actors to receive from; without, anybody.
    pub allowed_peers: Option<Vec<AllowedPeer>>,
    /// Whether peers without an identity are refused, those of the original's kind among them.
    pub require_verified: bool,
    /// The largest file to receive, bytes; without, any. `watch` declines the offer of a larger one.
    pub max_file_size: Option<u64>,
    /// Bytes a second that all transfers together may move, both ways, at least [`crate::pump::MIN_RATE`];
    /// without, any.
    pub max_rate: Option<u64>,
    /// See [`DEFAULT_TIMEOUT`].
    pub timeout: Duration,
    /// See [`DEFAULT_MAX_OFFER_AGE`].
    pub max_offer_age: Duration,
    /// See [`DEFAULT_MAX_PARTIAL_AGE`].
    pub max_partial_age: Duration,
    /// Files that are received at once, from 1 to [`MAX_CONCURRENT`]; `places` has the rules. The rest waits
    /// unclaimed.
    pub max_concurrent: usize,
    /// What stands before the transfer id where a topic is derived from it.
    pub topic_prefix: String,
    /// DHT nodes to join the network through, `host:port` each; without, what the service's health names,
    /// else the public ones.
    pub bootstrap: Option<Vec<String>>,
    /// The relay for where no direct way opens: `connection::network` has its key, `hyperdht` decides when.
    pub relay_through: RelayChoice,
    /// Where peers are met that UDP does not lead to.
    pub tunnel: TunnelChoice,
    /// Whether a send is content with another claimant than the recipient.
    pub any_claimant: bool,
    /// By which seed the node shows who it is.
    pub identity: SeedChoice,
    /// How many receipts are kept, the newest; none for 0.
    pub keep_receipts: usize,
    /// Whether permission bits and times of files are told where they are sent, and kept where they arrive.
    pub preserve: bool,
    /// Whether the hashes of files that were sent are remembered.
    pub hash_cache: bool,
    /// Where this user's state lives.
    pub home: PathBuf,
}

impl Options {
    /// The defaults, with state in `home`.
    pub fn new(home: PathBuf) -> Self {
        Self {
            ats: ats::Overrides::default(),
            allowed_peers: None,
            require_verified: false,
            max_file_size: None,
            max_rate: None,
            timeout: DEFAULT_TIMEOUT,
            max_offer_age: DEFAULT_MAX_OFFER_AGE,
            max_partial_age: DEFAULT_MAX_PARTIAL_AGE,
            max_concurrent: DEFAULT_MAX_CONCURRENT,
            topic_prefix: String::new(),
            bootstrap: None,
            relay_through: RelayChoice::default(),
            tunnel: TunnelChoice::default(),
            any_claimant: false,
            identity: SeedChoice::default(),
            keep_receipts: DEFAULT_KEEP_RECEIPTS,
            preserve: true,
            hash_cache: true,
            home,
        }
    }

    /// The identities that the owner has named for an actor.
    pub(crate) fn identities_of<'a>(&'a self, actor: &'a str) -> impl Iterator<Item = &'a [u8; 32]> {
        let peers = self.allowed_peers.iter().flatten().filter(move |peer| peer.actor == actor);
        peers.filter_map(|peer| peer.identity.as_ref())
    }
}

impl FromStr for AllowedPeer {
    type Err = Error;

    /// Reads `actor`, or `actor=identity` with 64 hex digits.
    fn from_str(text: &str) -> Result<Self> {
        let plain = Self { actor: text.to_owned(), identity: None };
        let Some((actor, digits)) = text.rsplit_once('=') else { return Ok(plain) };
        let mut identity = [0; 32];
        if !actor.is_empty() && hex::decode_to_slice(digits, &mut identity).is_ok() {
            return Ok(Self { actor: actor.to_owned(), identity: Some(identity) });
        }
        // An id may hold the sign itself; what was meant for an identity is not taken for one.
        if digits.len() >= HALF_IDENTITY && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Error::new(
                Code::InvalidArgument,
                format!(
                    "allowedPeers: {} does not end in an identity of 64 hex digits",
                    files::display(text)
                ),
            ));
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_peer_is_an_actor_or_an_actor_with_its_identity() {
        let read = |text: &str| text.parse::<AllowedPeer>();
        let peer = |actor: &str, identity| AllowedPeer { actor: actor.into(), identity };
        let digits = "0a".repeat(32);
        assert_eq!(read("b").unwrap(), peer("b", None));
        assert_eq!(read(&format!("b={digits}")).unwrap(), peer("b", Some([10; 32])));
        assert_eq!(read(&format!("b=c={}", digits.to_uppercase())).unwrap(), peer("b=c", Some([10; 32])));
        for id in ["b=c", "b=", "=", "b=abc"] {
            assert_eq!(read(id).unwrap(), peer(id, None));
        }
        for slip in [&digits[1..], &format!("{digits}0"), &digits[..32]] {
            assert_eq!(read(&format!("b={slip}")).unwrap_err().code, Code::InvalidArgument);
        }
    }

    #[test]
    fn the_identities_of_an_actor_are_those_that_were_named_for_it() {
        let mut options = Options::new(PathBuf::new());
        assert_eq!(options.identities_of("b").count(), 0);
        let peers = [("b", None), ("b", Some([1; 32])), ("c", Some([2; 32])), ("b", Some([3; 32]))];
        options.allowed_peers =
            Some(peers.map(|(actor, identity)| AllowedPeer { actor: actor.into(), identity }).to_vec());
        assert_eq!(options.identities_of("b").collect::<Vec<_>>(), [&[1; 32], &[3; 32]]);
    }
}
