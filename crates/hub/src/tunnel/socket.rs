//! The WebSocket of one end: what is read from it, the short frames that wait to be sent to it, and how it is
//! closed.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use protocol::tunnel::close;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::frames::{Inbound, Item, MAX_CONTROL, Malformed, frame};

/// The most bytes of short frames that wait to be sent to an end. A ping that would be answered beyond that
/// is not: an end that reads none of its pongs needs no more of them.
const MAX_QUEUED: usize = 1024;
/// How long an end may take to read why it is closed, and to close in turn: else what it was told would be
/// lost with what it sent meanwhile.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Why an end is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Malformed,
    NotProven,
    NotAllowed,
    /// The other end did not come.
    NobodyCame,
    /// Nothing was sent either way for long.
    Silent,
    Replaced,
    PeerGone,
    /// The other end has closed.
    Done,
    /// It is gone itself.
    Gone,
    TooManyEnds,
    TooManyPairs,
    TooManyBytes,
    HubEnds,
    DatabaseAway,
}

impl Reason {
    /// The code that the end is told.
    fn code(self) -> u16 {
        match self {
            Self::Malformed => close::MALFORMED,
            Self::NotProven => close::NOT_PROVEN,
            Self::NotAllowed => close::NOT_ALLOWED,
            Self::NobodyCame | Self::Silent => close::TIMED_OUT,
            Self::Replaced => close::REPLACED,
            Self::PeerGone => close::PEER_GONE,
            Self::TooManyEnds | Self::TooManyPairs | Self::TooManyBytes => close::LIMITED,
            Self::Done | Self::Gone => 1000,
            Self::HubEnds => 1001,
            Self::DatabaseAway => 1013,
        }
    }

    /// What the end is told.
    fn text(self) -> &'static str {
        match self {
            Self::Malformed => "binary messages alone are taken here, of 1 MiB at most, and in turn",
            Self::NotProven => "the signature is not by the key, or for another hub's address or challenge",
            Self::NotAllowed => "no open task of this hub names both keys",
            Self::NobodyCame => "the other end did not come",
            Self::Silent => "nothing was sent for five minutes",
            Self::Replaced => "the same end has come by another connection",
            Self::PeerGone => "the other end has gone",
            Self::Done | Self::Gone => "",
            Self::TooManyEnds => "the hub has as many ends of its tunnel as it takes, or your address has",
            Self::TooManyPairs => "the hub joins as many pairs as it may (--relay-pairs)",
            Self::TooManyBytes => "the pair has sent as much as it may (--relay-bytes)",
            Self::HubEnds => "the hub is shutting down",
            Self::DatabaseAway => "the hub's database cannot be asked now; come again",
        }
    }

    /// Its name for those who count.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotProven => "not_proven",
            Self::NotAllowed => "not_allowed",
            Self::NobodyCame => "nobody_came",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::PeerGone => "peer_gone",
            Self::Done => "done",
            Self::Gone => "gone",
            Self::TooManyEnds => "too_many_ends",
            Self::TooManyPairs => "too_many_pairs",
            Self::TooManyBytes => "too_many_bytes",
            Self::HubEnds => "hub_ends",
            Self::DatabaseAway => "database_away",
        }
    }
}

impl From<Malformed> for Reason {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The WebSocket of an end.
pub(super) struct Socket {
    stream: Box<dyn Duplex>,
    pub(super) inbound: Inbound,
    /// Short frames, and how much of them has been sent.
    queue: Vec<u8>,
    sent: usize,
    is_flushed: bool,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl Socket {
    /// A WebSocket from its first frame on; `read` is what was read of that already.
    pub(super) fn new(stream: Box<dyn Duplex>, read: &[u8]) -> Self {
        Self { stream, inbound: Inbound::new(read), queue: Vec::new(), sent: 0, is_flushed: true }
    }

    /// Has a message sent as soon as there is room, before what is passed on.
    pub(super) fn queue_text(&mut self, text: &str) {
        self.queue.extend(frame(OpCode::Data(Data::Text), text.as_bytes()));
    }

    /// [`Self::queue_text`] for bytes.
    pub(super) fn queue_binary(&mut self, bytes: &[u8]) {
        self.queue.extend(frame(OpCode::Data(Data::Binary), bytes));
    }

    pub(super) fn queue_ping(&mut self) {
        self.queue_control(Control::Ping, &[]);
    }

    /// Answers what a ping said, which stands in the buffer.
    pub(super) fn queue_pong(&mut self, at: std::ops::Range<usize>) {
        let said: Vec<u8> = self.inbound.bytes(at).to_vec();
        self.queue_control(Control::Pong, &said);
    }

    fn queue_control(&mut self, kind: Control, content: &[u8]) {
        if self.queue.len() + MAX_CONTROL < MAX_QUEUED {
            self.queue.extend(frame(OpCode::Control(kind), content));
        }
    }

    /// Reads what comes next, without regard to what waits to be sent.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = ReadBuf::new(self.inbound.space());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        let count = space.filled().len();
        self.inbound.filled(count);
        Poll::Ready(Ok(count))
    }

    /// Sends a part of what is to be passed on. Between two of those frames alone the queue may be sent.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.is_flushed = false;
        Poll::Ready(if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) })
    }

    /// Sends the short frames that wait.
    pub(super) fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.queue.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
            self.is_flushed = false;
        }
        self.queue.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Whether a short frame has been sent in part.
    pub(super) fn is_in_queue(&self) -> bool {
        self.sent > 0
    }

    /// Has what was sent leave this process.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// What an end sends that is not joined yet, its pings answered. May be cancelled and called again.
    ///
    /// # Errors
    /// Why the end is to be closed.
    pub(super) async fn next(&mut self) -> Result<Item, Reason> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Item, Reason>> {
        loop {
            match self.inbound.next()? {
                Some(Item::Ping(at)) => {
                    self.queue_pong(at.clone());
                    return Poll::Ready(Ok(Item::Ping(at)));
                }
                Some(Item::Close) => return Poll::Ready(Err(Reason::Gone)),
                Some(item) => return Poll::Ready(Ok(item)),
                None => {}
            }
            if self.poll_sent(cx).is_err() {
                return Poll::Ready(Err(Reason::Gone));
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Reason::Gone)),
                Ok(_) => {}
            }
        }
    }

    /// Sends of the queue what there is room for.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Poll::Ready(done) = self.poll_queue(cx) {
            done?;
            if let Poll::Ready(done) = self.poll_flush(cx) {
                done?;
            }
        }
        Ok(())
    }

    /// Sends the queue.
    pub(super) async fn send_queue(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_queue(cx)).await?;
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Says why it is closed, and waits until the end has read that, but not for long.
    pub(super) async fn close(mut self, reason: Reason) {
        let mut content = reason.code().to_be_bytes().to_vec();
        content.extend(reason.text().bytes().take(MAX_CONTROL - content.len()));
        // What else waits matters no more, but for a frame that has been sent in part.
        if !self.is_in_queue() {
            self.queue.clear();
        }
        self.queue.extend(frame(OpCode::Control(Control::Close), &content));
        let farewell = async {
            self.send_queue().await?;
            poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await?;
            let mut unread = [0; 1024];
            loop {
                let mut space = ReadBuf::new(&mut unread);
                poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut space)).await?;
                if space.filled().is_empty() {
                    return io::Result::Ok(());
                }
            }
        };
        // One that does not listen is cut off.
        let _ = timeout(FAREWELL, farewell).await;
    }
}
