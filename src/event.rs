//! What a node tells its owner.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::metadata::Metadata;
use serde_json::Value;

use crate::ats::TaskId;
use crate::connection::ConnectionInfo;
use crate::error::Error;
use crate::files::TreeSize;
use crate::trust::Standing;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The task that offers a file was made.
    OfferSent {
        /// Which transfer.
        transfer: Transfer,
        /// For whom the file is.
        recipient_id: String,
    },
    /// An offer that another process of this agent made is gone on with, or its end, which came meanwhile, is
    /// told; or, under an idempotency key, it is waited for.
    OfferResumed {
        /// Which transfer.
        transfer: Transfer,
        /// For whom the file is.
        recipient_id: String,
    },
    /// A connection to the peer came about; another one follows where it is lost on the way.
    PeerConnected {
        /// Which transfer.
        transfer: Transfer,
        /// How, and in what time.
        connection: ConnectionInfo,
    },
    /// The peers are connected and the first bytes are due.
    TransferStart {
        /// Which transfer.
        transfer: Transfer,
        /// Which byte of the file is the first: 0, unless earlier processes had moved some.
        resumed_from: u64,
    },
    /// The transfer has come to another phase, or further within one: at most ten times a second, and at each
    /// change of phase.
    TransferProgress {
        /// Which transfer. In its first phase neither the task nor the hash need be known.
        transfer: Transfer,
        /// How far it is.
        progress: ProgressReport,
    },
    /// The file is whole, verified and in its final place.
    TransferComplete {
        /// Which transfer.
        transfer: Transfer,
        /// Where the receiver put it.
        file_path: Option<PathBuf>,
    },
    /// The transfer ended without success.
    TransferFailed {
        /// Which transfer.
        transfer: Transfer,
        /// Why.
        error: Error,
    },
    /// Somebody offers a file and nothing answers it by itself.
    File {
        /// Which transfer.
        transfer: Transfer,
        /// By what [`crate::node::Node::accept`] and `reject` name this offer.
        offer: u64,
        /// The permission bits of its source, as far as they are told.
        mode: Option<u16>,
        /// When its source was changed last, Unix milliseconds, as far as that is told.
        mtime: Option<i64>,
        /// The task as the service gave it.
        task: Value,
        /// The channel that it is on.
        channel: String,
        /// The tag of the watch that found it.
        watch: u32,
    },
    /// Events of a watched channel come in, again after `Disconnected` or for the first time.
    Connected {
        /// The address of the task service.
        ats_url: String,
        /// The channel.
        channel: String,
        /// Whose offers are heard of.
        actor_id: String,
    },
    /// The task service is not reached; the node keeps trying.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// Something that the owner should know and that ends nothing: a setting that was passed over, tasks of
    /// the service that make no sense.
    Warning {
        /// Which, and why.
        message: String,
    },
    /// Something is wrong with the node itself.
    Error {
        /// What.
        error: Error,
    },
}

/// What a transfer is about. Phases come in this order; connecting and what follows it come again after a
/// connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// A file is read that is to be sent, or what an earlier process has received of one.
    Hashing,
    /// The recipient is waited for, or this side's turn, or the task service.
    Waiting,
    /// The peer has the offer too: the two look for each other.
    Connecting,
    /// The bytes go.
    Transferring,
    /// All bytes have come, and the recipient puts the file in its place.
    Verifying,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProgressReport {
    /// What it is about.
    pub phase: Phase,
    /// Bytes of the file that are hashed or transferred, in these phases; all of them when it is verified.
    pub bytes: u64,
    /// Bytes of the file.
    pub total: u64,
    /// Bytes that have moved between the peers: the most that it ever were.
    pub moved: u64,
    /// Bytes a second in this phase, over the last seconds; `None` where that is not known.
    pub rate: Option<u64>,
    /// How long this phase takes yet at that rate; `None` where that is not known.
    pub eta: Option<Duration>,
}

/// Told of the progress of one transfer, besides the events of its node. It must not block.
pub type ProgressListener = Arc<dyn Fn(&ProgressReport) + Send + Sync>;

impl Phase {
    /// The phase's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hashing => "hashing",
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Transferring => "transferring",
            Self::Verifying => "verifying",
        }
    }

    /// Whether its bytes are counted.
    pub(crate) fn counts(self) -> bool {
        matches!(self, Self::Hashing | Self::Transferring)
    }
}

/// Which way the bytes of a transfer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From this node.
    Send,
    /// To this node.
    Receive,
}

/// What every event of a transfer says of it.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Which way.
    pub direction: Direction,
    /// The transfer's id.
    pub transfer_id: String,
    /// The task's id, as soon as there is one.
    pub task_id: Option<TaskId>,
    /// The name that the file has here, safe to use and to print.
    pub file_name: String,
    /// The name as it was offered, escaped for printing.
    pub original_name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex; empty until it is known, which is before the file is offered.
    pub hash: String,
    /// What its sender says of it besides.
    pub metadata: Option<Metadata>,
    /// What it holds, if it is a folder; its size and hash are those of the archive that it goes as.
    pub tree: Option<TreeSize>,
    /// The actor at the other end.
    pub peer_id: String,
    /// Who that is.
    pub peer: PeerIdentity,
}

/// Who is behind an actor's id, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The identity that it has proven; `None` from a peer without one, and before it has said anything.
    pub identity: Option<[u8; 32]>,
    /// What this node knows of it.
    pub standing: Standing,
}

impl PeerIdentity {
    /// Nobody has said anything yet.
    pub const UNKNOWN: Self = Self { identity: None, standing: Standing::Unverified };
}

impl Event {
    /// The event's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OfferSent { .. } => "offer_sent",
            Self::OfferResumed { .. } => "offer_resumed",
            Self::PeerConnected { .. } => "peer_connected",
            Self::TransferStart { .. } => "transfer_start",
            Self::TransferProgress { .. } => "transfer_progress",
            Self::TransferComplete { .. } => "transfer_complete",
            Self::TransferFailed { .. } => "transfer_failed",
            Self::File { .. } => "file",
            Self::Connected { .. } => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::Warning { .. } => "warning",
            Self::Error { .. } => "error",
        }
    }
}
