//! A stream that carries one file after another.

use std::fmt;

use bytes::Bytes;
use secret_stream::{Receiver, SecretStream, Sender, Transport};

use super::{PumpError, close::close};

/// The longest message of the encrypted stream that is taken in, in bytes. A peer announces a message's
/// length in front of it and can have us hold that much of one: without this limit 16 MiB for each stranger
/// on a topic.
///
/// Peers of ours send a frame a message. The protocol lets a stream cut and join frames as it likes, and an
/// original makes one message of each write, however much it wrote.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// An encrypted stream between two files, or before the first.
///
/// Dropped, it tears the stream down without a word.
pub struct Stream<T: Transport> {
    pub(super) receiver: Receiver<T::Reader>,
    pub(super) sender: Sender<T::Writer>,
    /// The peer has said more than was its turn to say.
    pub(super) spoken: bool,
    /// What the peer said when it acknowledged the last file.
    pub(super) acknowledgement: Bytes,
}

impl<T: Transport> Stream<T> {
    /// Waits until the stream can carry no other file: the peer has ended it, is gone, or says something
    /// while it has nothing to say. May be cancelled, and called again until it has returned.
    pub async fn spent(&mut self) {
        if !self.spoken {
            // Anything ends the wait: bytes, the end, or an error.
            let _ = self.receiver.recv().await;
        }
    }

    /// What the peer said when it acknowledged the file that was sent; nothing where it said no more than
    /// that. Foreign bytes, at most 4 KiB.
    pub fn take_acknowledgement(&mut self) -> Bytes {
        std::mem::take(&mut self.acknowledgement)
    }

    /// Waits until the peer has all that was said.
    ///
    /// # Errors
    /// The stream's.
    pub async fn flush(&mut self) -> Result<(), secret_stream::Error> {
        self.sender.flush().await
    }

    /// Tells the peer why the stream is of no use to it, and ends it.
    pub async fn end_with(self, error: PumpError) {
        let _ = close(self.receiver, self.sender, error.last_word()).await;
    }

    /// Ends the stream, in the background.
    pub async fn end(self) {
        let _ = close(self.receiver, self.sender, None).await;
    }
}

impl<T: Transport> From<SecretStream<T>> for Stream<T> {
    fn from(stream: SecretStream<T>) -> Self {
        let (mut receiver, sender) = stream.split();
        receiver.set_max_message(MAX_MESSAGE);
        Self { receiver, sender, spoken: false, acknowledgement: Bytes::new() }
    }
}

impl<T: Transport> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("spoken", &self.spoken).finish_non_exhaustive()
    }
}
