//! [`udx::Stream`] as a transport.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::transport::{ChunkReader, ChunkWriter, Transport};

impl Transport for udx::Stream {
    type Reader = udx::ReadHalf;
    type Writer = udx::WriteHalf;
    type Handle = udx::StreamHandle;

    fn handle(&self) -> Self::Handle {
        Self::handle(self)
    }

    fn split(self) -> (Self::Reader, Self::Writer) {
        self.into_split()
    }
}

impl ChunkReader for udx::ReadHalf {
    fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        Self::poll_read_chunk(self, cx)
    }

    fn destroy(&mut self) {
        self.handle().destroy();
    }

    fn set_receive_limit(&mut self, bytes: Option<u32>) {
        self.handle().set_receive_limit(bytes);
    }
}

impl ChunkWriter for udx::WriteHalf {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        Self::write_chunk(self, chunk)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The future holds no state of its own: what it waits for is in the stream.
        pin!(self.flushed()).poll(cx)
    }

    fn pending(&self) -> usize {
        Self::pending(self)
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.end())
    }

    fn destroy(&mut self) {
        self.handle().destroy();
    }
}
