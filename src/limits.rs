//! Limits that both directions of one transfer share. Those of a whole node, such as how many files it
//! receives at once, are in `context`.

use std::time::Duration;

use crate::error::Code;

/// How long the end of a task may take to be told to the service when a transfer fails.
pub(crate) const CLEAN_UP: Duration = Duration::from_secs(4);

/// The same where its caller ended it, who wants to go on, and how long an answer that is on its way is
/// waited for then. Whoever is not told by then finds out: a claim runs out, an offer expires, and the next
/// start of this home withdraws what stands.
pub(crate) const GOODBYE: Duration = Duration::from_millis(1200);

/// How long the end of a transfer may take to be told that failed with this.
pub(crate) fn clean_up(code: Code) -> Duration {
    if code == Code::Aborted { GOODBYE } else { CLEAN_UP }
}

/// How long a transfer whose task has ended may go on to hear from its peer why.
pub(crate) const LAST_WORD: Duration = Duration::from_secs(1);

/// How long connections that are given up may take to tell their peers.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// How long the network may take to withdraw what was announced: nothing depends on it.
pub(crate) const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// Connections on a topic that are listened to at once, so that a silent one blocks nobody.
///
/// What strangers there can make a transfer hold is so many messages of
/// [`MAX_MESSAGE`](crate::pump::MAX_MESSAGE) and so many frames of [`MAX_DATA`](crate::wire::MAX_DATA);
/// connections beyond wait in the swarm with no more than their receive window, 64 of them, and the rest is
/// refused. What waits on all streams together: the `receive_memory` of `udx`'s `driver::Config`; before
/// there is a stream: `hyperdht`'s `connect::handshakes`.
pub(crate) const MAX_CANDIDATES: usize = 8;
