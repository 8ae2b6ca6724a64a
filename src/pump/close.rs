//! The last word to a peer, and the end of the stream.

use std::time::Duration;

use secret_stream::{ChunkReader, ChunkWriter, Receiver, Sender};
use tokio::time::timeout;

use crate::wire::{FrameType, encode};

/// How long the last word may take to reach the peer, and then how long the peer may take to end its side:
/// several round trips of the slowest path. Nothing depends on either.
const LINGER: Duration = Duration::from_secs(3);

/// Says the last word, if there is one, waits until the peer has it, and ends the stream.
///
/// The peer's end is waited for in the background: a stream that is dropped before is torn down, and the last
/// word may be lost with it.
///
/// # Errors
/// The stream's; `Closed` where the peer has not acknowledged the last word in time.
pub(super) async fn close<R: ChunkReader, W: ChunkWriter>(
    mut receiver: Receiver<R>,
    mut sender: Sender<W>,
    word: Option<(FrameType, String)>,
) -> Result<(), secret_stream::Error> {
    let said = match word {
        None => Some(Ok(())),
        Some((kind, text)) => {
            let frame = encode(kind, text.as_bytes());
            timeout(LINGER, say(&mut sender, &frame)).await.ok()
        }
    };
    if !matches!(said, Some(Err(_))) {
        tokio::spawn(timeout(LINGER, async move {
            if sender.shutdown().await.is_ok() {
                while let Ok(Some(_)) = receiver.recv().await {}
            }
        }));
    }
    said.unwrap_or(Err(secret_stream::Error::Closed))
}

async fn say<W: ChunkWriter>(sender: &mut Sender<W>, frame: &[u8]) -> Result<(), secret_stream::Error> {
    sender.send(frame).await?;
    sender.flush().await
}
