//! Every error a caller can meet: a stable code and a sentence for a person.

use std::fmt;

use hyperdht::connect::ConnectError;
use serde::{Deserialize, Serialize};

use crate::ats;

/// What went wrong, in one word that does not change between versions. Callers match on this.
///
/// The names are those of the protocol's table of outcomes, and those that the library needs besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Code {
    /// An argument is missing, of the wrong type or out of range.
    InvalidArgument,
    /// There is no file at the given path.
    FileNotFound,
    /// Something else is at the path: a device, a pipe, a socket, or a folder where a file was to go.
    NotAFile,
    /// The file, or a folder on its way, may not be read.
    NotReadable,
    /// The file changed between being hashed and being sent.
    SourceChanged,
    /// The target cannot be written: permissions, a read-only disk, a folder that is a file.
    NotWritable,
    /// A file stands at the target and `overwrite` was refused.
    AlreadyExists,
    /// The disk of the target has no room.
    DiskFull,
    /// The file is larger than `maxFileSize`.
    TooLarge,
    /// The task service cannot be reached.
    AtsUnreachable,
    /// The task service answered with an error.
    AtsError,
    /// Something that is not the task service answers at its address.
    AtsProtocol,
    /// The offer in a task is incomplete or contradicts itself.
    InvalidOffer,
    /// Nobody claimed the offer in time.
    OfferExpired,
    /// The recipient said no.
    Rejected,
    /// Somebody other than the recipient claimed the offer.
    WrongClaimant,
    /// Somebody else claimed the offer first.
    AlreadyClaimed,
    /// The offer was accepted, rejected or withdrawn before.
    AlreadyAnswered,
    /// The sender is not on the list of allowed peers.
    NotAllowed,
    /// What the peer says of itself does not fit what is known of it.
    Identity,
    /// No connection to the peer came about in time.
    PeerUnreachable,
    /// No byte moved for as long as `timeout`.
    Stalled,
    /// Name, size or hash of what arrived differ from the offer.
    Integrity,
    /// The peer reported an error of its own.
    RemoteError,
    /// The peer broke the transfer protocol.
    Protocol,
    /// A third party cancelled or failed the task.
    Cancelled,
    /// The caller cancelled: a signal, or `destroy`.
    Aborted,
    /// The node was destroyed.
    Destroyed,
    /// The network could not be used: no socket, no bootstrap node.
    Network,
    /// No transfer has this id.
    UnknownTransfer,
    /// Nothing that both ends of a transfer signed is at hand.
    NoReceipt,
    /// The idempotency key stands for another file, recipient or channel.
    KeyReused,
    /// A state on disk could not be read or written.
    State,
}

impl Code {
    /// The code as callers see it, `ATS_P2P_` and the name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "ATS_P2P_INVALID_ARGUMENT",
            Self::FileNotFound => "ATS_P2P_FILE_NOT_FOUND",
            Self::NotAFile => "ATS_P2P_NOT_A_FILE",
            Self::NotReadable => "ATS_P2P_NOT_READABLE",
            Self::SourceChanged => "ATS_P2P_SOURCE_CHANGED",
            Self::NotWritable => "ATS_P2P_NOT_WRITABLE",
            Self::AlreadyExists => "ATS_P2P_ALREADY_EXISTS",
            Self::DiskFull => "ATS_P2P_DISK_FULL",
            Self::TooLarge => "ATS_P2P_TOO_LARGE",
            Self::AtsUnreachable => "ATS_P2P_ATS_UNREACHABLE",
            Self::AtsError => "ATS_P2P_ATS_ERROR",
            Self::AtsProtocol => "ATS_P2P_ATS_PROTOCOL",
            Self::InvalidOffer => "ATS_P2P_INVALID_OFFER",
            Self::OfferExpired => "ATS_P2P_OFFER_EXPIRED",
            Self::Rejected => "ATS_P2P_REJECTED",
            Self::WrongClaimant => "ATS_P2P_WRONG_CLAIMANT",
            Self::AlreadyClaimed => "ATS_P2P_ALREADY_CLAIMED",
            Self::AlreadyAnswered => "ATS_P2P_ALREADY_ANSWERED",
            Self::NotAllowed => "ATS_P2P_NOT_ALLOWED",
            Self::Identity => "ATS_P2P_IDENTITY",
            Self::PeerUnreachable => "ATS_P2P_PEER_UNREACHABLE",
            Self::Stalled => "ATS_P2P_STALLED",
            Self::Integrity => "ATS_P2P_INTEGRITY",
            Self::RemoteError => "ATS_P2P_REMOTE_ERROR",
            Self::Protocol => "ATS_P2P_PROTOCOL",
            Self::Cancelled => "ATS_P2P_CANCELLED",
            Self::Aborted => "ATS_P2P_ABORTED",
            Self::Destroyed => "ATS_P2P_DESTROYED",
            Self::Network => "ATS_P2P_NETWORK",
            Self::UnknownTransfer => "ATS_P2P_UNKNOWN_TRANSFER",
            Self::NoReceipt => "ATS_P2P_NO_RECEIPT",
            Self::KeyReused => "ATS_P2P_KEY_REUSED",
            Self::State => "ATS_P2P_STATE",
        }
    }

    /// The step in which an error of this code usually comes up.
    pub fn step(self) -> Option<Step> {
        match self {
            Self::AtsUnreachable | Self::AtsError | Self::AtsProtocol => Some(Step::Service),
            Self::TooLarge
            | Self::InvalidOffer
            | Self::OfferExpired
            | Self::Rejected
            | Self::WrongClaimant
            | Self::AlreadyClaimed
            | Self::AlreadyAnswered
            | Self::NotAllowed
            | Self::Identity => Some(Step::Offer),
            Self::Network => Some(Step::Network),
            Self::PeerUnreachable => Some(Step::Handshake),
            Self::Stalled | Self::Integrity | Self::RemoteError | Self::Protocol => Some(Step::Transfer),
            Self::FileNotFound
            | Self::NotAFile
            | Self::NotReadable
            | Self::SourceChanged
            | Self::NotWritable
            | Self::AlreadyExists
            | Self::DiskFull => Some(Step::File),
            Self::InvalidArgument
            | Self::Cancelled
            | Self::Aborted
            | Self::Destroyed
            | Self::UnknownTransfer
            | Self::NoReceipt
            | Self::KeyReused
            | Self::State => None,
        }
    }

    /// What a peer and the task service are told: no path, no address, nothing of this machine.
    pub fn public_reason(self) -> &'static str {
        match self {
            Self::SourceChanged => "the file changed while it was being sent",
            Self::NotWritable | Self::AlreadyExists => "the file cannot be written at the receiver",
            Self::DiskFull => "the receiver's disk is full",
            Self::TooLarge => "the file is larger than the receiver accepts",
            Self::InvalidOffer => "the offer is incomplete or malformed",
            Self::OfferExpired => "nobody accepted the offer in time",
            Self::Rejected => "declined",
            Self::WrongClaimant => "claimed by somebody whom the offer is not for",
            Self::NotAllowed => "the sender is not on the receiver's list of allowed peers",
            Self::Identity => "the peer is not who the task says",
            Self::PeerUnreachable => "the peers could not connect",
            Self::Stalled => "no byte moved for too long",
            Self::Integrity => "what arrived differs from what was offered",
            Self::RemoteError => "the other side reported an error",
            Self::Protocol => "the other side broke the transfer protocol",
            Self::Cancelled | Self::Aborted | Self::Destroyed => "cancelled",
            Self::AtsUnreachable | Self::AtsError | Self::AtsProtocol => {
                "the other side could not use the task service"
            }
            Self::Network => "the other side could not use the peer network",
            _ => "the transfer failed",
        }
    }

    /// What a peer's [`Self::public_reason`] means to the other side: some failures go by the same name
    /// there, the rest are the peer's own.
    pub fn told_by_peer(reason: Option<&str>) -> Self {
        [Self::Integrity, Self::Stalled, Self::PeerUnreachable]
            .into_iter()
            .find(|code| reason == Some(code.public_reason()))
            .unwrap_or(Self::RemoteError)
    }

    /// Whether it lies in this machine alone, its disk, its limits, its network or its settings: nobody's
    /// offer is declined for that, it waits until the trouble has passed.
    pub(crate) fn is_of_this_machine(self) -> bool {
        matches!(
            self,
            Self::State
                | Self::NotWritable
                | Self::DiskFull
                | Self::AlreadyExists
                | Self::NotAFile
                | Self::Network
                | Self::InvalidArgument
        )
    }

    /// Whether the same call may succeed later with nothing changed by the caller.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::AtsUnreachable
                | Self::AtsError
                | Self::OfferExpired
                | Self::PeerUnreachable
                | Self::Stalled
                | Self::SourceChanged
                | Self::RemoteError
                | Self::Network
        )
    }
}

/// The part of a transfer in which it failed: where to look for the cause.
///
/// From the first to the last: the offer goes to the service, the recipient takes it, a place on the peer
/// network is found, the peer is looked up there, answers a handshake, is reached through the NATs between,
/// or else through a relay, and the bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Speaking with the task service.
    Service,
    /// Agreeing on the transfer: the offer and the answer to it.
    Offer,
    /// Finding a place on the peer network.
    Network,
    /// Finding the peer there.
    Lookup,
    /// Having the peer answer.
    Handshake,
    /// Getting through the NATs between the peers.
    Punch,
    /// Getting through a relay where there is no way between the peers themselves.
    Relay,
    /// Meeting the peer at the tunnel, where UDP leads nowhere.
    Tunnel,
    /// Moving the bytes.
    Transfer,
    /// The file and the disk at this end.
    File,
}

impl Step {
    /// The step as callers see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Offer => "offer",
            Self::Network => "network",
            Self::Lookup => "lookup",
            Self::Handshake => "handshake",
            Self::Punch => "punch",
            Self::Relay => "relay",
            Self::Tunnel => "tunnel",
            Self::Transfer => "transfer",
            Self::File => "file",
        }
    }

    /// What would help a transfer whose peer was not reached in this step.
    pub(crate) fn help(self) -> &'static str {
        match self {
            Self::Network => {
                "`ats-p2p doctor` says what is wrong: UDP may be blocked, or the two sides use different \
                 bootstrap nodes"
            }
            Self::Lookup => "is the other side still running, and on the same network (bootstrap nodes)?",
            Self::Handshake => {
                "the other side was found but did not answer in time: is it still running? `ats-p2p doctor` \
                 at both ends says whether UDP gets through"
            }
            Self::Punch => {
                "no way leads through the NATs between the two: forward a UDP port to one of them, or put \
                 both in one network; `ats-p2p doctor` says at each end which NAT is in the way"
            }
            Self::Relay => {
                "no way leads between the two, and the relay did not let them through: is it running?"
            }
            Self::Tunnel => {
                "UDP led nowhere, and the tunnel neither: is the other side still running? `ats-p2p doctor` \
                 says at each end which ways are open"
            }
            Self::Service | Self::Offer | Self::Transfer | Self::File => {
                "is the other side still running, and its network up?"
            }
        }
    }
}

impl From<ConnectError> for Step {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::PeerNotFound => Self::Lookup,
            ConnectError::HolepunchAborted
            | ConnectError::DoubleRandomizedNats
            | ConnectError::TryLater
            | ConnectError::CannotHolepunch => Self::Punch,
            ConnectError::RelayAborted => Self::Relay,
            ConnectError::Suspended | ConnectError::Destroyed => Self::Network,
            _ => Self::Handshake,
        }
    }
}

/// An error with its code, a sentence for a person, and the transfer that it concerns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Error {
    /// What callers match on.
    pub code: Code,
    /// What happened, to which file and peer, and what to do next. Holds no unescaped foreign text.
    pub message: String,
    /// The transfer's id, where there is one.
    pub transfer_id: Option<String>,
    /// The task's id as text, where there is one.
    pub task_id: Option<String>,
    /// In which part of the transfer it came up; `None` where there is no transfer.
    pub step: Option<Step>,
}

/// The result of whatever a caller can ask for.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that concerns no transfer yet.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), transfer_id: None, task_id: None, step: code.step() }
    }

    /// What came of a call of the task service: what was being done, and what kept it from that.
    pub(crate) fn of_service(doing: impl fmt::Display, error: ats::AtsError) -> Self {
        Self::from(error).while_doing(doing)
    }

    /// The same error, saying what was being done.
    pub(crate) fn while_doing(self, doing: impl fmt::Display) -> Self {
        Self { message: format!("{doing}: {}", self.message), ..self }
    }

    /// The same error, in this step rather than its code's usual one.
    pub fn in_step(mut self, step: Step) -> Self {
        self.step = Some(step);
        self
    }

    /// The peer network could not be used.
    pub fn network(error: impl fmt::Display) -> Self {
        Self::new(Code::Network, format!("the peer network can't be used: {error}"))
    }

    /// The same error, naming the transfer that it ended.
    pub fn of(mut self, transfer_id: &str, task_id: Option<&str>) -> Self {
        self.transfer_id.get_or_insert_with(|| transfer_id.to_owned());
        if let Some(task_id) = task_id {
            self.task_id.get_or_insert_with(|| task_id.to_owned());
        }
        self
    }

    /// Whether the same call may succeed later with nothing changed by the caller.
    pub fn retryable(&self) -> bool {
        self.code.retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<ats::AtsError> for Error {
    fn from(error: ats::AtsError) -> Self {
        let code = match &error {
            ats::AtsError::Settings(_) => Code::InvalidArgument,
            ats::AtsError::Unreachable { .. }
            | ats::AtsError::Proxy { .. }
            | ats::AtsError::Untrusted { .. }
            | ats::AtsError::Timeout { .. }
            | ats::AtsError::Interrupted { .. }
            | ats::AtsError::EventsEnded { .. } => Code::AtsUnreachable,
            ats::AtsError::Status { .. } | ats::AtsError::Invitation { .. } => Code::AtsError,
            ats::AtsError::Closed => Code::Destroyed,
            _ => Code::AtsProtocol,
        };
        Self::new(code, error.to_string())
    }
}
