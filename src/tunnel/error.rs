//! What can be in the way to a peer at the tunnel.

use std::time::Duration;

use protocol::tunnel::close;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::Tunnel;
use crate::web::WebError;

/// Why no connection came about at the tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// The way to it.
    #[error("the tunnel at {place} is not reached: {error}")]
    Way {
        /// Its address.
        place: String,
        /// What is in the way.
        error: WebError,
    },
    /// It does not open.
    #[error("the tunnel at {place} answered {status}: {message}")]
    Refused {
        /// Its address.
        place: String,
        /// The HTTP status.
        status: u16,
        /// What it said, escaped and cut.
        message: String,
    },
    /// It closed the WebSocket.
    #[error("the tunnel at {place} {}", closed(*code, reason))]
    Closed {
        /// Its address.
        place: String,
        /// One of [`protocol::tunnel::close`], or of the WebSocket protocol.
        code: u16,
        /// What it said, escaped and cut.
        reason: String,
    },
    /// Its WebSocket broke off, or says what has no place there.
    #[error("the tunnel at {place} broke off: {reason}")]
    Broken {
        /// Its address.
        place: String,
        /// How.
        reason: String,
    },
    /// It did not say what was due in time.
    #[error("the tunnel at {place} did not answer within {} s", after.as_secs())]
    Timeout {
        /// Its address.
        place: String,
        /// How long was waited.
        after: Duration,
    },
    /// This node has left the network meanwhile.
    #[error("this node has left the network")]
    Left,
    /// The peer at the other end has not the key that was expected, or can't show it.
    #[error("the peer at the tunnel is not the one that was expected: {0}")]
    Peer(String),
}

impl TunnelError {
    /// What a close frame says.
    pub(super) fn of_close(tunnel: &Tunnel, frame: Option<CloseFrame>) -> Self {
        let place = tunnel.shown().to_owned();
        match frame {
            Some(CloseFrame { code, reason }) => {
                Self::Closed { place, code: code.into(), reason: tunnel.printable(&reason) }
            }
            None => Self::Broken { place, reason: "it closed without a word".to_owned() },
        }
    }

    /// What an HTTP answer other than a WebSocket says.
    pub(super) fn refused(tunnel: &Tunnel, status: u16, message: &str) -> Self {
        Self::Refused { place: tunnel.shown().to_owned(), status, message: tunnel.printable(message) }
    }
}

fn closed(code: u16, reason: &str) -> String {
    let said = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match code {
        close::NOT_ALLOWED => format!("joins only peers of an open task{said}"),
        close::REPLACED => format!("was opened by another connection with the same key{said}"),
        close::TIMED_OUT => format!("waited in vain for the peer{said}"),
        close::PEER_GONE => format!("lost the peer{said}"),
        close::LIMITED => format!("is busy{said}"),
        code => format!("closed with {code}{said}"),
    }
}
