//! Two ends that were joined. What one sends is passed to the other, and no more is read of it before the
//! other has taken that: so an end that does not read slows the other down, and nothing piles up here.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep_until, timeout};

use super::frames::Item;
use super::socket::{Reason, Socket};

/// How often both ends are pinged, so that no proxy between takes the connection for dead.
pub(super) const PING_EVERY: Duration = Duration::from_secs(20);
/// How long an end that has nothing to take may send nothing, pongs included.
const LIFELESS_AFTER: Duration = Duration::from_secs(65);
/// How long nothing may pass either way.
const SILENCE_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How much is read from an end before other pairs have their turn.
const TURN: usize = 1024 * 1024;
/// What a pair that has sent less than its rate may catch up with at once.
const SAVINGS: Duration = Duration::from_millis(100);
/// How long an end that is closed may take to take the rest of a frame that was begun.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the two ends of a pair are closed, the one that waited first.
pub(super) type Ended = (Reason, Reason);

/// One of the two ends.
struct Side {
    socket: Socket,
    /// What was read from it and is to be passed on: a frame.
    piece: Range<usize>,
    /// Whether the frame that is passed to it has been sent in part.
    is_in_frame: bool,
    /// When it last sent something, or took something.
    heard: Instant,
}

/// How much a pair may send.
pub(super) struct Meter {
    /// Bytes a second, if that is bounded.
    rate: Option<u64>,
    /// Bytes that it may still send.
    left: u64,
    /// When all that was sent would have been, at the rate.
    paid: Instant,
    pause: Pin<Box<Sleep>>,
    /// When something was passed on last.
    moved: Instant,
    /// All that any pair has sent.
    counted: Counter,
}

impl Meter {
    pub(super) fn new(rate: Option<u64>, most: u64, counted: Counter) -> Self {
        let now = Instant::now();
        Self { rate, left: most, paid: now, pause: Box::pin(sleep_until(now)), moved: now, counted }
    }

    /// Counts what was read from one of them.
    fn count(&mut self, bytes: usize) -> Result<(), Reason> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.counted.inc_by(bytes);
        self.left = self.left.checked_sub(bytes).ok_or(Reason::TooManyBytes)?;
        if let Some(rate) = self.rate {
            let now = Instant::now();
            let saved = now.checked_sub(SAVINGS).unwrap_or(now);
            self.paid = self.paid.max(saved) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        }
        Ok(())
    }

    /// Waits until more may be read.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rate.is_none() || self.paid <= Instant::now() {
            return Poll::Ready(());
        }
        if self.pause.deadline() != self.paid {
            self.pause.as_mut().reset(self.paid);
        }
        self.pause.as_mut().poll(cx)
    }
}

/// Two ends and what is between them.
pub(super) struct Pair {
    one: Side,
    other: Side,
    meter: Meter,
    ping: Interval,
}

impl Pair {
    /// Joins two ends; a piece of each may have been read already.
    pub(super) fn new(one: (Socket, Range<usize>), other: (Socket, Range<usize>), meter: Meter) -> Self {
        let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { one: Side::new(one), other: Side::new(other), meter, ping }
    }

    /// Passes on what they send until one of them ends it.
    pub(super) async fn run(&mut self) -> Ended {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        while self.ping.poll_tick(cx).is_ready() {
            if let Some(ended) = self.look_after() {
                return Poll::Ready(ended);
            }
        }
        if let Poll::Ready((of_one, of_other)) = poll_way(cx, &mut self.one, &mut self.other, &mut self.meter)
        {
            return Poll::Ready((of_one, of_other));
        }
        if let Poll::Ready((of_other, of_one)) = poll_way(cx, &mut self.other, &mut self.one, &mut self.meter)
        {
            return Poll::Ready((of_one, of_other));
        }
        // A pong, perhaps, of what was read just now.
        if self.one.poll_queue(cx).is_err() {
            return Poll::Ready((Reason::Gone, Reason::PeerGone));
        }
        if self.other.poll_queue(cx).is_err() {
            return Poll::Ready((Reason::PeerGone, Reason::Gone));
        }
        Poll::Pending
    }

    /// Pings both, unless one of them is gone or nothing has passed for long.
    fn look_after(&mut self) -> Option<Ended> {
        if self.meter.moved.elapsed() >= SILENCE_LIMIT {
            return Some((Reason::Silent, Reason::Silent));
        }
        // Who has something to take, or is not listened to for now, need not say anything.
        let are_heard =
            self.one.piece.is_empty() && self.other.piece.is_empty() && self.meter.paid <= Instant::now();
        for (side, ended) in [
            (&mut self.one, (Reason::Gone, Reason::PeerGone)),
            (&mut self.other, (Reason::PeerGone, Reason::Gone)),
        ] {
            if !are_heard {
                side.heard = Instant::now();
            }
            if side.heard.elapsed() >= LIFELESS_AFTER {
                return Some(ended);
            }
            side.socket.queue_ping();
        }
        None
    }

    /// Closes both. A frame that was begun is ended, so that what comes after it can be read.
    pub(super) async fn close(mut self, (of_one, of_other): Ended) {
        let rest = async {
            let (one, other) = (&mut self.one, &mut self.other);
            poll_fn(|cx| {
                let (to_other, to_one) = (finish(cx, one, other), finish(cx, other, one));
                if to_other.is_pending() || to_one.is_pending() { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        };
        let _ = timeout(REST_TIMEOUT, rest).await;
        let Self { one, other, .. } = self;
        tokio::join!(one.close(of_one), other.close(of_other));
    }
}

impl Side {
    fn new((socket, piece): (Socket, Range<usize>)) -> Self {
        let mut side = Self { socket, piece: 0..0, is_in_frame: false, heard: Instant::now() };
        if !piece.is_empty() {
            side.piece = side.socket.inbound.framed(piece);
        }
        side.socket.inbound.widen();
        side
    }

    fn poll_queue(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.is_in_frame { Ok(()) } else { self.socket.poll_sent(cx) }
    }

    async fn close(self, reason: Reason) {
        // In the middle of a frame nothing can be said.
        if !self.is_in_frame {
            self.socket.close(reason).await;
        }
    }
}

/// Sends the rest of what was read from one end to the other.
fn poll_piece(cx: &mut Context<'_>, from: &mut Side, to: &mut Side) -> Poll<io::Result<()>> {
    while !from.piece.is_empty() {
        if !to.is_in_frame {
            ready!(to.socket.poll_queue(cx))?;
        }
        let count = ready!(to.socket.poll_write(cx, from.socket.inbound.bytes(from.piece.clone())))?;
        from.piece.start += count;
        to.is_in_frame = !from.piece.is_empty();
        to.heard = Instant::now();
    }
    Poll::Ready(Ok(()))
}

/// Ends a frame that was begun; what was not begun is given up.
fn finish(cx: &mut Context<'_>, from: &mut Side, to: &mut Side) -> Poll<()> {
    if to.is_in_frame {
        // One that is gone takes nothing more.
        let _ = ready!(poll_piece(cx, from, to));
    }
    Poll::Ready(())
}

/// Passes on what one end sends, as far as that goes without waiting; says why it ended, of the sending end
/// first.
fn poll_way(cx: &mut Context<'_>, from: &mut Side, to: &mut Side, meter: &mut Meter) -> Poll<Ended> {
    let mut turn = TURN;
    loop {
        if !from.piece.is_empty() {
            if ready!(poll_piece(cx, from, to)).is_err() {
                return Poll::Ready((Reason::PeerGone, Reason::Gone));
            }
            meter.moved = Instant::now();
        }
        match from.socket.inbound.next_gathered() {
            Err(malformed) => return Poll::Ready((malformed.into(), Reason::PeerGone)),
            Ok(Some(Item::Data { at, .. })) => {
                if !at.is_empty() {
                    from.piece = from.socket.inbound.framed(at);
                }
            }
            Ok(Some(Item::Ping(at))) => from.socket.queue_pong(at),
            Ok(Some(Item::Pong)) => {}
            Ok(Some(Item::Close)) => return Poll::Ready((Reason::Done, Reason::Done)),
            Ok(None) => {
                if turn == 0 {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if to.poll_queue(cx).is_err() {
                    return Poll::Ready((Reason::PeerGone, Reason::Gone));
                }
                ready!(meter.poll_ready(cx));
                let count = match ready!(from.socket.poll_read(cx)) {
                    Ok(count) if count > 0 => count,
                    _ => return Poll::Ready((Reason::Gone, Reason::PeerGone)),
                };
                from.heard = Instant::now();
                turn = turn.saturating_sub(count);
                if let Err(reason) = meter.count(count) {
                    return Poll::Ready((reason, reason));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::LARGE;
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    /// What the connections themselves hold.
    const PIPE: usize = 4096;

    /// Two clients that are joined; how that ended is told by the task.
    fn joined(rate: Option<u64>, most: u64) -> (DuplexStream, DuplexStream, JoinHandle<Ended>) {
        let ((one, of_one), (other, of_other)) = (duplex(PIPE), duplex(PIPE));
        let socket = |stream: DuplexStream| (Socket::new(Box::new(stream), &[]), 0..0);
        let mut pair =
            Pair::new(socket(of_one), socket(of_other), Meter::new(rate, most, Counter::default()));
        let passing = tokio::spawn(async move {
            let ended = pair.run().await;
            pair.close(ended).await;
            ended
        });
        (one, other, passing)
    }

    /// A message as a client sends it, of so many bytes up to 65,535.
    fn message(length: u16) -> Vec<u8> {
        let mut bytes = vec![0x82, 0xfe];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.resize(bytes.len() + usize::from(length), 7);
        bytes
    }

    /// Answers pings until the end; gives how many there were.
    async fn answer(mut stream: DuplexStream) -> usize {
        let (mut count, mut head) = (0, [0; 2]);
        while stream.read_exact(&mut head).await.is_ok() && head == [0x89, 0] {
            count += 1;
            stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.expect("sent");
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_an_end_does_not_read_one_buffer_is_held() {
        let (mut one, mut other, _passing) = joined(None, u64::MAX);
        let (bytes, mut taken) = (message(60_000), 0);
        // The time goes on once nothing else can.
        while let Ok(Ok(count)) =
            timeout(Duration::from_secs(1), one.write(&bytes[taken % bytes.len()..])).await
        {
            taken += count;
        }
        assert!(taken <= LARGE + 2 * PIPE, "{taken} bytes");
        let mut first = [0; 4];
        other.read_exact(&mut first).await.expect("read");
        assert_eq!(first[0], 0x82);
        one.write_all(&[7]).await.expect("there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_gives_no_sign_of_life_is_gone() {
        let (one, mut other, passing) = joined(None, u64::MAX);
        let began = Instant::now();
        let answering = tokio::spawn(answer(one));
        assert_eq!(passing.await.expect("run"), (Reason::PeerGone, Reason::Gone));
        assert!(began.elapsed() <= LIFELESS_AFTER + PING_EVERY + REST_TIMEOUT, "{:?}", began.elapsed());
        assert_eq!(answering.await.expect("run"), 3);
        let mut pinged = [0; 2];
        other.read_exact(&mut pinged).await.expect("read");
        assert_eq!(pinged, [0x89, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn two_that_live_and_say_nothing_are_closed_in_time() {
        let (one, other, passing) = joined(None, u64::MAX);
        let (one, other) = (tokio::spawn(answer(one)), tokio::spawn(answer(other)));
        let began = Instant::now();
        assert_eq!(passing.await.expect("run"), (Reason::Silent, Reason::Silent));
        assert!(began.elapsed() >= SILENCE_LIMIT && began.elapsed() <= SILENCE_LIMIT + PING_EVERY);
        assert!(one.await.expect("run") >= 14 && other.await.expect("run") >= 14);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_keeps_its_rate() {
        let (mut one, mut other, _passing) = joined(Some(10_000), u64::MAX);
        let began = Instant::now();
        let sending = async {
            for _ in 0..10 {
                one.write_all(&message(10_000)).await.expect("sent");
            }
        };
        let receiving = async {
            let mut bytes = vec![0; 100_000];
            other.read_exact(&mut bytes).await.expect("read");
        };
        tokio::join!(sending, receiving);
        // What it is behind with is one read, which is what the connection holds.
        let took = began.elapsed().as_secs_f64();
        assert!((9.0..11.0).contains(&took), "{took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_closed_in_the_middle_of_a_frame_is_not_told_nonsense() {
        let (mut one, mut other, passing) = joined(None, u64::MAX);
        let sending = tokio::spawn(async move { one.write_all(&message(60_000)).await });
        // The time goes on once nothing else can: what is sent fills the way to the other end.
        tokio::time::sleep(REST_TIMEOUT).await;
        other.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).await.expect("sent");
        tokio::time::sleep(REST_TIMEOUT / 2).await;
        let mut received = Vec::new();
        other.read_to_end(&mut received).await.expect("read");
        assert_eq!(passing.await.expect("run"), (Reason::PeerGone, Reason::Malformed));
        // Of what comes after that, nothing is passed on.
        let _ = sending.await.expect("run");
        let mut rest = received.as_slice();
        while let [0x82, 126, high, low, after @ ..] = rest {
            rest = &after[usize::from(u16::from_be_bytes([*high, *low]))..];
        }
        assert!(matches!(rest, [0x88, _, 0x11, 0x30, ..]), "closed by 4400: {rest:?}");
    }
}
