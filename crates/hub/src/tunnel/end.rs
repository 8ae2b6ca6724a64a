//! One end, from its proof until it is joined with the one that it waits for.

use std::future::{pending, poll_fn};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use protocol::tunnel::{CHALLENGE_LEN, JOINED, statement};
use secret_stream::SIGNATURE_LEN;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::frames::Item;
use super::pass::{Ended, Meter, PING_EVERY, Pair};
use super::rendezvous::{Seat, meet};
use super::socket::{Duplex, Reason, Socket};
use super::{Tunnel, Visitor};
use crate::access::guard::HeldKey;
use crate::http::connections::InUse;

/// How long an end may take to prove its key.
const PROOF_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an end may wait for the other one: both try for two minutes.
const WAIT_LIMIT: Duration = Duration::from_secs(150);
/// How many pings and pongs an end may send while it waits.
const MAX_CONTROLS: u32 = 256;

/// An end that has proven its key.
#[derive(Debug)]
pub(super) struct TunnelEnd {
    socket: Socket,
    seat: Seat<Self>,
    /// What it has sent already for the other end, in the buffer of the socket. More is not read until then.
    piece: Option<Range<usize>>,
    client: IpAddr,
    is_local: bool,
    key: Option<HeldKey>,
    /// That of its pair, once it is handed to the other end.
    permit: Option<OwnedSemaphorePermit>,
    /// Its places among ends, connections and WebSockets.
    _places: [InUse; 3],
}

impl TunnelEnd {
    /// Waits until its key no longer holds; for ever where none was needed.
    async fn key_is_over(key: Option<&HeldKey>) {
        match key {
            Some(key) => key.over().cancelled().await,
            None => pending().await,
        }
    }
}

/// Serves an end until it is closed, or handed to the other one.
pub(super) async fn attend(tunnel: Arc<Tunnel>, visitor: Visitor, stream: Box<dyn Duplex>, read: &[u8]) {
    let mut socket = Socket::new(stream, read);
    let (client, name) = (visitor.client, visitor.name);
    let proven = tokio::select! {
        proven = timeout(PROOF_TIMEOUT, prove(&mut socket, &visitor)) => {
            proven.unwrap_or(Err(Reason::NotProven))
        }
        () = tunnel.shutdown.cancelled() => Err(Reason::HubEnds),
    };
    let place = proven.and_then(|()| {
        let place = tunnel.proven.take(visitor.payer, false).map_err(|_| Reason::TooManyEnds)?;
        Ok(place.in_use())
    });
    let place = match place {
        Ok(place) => place,
        Err(reason) => return tunnel.close(socket, client, reason).await,
    };
    let Visitor { is_local, key, unproven, places: [one, two], .. } = visitor;
    drop(unproven);
    tracing::debug!(%client, key = short(&name.key), peer = short(&name.peer), "an end of the tunnel");
    let (seat, meets) = tunnel.rendezvous.enter(name);
    let end = TunnelEnd {
        socket,
        seat,
        piece: None,
        client,
        is_local,
        key,
        permit: None,
        _places: [place, one, two],
    };
    match wait(&tunnel, end, meets).await {
        Outcome::Joined(ends) => join(&tunnel, *ends).await,
        Outcome::Handed => {}
        Outcome::Closed(end, reason) => {
            let TunnelEnd { socket, client, seat, .. } = *end;
            drop(seat);
            tunnel.close(socket, client, reason).await;
        }
    }
}

/// The first digits of a key, for the log.
fn short(key: &[u8; 32]) -> String {
    let mut text = hex::encode(key);
    text.truncate(8);
    text
}

impl Tunnel {
    async fn close(&self, socket: Socket, client: IpAddr, reason: Reason) {
        tracing::debug!(%client, reason = reason.name(), "an end of the tunnel is closed");
        self.counters.closed(reason.name());
        socket.close(reason).await;
    }
}

/// Has an end prove its key.
async fn prove(socket: &mut Socket, visitor: &Visitor) -> Result<(), Reason> {
    let mut challenge = [0; CHALLENGE_LEN];
    if let Err(error) = getrandom::fill(&mut challenge) {
        tracing::error!("no challenge can be made: {error}");
        return Err(Reason::HubEnds);
    }
    socket.queue_binary(&challenge);
    let signature = answer(socket).await?;
    let name = &visitor.name;
    let is_proven = visitor.hosts.iter().any(|host| {
        let statement = statement(&challenge, &name.key, &name.peer, host);
        secret_stream::verify(&name.key, &statement, &signature)
    });
    is_proven.then_some(()).ok_or(Reason::NotProven)
}

/// The one message that answers the challenge.
async fn answer(socket: &mut Socket) -> Result<[u8; SIGNATURE_LEN], Reason> {
    let mut answer = Vec::with_capacity(SIGNATURE_LEN);
    for _ in 0..MAX_CONTROLS {
        let Item::Data { at, ends } = socket.next().await? else { continue };
        answer.extend_from_slice(socket.inbound.bytes(at));
        if answer.len() > SIGNATURE_LEN {
            return Err(Reason::Malformed);
        }
        if ends {
            return answer.try_into().map_err(|_| Reason::Malformed);
        }
    }
    Err(Reason::Malformed)
}

/// What became of an end that waited.
enum Outcome {
    /// The other end was handed to it.
    Joined(Box<(TunnelEnd, TunnelEnd)>),
    /// It was handed to the other end.
    Handed,
    Closed(Box<TunnelEnd>, Reason),
}

/// Waits with an end for the other one, which is handed to it if it comes later, and else is handed this one.
async fn wait(tunnel: &Tunnel, mut end: TunnelEnd, mut meets: oneshot::Receiver<TunnelEnd>) -> Outcome {
    let until = Instant::now() + WAIT_LIMIT;
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut controls, mut is_permitted) = (0, false);
    let other = end.seat.other();
    let permitted = tunnel.admission.clone().permitted(end.seat.name(), other.is_some());
    tokio::pin!(permitted);
    let reason = loop {
        tokio::select! {
            biased;
            // Whoever is replaced is handed nobody any more, so that is looked at first.
            () = end.seat.replaced().cancelled() => break Reason::Replaced,
            Ok(other) = &mut meets => return Outcome::Joined(Box::new((end, other))),
            () = tunnel.shutdown.cancelled() => break Reason::HubEnds,
            () = TunnelEnd::key_is_over(end.key.as_ref()) => break Reason::NotAllowed,
            permitted = &mut permitted, if !is_permitted => {
                is_permitted = true;
                let other = match permitted {
                    Ok(()) => other,
                    Err(reason) => break reason,
                };
                let Some(other) = other else { continue };
                end = match hand_over(tunnel, end, other) {
                    HandOver::Done => return Outcome::Handed,
                    HandOver::Full(end) => return Outcome::Closed(Box::new(end), Reason::TooManyPairs),
                    // The other end has gone meanwhile. The next one will be handed to this one.
                    HandOver::NobodyThere(end) => end,
                };
            }
            item = end.socket.next(), if end.piece.is_none() => match item {
                Ok(Item::Data { at, .. }) => end.piece = Some(at).filter(|at| !at.is_empty()),
                Ok(_) if controls < MAX_CONTROLS => controls += 1,
                Ok(_) => break Reason::Malformed,
                Err(reason) => break reason,
            },
            _ = ping.tick() => {
                end.socket.queue_ping();
                if poll_fn(|cx| Poll::Ready(end.socket.poll_sent(cx))).await.is_err() {
                    break Reason::Gone;
                }
            }
            () = sleep_until(until) => break Reason::NobodyCame,
        }
    };
    // One that is handed over in this moment would be cut off without a word.
    meets.close();
    if let Ok(other) = meets.try_recv() {
        let TunnelEnd { socket, client, .. } = other;
        tunnel.close(socket, client, Reason::PeerGone).await;
    }
    Outcome::Closed(Box::new(end), reason)
}

enum HandOver {
    Done,
    /// There are as many pairs as there may be.
    Full(TunnelEnd),
    NobodyThere(TunnelEnd),
}

/// Hands an end to the one that waits for it.
fn hand_over(tunnel: &Tunnel, mut end: TunnelEnd, other: u64) -> HandOver {
    let Ok(permit) = tunnel.pairs.clone().try_acquire_owned() else { return HandOver::Full(end) };
    end.permit = Some(permit);
    match meet(end, |end| &end.seat, other) {
        Ok(()) => HandOver::Done,
        Err(mut end) => {
            end.permit = None;
            HandOver::NobodyThere(end)
        }
    }
}

/// Passes on what two ends send each other until one of them ends it.
async fn join(tunnel: &Tunnel, (mut one, mut other): (TunnelEnd, TunnelEnd)) {
    tracing::debug!(one = %one.client, other = %other.client, "two ends of the tunnel are joined");
    one.socket.queue_text(JOINED);
    other.socket.queue_text(JOINED);
    // Between two processes of one machine there is no network to spare.
    let is_local = one.is_local && other.is_local;
    let rate = (!is_local).then_some(tunnel.limits.bytes_per_second);
    let meter = Meter::new(rate, tunnel.limits.bytes_per_pair, tunnel.counters.bytes());
    let sides = [&mut one, &mut other].map(|end| end.piece.take().unwrap_or(0..0));
    let [one_piece, other_piece] = sides;
    let mut pair = Pair::new((one.socket, one_piece), (other.socket, other_piece), meter);
    let ended: Ended = tokio::select! {
        ended = pair.run() => ended,
        () = one.seat.replaced().cancelled() => (Reason::Replaced, Reason::PeerGone),
        () = other.seat.replaced().cancelled() => (Reason::PeerGone, Reason::Replaced),
        () = TunnelEnd::key_is_over(one.key.as_ref()) => (Reason::NotAllowed, Reason::PeerGone),
        () = TunnelEnd::key_is_over(other.key.as_ref()) => (Reason::PeerGone, Reason::NotAllowed),
        () = tunnel.shutdown.cancelled() => (Reason::HubEnds, Reason::HubEnds),
    };
    let (of_one, of_other) = (ended.0.name(), ended.1.name());
    tracing::debug!(one = %one.client, other = %other.client, of_one, of_other, "a pair is closed");
    tunnel.counters.closed(of_one);
    tunnel.counters.closed(of_other);
    // Others may have their places while these two hear why.
    drop((one.seat, other.seat, other.permit));
    pair.close(ended).await;
}
