//! What an encrypted stream needs of the stream of bytes below it.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

/// A reliable, ordered stream of bytes in both directions, moved in chunks so that nothing copies them.
///
/// [`udx::Stream`] is one; [`Io`](crate::Io) makes one of anything that is `AsyncRead + AsyncWrite`.
pub trait Transport {
    /// What receives.
    type Reader: ChunkReader;
    /// What sends.
    type Writer: ChunkWriter;
    /// What can be told and asked about the stream while the halves are in use elsewhere.
    type Handle: Clone + Send + Sync + 'static;

    /// The stream's handle.
    fn handle(&self) -> Self::Handle;

    /// The halves. Dropping both before the writer was closed destroys the stream.
    fn split(self) -> (Self::Reader, Self::Writer);
}

/// The receiving half of a [`Transport`].
pub trait ChunkReader: Send + Unpin + 'static {
    /// The next bytes, or `None` at the peer's end.
    fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>>;

    /// Ends both directions at once, telling the peer that it was no orderly end.
    fn destroy(&mut self);

    /// Lets the peer send no more than so many bytes ahead of the reader, or, with `None`, as many as the
    /// transport likes. Where the transport can't tell its peer, nothing.
    fn set_receive_limit(&mut self, bytes: Option<u32>) {
        let _ = bytes;
    }
}

/// The sending half of a [`Transport`].
pub trait ChunkWriter: Send + Unpin + 'static {
    /// Ready when there is room to write.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes bytes to send, whatever the room: callers poll [`Self::poll_ready`] before, or write little.
    fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()>;

    /// Ready when everything written has left, or, if the transport knows, was acknowledged.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Bytes written that have not left yet, or, if the transport knows, were not acknowledged yet.
    fn pending(&self) -> usize;

    /// Ends this direction after what was written; the other goes on.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends both directions at once, telling the peer that it was no orderly end.
    fn destroy(&mut self);
}
