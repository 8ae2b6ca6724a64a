//! The receiving half of a stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;

use crate::Error;
use crate::message::Opener;
use crate::shared::Shared;
use crate::transport::ChunkReader;

/// The receiving half of a [`SecretStream`](crate::SecretStream).
///
/// Every method can be cancelled (its future dropped) without loss.
pub struct Receiver<R> {
    opener: Opener,
    reader: R,
    shared: Arc<Shared>,
    ended: bool,
}

impl<R: ChunkReader> Receiver<R> {
    pub(crate) fn new(opener: Opener, reader: R, shared: Arc<Shared>) -> Self {
        Self { opener, reader, shared, ended: false }
    }

    /// Waits until the peer's header is verified: only then is it certain that the peer whom the handshake
    /// named is there now. Fails with [`Error::Truncated`] if the stream ends before.
    pub async fn ready(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_verified(cx)).await
    }

    /// The next message, or `None` at the end of the stream. Any error destroys the stream.
    ///
    /// The message lies in memory of its own, and may be changed in place.
    pub async fn recv(&mut self) -> Result<Option<BytesMut>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`Self::recv`], for hand-written futures.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<BytesMut>, Error>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let result = ready!(self.poll_message(cx));
        if result.is_err() {
            self.reader.destroy();
        }
        Poll::Ready(result)
    }

    /// Bytes here of the encrypted message that comes next and is not whole yet.
    pub fn begun(&self) -> usize {
        self.opener.begun()
    }

    /// Accepts messages of up to `bytes`; longer ones end the stream before memory is taken for them.
    /// Without it, up to [`MAX_MESSAGE`](crate::MAX_MESSAGE).
    pub fn set_max_message(&mut self, bytes: usize) {
        self.opener.set_max_message(bytes);
    }

    /// See [`ChunkReader::set_receive_limit`].
    pub fn set_receive_limit(&mut self, bytes: Option<u32>) {
        self.reader.set_receive_limit(bytes);
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<BytesMut>, Error>> {
        loop {
            while let Some(message) = self.opener.next_message()? {
                self.shared.count_received();
                if !(message.is_empty() && self.shared.swallows_empty()) {
                    return Poll::Ready(Ok(Some(message)));
                }
            }
            if !ready!(self.poll_fill(cx))? {
                return Poll::Ready(Ok(None));
            }
        }
    }

    fn poll_verified(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let verified = self.opener.verify_header().inspect_err(|_| self.reader.destroy())?;
            if verified {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_fill(cx)).inspect_err(|_| self.reader.destroy())?;
        }
    }

    /// Takes what has arrived; false at an orderly end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        match ready!(self.reader.poll_read_chunk(cx))? {
            Some(chunk) => self.opener.push(&chunk),
            None if self.opener.is_at_boundary() => self.ended = true,
            None => return Poll::Ready(Err(Error::Truncated)),
        }
        Poll::Ready(Ok(!self.ended))
    }
}
