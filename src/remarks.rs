//! What a transfer says on its task for people who read there: that it begins, and how it ended.
//!
//! Programs go by the data of messages and by the task's state; nothing here is read by a peer. So it goes
//! along with what a recipient asks of the service anyway, where that takes both. Else it is said beside the
//! transfer and never waited for, and is left out where the service is slow.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::ats::{Client, Part, TaskId};
use crate::connection::ConnectionInfo;
use crate::error::Error;
use crate::event::{Direction, Transfer};
use crate::files;
use crate::sync::Spawner;

/// Remarks that are on their way at once; beyond, they are left out.
const MAX_POSTING: usize = 32;

/// How long one may take. A node that ends waits for it, but no longer than for its transfers.
const LIMIT: Duration = Duration::from_millis(1500);

/// Says what people read on tasks. Clones share what is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Remarks {
    client: Client,
    spawner: Spawner,
    posting: Arc<Semaphore>,
}

impl Remarks {
    pub(crate) fn new(client: Client, spawner: Spawner) -> Self {
        Self { client, spawner, posting: Arc::new(Semaphore::new(MAX_POSTING)) }
    }

    /// Posts one on a task, if there is room, while others go on.
    pub(crate) fn post(&self, task_id: &TaskId, text: String) {
        let Ok(place) = self.posting.clone().try_acquire_owned() else { return };
        let (client, task_id) = (self.client.clone(), task_id.clone());
        self.spawner.spawn(async move {
            let _place = place;
            let posted = timeout(LIMIT, client.add_message(&task_id, vec![Part::text(text)]));
            if !matches!(posted.await, Ok(Ok(_))) {
                tracing::debug!("task {task_id} lacks a remark for people");
            }
        });
    }
}

/// That a transfer begins.
pub(crate) fn begins(transfer: &Transfer) -> String {
    let (what, peer) = parties(transfer);
    match transfer.direction {
        Direction::Send => format!("Sending {what} to {peer}"),
        Direction::Receive => format!("Receiving {what} from {peer}"),
    }
}

/// That the file has arrived at `recipient`, by this connection if it needed one.
pub(crate) fn delivered(
    transfer: &Transfer,
    recipient: &str,
    took: Duration,
    connection: Option<&ConnectionInfo>,
) -> String {
    let (what, _) = parties(transfer);
    let path = connection.map(|connection| format!(", {} connection", connection.path)).unwrap_or_default();
    let (seconds, recipient) = (took.as_secs_f64(), files::display(recipient));
    format!("Delivered {what} in {seconds:.1} s{path}; SHA-256 {}, verified by {recipient}", transfer.hash)
}

/// Why the file has not arrived, as far as others may know.
pub(crate) fn failed(transfer: &Transfer, error: &Error) -> String {
    let (what, peer) = parties(transfer);
    let preposition = match transfer.direction {
        Direction::Send => "to",
        Direction::Receive => "from",
    };
    format!("Not delivered: {what} {preposition} {peer}: {}", error.code.public_reason())
}

/// The file and the other side, fit to be shown.
fn parties(transfer: &Transfer) -> (String, String) {
    let file = format!("{} ({})", transfer.original_name, size(transfer.size));
    (file, files::display(&transfer.peer_id))
}

/// A number of bytes for people: `64 MiB`, `1.5 GiB`.
fn size(bytes: u64) -> String {
    let (mut amount, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, next);
    }
    format!("{} {unit}", (amount * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::event::PeerIdentity;

    fn transfer(direction: Direction, peer: &str, size: u64) -> Transfer {
        Transfer {
            direction,
            transfer_id: "t".into(),
            task_id: None,
            file_name: "x".into(),
            original_name: files::display("re\u{202e}port.pdf"),
            size,
            hash: "0".repeat(64),
            metadata: None,
            tree: None,
            peer_id: peer.into(),
            peer: PeerIdentity::UNKNOWN,
        }
    }

    #[test]
    fn remarks_are_sentences_without_anything_that_acts_on_a_screen() {
        let received = transfer(Direction::Receive, "a\u{1b}[31m", 1_258_291);
        assert_eq!(begins(&received), "Receiving re\\u{202e}port.pdf (1.2 MiB) from a\\u{1b}[31m");
        assert_eq!(
            delivered(&received, "b\n", Duration::from_millis(840), None),
            format!(
                "Delivered re\\u{{202e}}port.pdf (1.2 MiB) in 0.8 s; SHA-256 {}, verified by b\\n",
                "0".repeat(64)
            )
        );
        let sent = transfer(Direction::Send, "b", 10);
        assert_eq!(
            failed(&sent, &Error::new(Code::OfferExpired, "/home/a/secret")),
            "Not delivered: re\\u{202e}port.pdf (10 B) to b: nobody accepted the offer in time"
        );
    }

    #[test]
    fn no_remark_is_taken_for_the_data_of_a_peer() {
        let named = |name: &str| Transfer { original_name: name.into(), ..transfer(Direction::Send, "b", 0) };
        for name in ["{\"p2p\": {}}", "1", "null"] {
            assert_eq!(Part::text(begins(&named(name))).json(), None);
            assert_eq!(Part::text(failed(&named(name), &Error::new(Code::Aborted, ""))).json(), None);
        }
    }

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 << 20, "64 MiB")] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "16777216 TiB");
    }
}
