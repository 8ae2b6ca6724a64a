//! Limits that both directions of one transfer share. Those of a whole node, such as how many files it
//! receives at once, are in `context`.

use std::time::Duration;

/// How long the end of a task may take to be told to the service when a transfer fails, and how long an
/// answer that is on its way is waited for when the transfer is cancelled.
pub(crate) const CLEAN_UP: Duration = Duration::from_secs(4);

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
