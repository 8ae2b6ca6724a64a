//! How a node is set up; `binding::options` makes it of what JavaScript gives.

use std::path::PathBuf;
use std::time::Duration;

use crate::ats;
use crate::connection::RelayChoice;
use crate::trust::SeedChoice;

/// How long a wait for the other side lasts unless the caller says otherwise: to be claimed, to be
/// connected, to move a byte. The original's default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// How old an offer without an expiry of its own may be: originals give up after two minutes, and a task
/// that nobody cleaned up is no offer.
pub const DEFAULT_MAX_OFFER_AGE: Duration = Duration::from_secs(600);

/// How long what an interrupted transfer has left is kept, to be gone on with.
pub const DEFAULT_MAX_PARTIAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many files a node receives at once unless the caller says otherwise.
pub const DEFAULT_MAX_CONCURRENT: usize = 16;

/// The most that the caller may ask for: each has a connection, an open file and a thread.
pub const MAX_CONCURRENT: usize = 256;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings of the task service that the caller gave, above environment and files.
    pub ats: ats::Overrides,
    /// The only actors to receive from; without, anybody.
    pub allowed_peers: Option<Vec<String>>,
    /// The largest file to receive, bytes; without, any. `watch` declines the offer of a larger one.
    pub max_file_size: Option<u64>,
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
    /// Whether a send is content with another claimant than the recipient.
    pub any_claimant: bool,
    /// By which seed the node shows who it is.
    pub identity: SeedChoice,
    /// Where this user's state lives.
    pub home: PathBuf,
}

impl Options {
    /// The defaults, with state in `home`.
    pub fn new(home: PathBuf) -> Self {
        Self {
            ats: ats::Overrides::default(),
            allowed_peers: None,
            max_file_size: None,
            timeout: DEFAULT_TIMEOUT,
            max_offer_age: DEFAULT_MAX_OFFER_AGE,
            max_partial_age: DEFAULT_MAX_PARTIAL_AGE,
            max_concurrent: DEFAULT_MAX_CONCURRENT,
            topic_prefix: String::new(),
            bootstrap: None,
            relay_through: RelayChoice::default(),
            any_claimant: false,
            identity: SeedChoice::default(),
            home,
        }
    }
}
