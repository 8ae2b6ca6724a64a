//! How a run can end.

use crate::{
    error::Code,
    files::{SourceError, TargetError, display},
    wire::{Fault, FrameType},
};

/// How the reason begins by which a process learns that another one of its actor has the transfer.
const SUPERSEDED: &str = "SUPERSEDED";

/// What ended a run before the file was over.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The peer broke the protocol, or what it sent is not what was offered.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// A file that came by several connections is not the one offered: what came by the earlier ones may be
    /// at fault.
    #[error("what came in several parts is not the file offered: {0}")]
    Spoilt(Fault),
    /// The receiver did not take the file. Its reason is foreign text; shown, it is escaped.
    #[error("the receiver refused the file: {}", display(.0))]
    Nack(String),
    /// The peer gave up. Its reason is foreign text; shown, it is escaped.
    #[error("the peer gave up: {}", display(.0))]
    Remote(String),
    /// Nothing moved for as long as was allowed.
    #[error("no byte moved in time")]
    Stalled,
    /// Another process of the peer's actor has the transfer.
    #[error("another process of the recipient is receiving the file")]
    Superseded,
    /// The caller cancelled.
    #[error("the transfer was cancelled here")]
    Cancelled,
    /// The peer ended the stream before the transfer was over.
    #[error("the peer closed the connection")]
    Closed,
    /// The stream failed.
    #[error("the connection was lost: {0}")]
    Connection(#[from] secret_stream::Error),
    /// The file can't be sent.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The file can't be written.
    #[error("{0}")]
    Target(#[from] TargetError),
    /// A thread of the transfer ended without a word.
    #[error("the transfer's own thread failed")]
    Thread,
}

impl PumpError {
    /// The code by which callers know it.
    pub fn code(&self) -> Code {
        match self {
            Self::Fault(fault) if fault.is_integrity() => Code::Integrity,
            Self::Spoilt(_) => Code::Integrity,
            Self::Fault(_) => Code::Protocol,
            Self::Nack(reason) if speaks_of_integrity(reason) => Code::Integrity,
            // Neither side saw a byte move; the other noticed first.
            Self::Remote(reason) if reason.starts_with("STALLED") => Code::Stalled,
            Self::Remote(reason) if reason.to_ascii_uppercase().starts_with(SUPERSEDED) => {
                Code::AlreadyClaimed
            }
            Self::Nack(_) | Self::Remote(_) => Code::RemoteError,
            Self::Stalled => Code::Stalled,
            Self::Superseded => Code::AlreadyClaimed,
            Self::Cancelled => Code::Aborted,
            Self::Closed | Self::Connection(_) => Code::PeerUnreachable,
            Self::Source(error) => error.code(),
            Self::Target(error) => error.code(),
            Self::Thread => Code::State,
        }
    }

    /// Whether the connection went and nothing else is wrong: another one may do.
    pub fn is_lost_connection(&self) -> bool {
        matches!(self, Self::Closed | Self::Connection(_))
    }

    /// What the peer is told, if anything. It learns no path and no message of the system.
    pub(super) fn last_word(&self) -> Option<(FrameType, String)> {
        let (kind, code, text) = match self {
            Self::Fault(fault) | Self::Spoilt(fault) => {
                let code = if fault.is_integrity() { "INTEGRITY" } else { "PROTOCOL" };
                (fault.answer(), code, fault.to_string())
            }
            Self::Target(error) => {
                let (code, text) = match error {
                    TargetError::DiskFull { .. } | TargetError::NoMoreFiles { .. } => {
                        ("DISK_FULL", "there is no room for the file")
                    }
                    TargetError::Archive { .. } => ("INTEGRITY", "the folder can't be unpacked"),
                    _ => ("NOT_WRITABLE", "the file can't be written"),
                };
                (FrameType::Nack, code, text.to_owned())
            }
            Self::Source(SourceError::Changed { .. }) => {
                (FrameType::Error, "SOURCE_CHANGED", "the file changed while it was being sent".to_owned())
            }
            Self::Source(_) => (FrameType::Error, "NOT_READABLE", "the file can't be read".to_owned()),
            Self::Stalled => (FrameType::Error, "STALLED", "no byte moved in time".to_owned()),
            Self::Superseded => {
                (FrameType::Error, SUPERSEDED, "another process of this actor has the transfer".to_owned())
            }
            Self::Cancelled => (FrameType::Error, "ABORTED", "the transfer was cancelled".to_owned()),
            Self::Thread => (FrameType::Error, "STATE", "the transfer failed inside".to_owned()),
            // The peer has ended it, or is gone.
            Self::Nack(_) | Self::Remote(_) | Self::Closed | Self::Connection(_) => {
                return None;
            }
        };
        Some((kind, format!("{code}: {text}")))
    }
}

/// Whether a receiver's reason says that the file did not arrive as offered.
///
/// Peers of ours begin a reason with its code. Others use words of their own; these are the usual ones.
fn speaks_of_integrity(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["integrity", "hash", "mismatch", "checksum", "sha256", "sha-256", "corrupt"]
        .iter()
        .any(|word| reason.contains(word))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_reason() {
        let code = |reason: &str| PumpError::Nack(reason.to_owned()).code();
        assert_eq!(code("Hash mismatch"), Code::Integrity);
        assert_eq!(code("INTEGRITY: only 3 of the 4 bytes offered came"), Code::Integrity);
        assert_eq!(code("DISK_FULL: there is no room for the file"), Code::RemoteError);
        assert_eq!(code("File too large"), Code::RemoteError);
    }

    #[test]
    fn what_we_tell_a_peer_is_understood_by_a_peer_of_ours() {
        let fault = PumpError::Fault(Fault::TooManyBytes { size: 3 });
        let Some((FrameType::Nack, reason)) = fault.last_word() else { panic!("a refusal") };
        assert_eq!(PumpError::Nack(reason).code(), Code::Integrity);
        let full = TargetError::DiskFull { path: PathBuf::from("/home/me"), needed: 1 };
        let Some((FrameType::Nack, reason)) = PumpError::Target(full).last_word() else {
            panic!("a refusal")
        };
        assert!(!reason.contains("/home"));
        assert_eq!(PumpError::Nack(reason).code(), Code::RemoteError);
    }

    #[test]
    fn who_came_too_late_understands_that_another_process_has_the_transfer() {
        let Some((FrameType::Error, reason)) = PumpError::Superseded.last_word() else { panic!("a word") };
        assert_eq!(PumpError::Remote(reason).code(), Code::AlreadyClaimed);
        assert_eq!(PumpError::Remote("superseded".into()).code(), Code::AlreadyClaimed);
    }

    #[test]
    fn what_a_peer_says_is_shown_escaped() {
        assert_eq!(PumpError::Remote("\x1b[2J".into()).to_string(), r"the peer gave up: \u{1b}[2J");
    }
}
