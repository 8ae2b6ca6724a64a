//! A connection whose other side has to take what it is sent. Without that, a client that asks and never
//! reads holds its answer in memory for as long as it likes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may keep the hub waiting with something to send. What it takes meanwhile gives it more
/// time, at the rate below.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// The fewest bytes a second that a client takes.
const MIN_RATE: u64 = 8 * 1024;

/// A stream that fails with [`io::ErrorKind::TimedOut`] once the other side has been too slow to read.
#[derive(Debug)]
pub(crate) struct PatientStream<S> {
    stream: S,
    /// What has happened since the hub had to wait; `None` while nothing waits to be sent.
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    since: Instant,
    written: u64,
    timer: Pin<Box<Sleep>>,
}

impl<S> PatientStream<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, wait: None }
    }

    /// The stream itself, which waits for its other side for ever.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// What came of an attempt to write.
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        tried: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(written)), Some(wait)) = (&tried, &mut self.wait) {
            wait.written += u64::try_from(*written).unwrap_or(u64::MAX);
        }
        if tried.is_ready() {
            return tried;
        }
        let now = Instant::now();
        let new_wait = || Wait { since: now, written: 0, timer: Box::pin(sleep_until(now)) };
        let wait = self.wait.get_or_insert_with(new_wait);
        let deadline = wait.since + WRITE_PATIENCE + Duration::from_secs(wait.written / MIN_RATE);
        if wait.timer.deadline() != deadline {
            wait.timer.as_mut().reset(deadline);
        }
        ready!(wait.timer.as_mut().poll(context));
        let message = "the client does not read what it is sent";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.judge(context, tried)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.judge(context, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Whoever writes here flushes once nothing waits in its own buffers.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.wait = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_waited_for_ten_seconds() {
        let (near, _far) = duplex(10);
        let started = Instant::now();
        let error = PatientStream::new(near).write_all(&[0; 100]).await.expect_err("too slow");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), WRITE_PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_a_byte_now_and_then_is_not_waited_for_longer() {
        let (near, mut far) = duplex(10);
        let reader = tokio::spawn(async move {
            let mut byte = [0];
            while far.read_exact(&mut byte).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let started = Instant::now();
        assert!(PatientStream::new(near).write_all(&[0; 1000]).await.is_err());
        assert!(started.elapsed() <= WRITE_PATIENCE + Duration::from_secs(1), "{:?}", started.elapsed());
        reader.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_steadily_is_served_for_as_long_as_it_takes() {
        let (near, mut far) = duplex(64 * 1024);
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 32 * 1024];
            while far.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        });
        let mut stream = PatientStream::new(near);
        // Between two answers a client may be as quiet as it likes.
        for _ in 0..2 {
            stream.write_all(&vec![0; 1 << 20]).await.expect("written");
            stream.flush().await.expect("flushed");
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        drop(stream);
        reader.await.expect("read");
    }
}
