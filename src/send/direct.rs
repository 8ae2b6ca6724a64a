//! Handing a file to a recipient of ours: on the sender's key, which the recipient alone may dial.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::claim::TaskChange;
use super::delivery::Delivery;
use crate::ats::Listener;
use crate::connection::{Admission, PeerConnection, Rendezvous};
use crate::error::{Code, Error, Result, Step as FailedStep};
use crate::event::Phase;
use crate::limits::LAST_WORD;
use crate::offer::P2p;
use crate::pump::PumpError;
use crate::reconnect::{Action, Reconnect};
use crate::wire::Meta;

/// How long the present connection must be silent before another process of the recipient may take over, and
/// how long that one waits for it.
const SILENCE: Duration = Duration::from_secs(12);

/// Bytes that moved so short a time ago move yet.
const LATELY: Duration = Duration::from_secs(3);

/// How long the recipient is not called after a comeback while no node relays to the key yet, and how often
/// that is looked at.
const CALL_LIMIT: Duration = Duration::from_secs(5);
const CALL_POLL: Duration = Duration::from_millis(100);

/// What waiting for the recipient goes by.
struct Awaited<'a> {
    /// What it said of itself last.
    known: &'a mut P2p,
    machine: &'a mut Reconnect,
    /// When this node came back to the network.
    comebacks: &'a mut watch::Receiver<u64>,
}

/// Another process of the recipient, which wants what this side gives to the present one.
struct Successor {
    p2p: P2p,
    /// When it has come too late, if the present one has not fallen silent by then.
    late_at: Instant,
}

/// How one connection ended.
enum ConnectionOutcome {
    /// The transfer is over. The connection may serve the next one.
    Settled(Result<Option<Box<PeerConnection>>>),
    /// It was lost, for this reason.
    Lost(PumpError),
    /// The claimant dials with another key now, and nothing moves on the one before.
    Superseded(P2p),
    /// The recipient has dialled again: it has lost the one before.
    Redialled(Box<PeerConnection>),
}

/// What comes while the recipient is awaited.
enum WaitOutcome {
    Connection(Option<Box<PeerConnection>>),
    Task(TaskChange),
    /// The node was away from the network and is back.
    Comeback,
    /// It is time to ask the machine again.
    Time,
}

impl Delivery<'_> {
    /// Hands the file to the recipient that dials with the key it named, or has dialled: on `pooled`, if it
    /// named the key of that one. Gives the connection back if the recipient may use it again.
    pub(super) async fn direct(
        &self,
        rendezvous: &mut Rendezvous,
        p2p: P2p,
        pooled: Option<PeerConnection>,
        listener: &mut Listener,
        ours: &P2p,
    ) -> Result<Option<PeerConnection>> {
        rendezvous.leave_topic();
        rendezvous.admit(&p2p);
        let mut next = pooled.filter(|pooled| pooled.peer_key == p2p.key).map(Box::new);
        let mut known = p2p;
        let mut machine = Reconnect::accepting(self.limit, Instant::now());
        let mut comebacks = self.context.network.comebacks();
        let mut last = None;
        loop {
            let connection = match next.take() {
                Some(connection) => *connection,
                None => {
                    let awaited =
                        Awaited { known: &mut known, machine: &mut machine, comebacks: &mut comebacks };
                    match self.accepted(rendezvous, awaited, listener, ours).await? {
                        Some(Ok(connection)) => connection,
                        Some(Err(over)) => return over.map(|()| None),
                        None => return Err(self.nobody_came(rendezvous, last)),
                    }
                }
            };
            if connection.peer_key != known.key {
                continue;
            }
            self.events.connected(&connection.link);
            self.control.take_moved();
            machine.connected();
            let said = known.seq;
            let outcome = self.on_connection(connection, rendezvous, &mut known, listener).await;
            // What has arrived is the last that is told of its progress.
            if let ConnectionOutcome::Settled(result) = outcome {
                return result.map(|kept| kept.map(|kept| *kept));
            }
            self.events.enter(Phase::Connecting);
            machine.lost(self.control.take_moved(), rand::random(), Instant::now());
            if known.seq != said {
                machine.begin_anew(Instant::now());
            }
            match outcome {
                ConnectionOutcome::Settled(_) => {}
                ConnectionOutcome::Lost(error) => {
                    tracing::debug!("the recipient is awaited again: {error}");
                    last = Some(error.to_string());
                }
                // It says where it is now; what hung until then is given up.
                ConnectionOutcome::Superseded(p2p) => {
                    rendezvous.admit(&p2p);
                    known = p2p;
                    machine.begin_anew(Instant::now());
                }
                ConnectionOutcome::Redialled(newer) => next = Some(newer),
            }
        }
    }

    /// The next connection to the key, whoever made it; `Err` within if the task is over before, `None` if
    /// nobody comes in time. `known` follows what the claimant says of itself.
    async fn accepted(
        &self,
        rendezvous: &mut Rendezvous,
        Awaited { known, machine, comebacks }: Awaited<'_>,
        listener: &mut Listener,
        ours: &P2p,
    ) -> Result<Option<Result<PeerConnection, Result<()>>>> {
        let mut call_by = None;
        loop {
            let now = Instant::now();
            if call_by.is_some_and(|by| now >= by || !rendezvous.relay_addresses().is_empty()) {
                call_by = None;
                self.call_recipient(rendezvous, ours);
            }
            let until = match machine.poll(now) {
                Action::Wait(until) if call_by.is_some() => until.min(now + CALL_POLL),
                Action::Wait(until) => until,
                _ if self.was_suspended().await? => {
                    machine.begin_anew(Instant::now());
                    continue;
                }
                _ => return Ok(None),
            };
            let arrival = self.or_cancelled(async {
                tokio::select! {
                    connection = rendezvous.accept() => {
                        WaitOutcome::Connection(connection.map(Box::new))
                    }
                    change = self.task.change(listener, Some(known)) => WaitOutcome::Task(change),
                    Ok(()) = comebacks.changed() => WaitOutcome::Comeback,
                    () = sleep_until(until) => WaitOutcome::Time,
                }
            });
            match arrival.await? {
                WaitOutcome::Connection(Some(connection)) => return Ok(Some(Ok(*connection))),
                WaitOutcome::Connection(None) => {
                    return Err(Error::new(Code::Network, "the peer network was left"));
                }
                WaitOutcome::Task(TaskChange::Key(p2p)) => {
                    rendezvous.admit(&p2p);
                    *known = p2p;
                    // It may have much to read before it dials.
                    machine.begin_anew(Instant::now());
                }
                WaitOutcome::Task(TaskChange::Completed(outputs)) => {
                    return Ok(Some(Err(self.task.check_completion(&outputs, known))));
                }
                WaitOutcome::Task(TaskChange::Ended(error)) => return Ok(Some(Err(Err(error)))),
                WaitOutcome::Comeback => {
                    machine.begin_anew(Instant::now());
                    call_by = Some(Instant::now() + CALL_LIMIT);
                }
                WaitOutcome::Time => {}
            }
        }
    }

    /// Sends the file over one connection, while the task and the network are listened to.
    async fn on_connection(
        &self,
        connection: PeerConnection,
        rendezvous: &mut Rendezvous,
        known: &mut P2p,
        listener: &mut Listener,
    ) -> ConnectionOutcome {
        let may_reuse = known.features.reuse;
        let admission = rendezvous.admission();
        let PeerConnection { stream, link, peer_key } = connection;
        let meta = Meta { resume: known.features.resume, ..self.meta.clone() };
        let sent = stream.send(self.source, &meta, self.control);
        let sent = async {
            let mut stream = sent.await?;
            self.task.keep_acknowledged(&stream.take_acknowledgement());
            Ok::<_, PumpError>(stream)
        };
        tokio::select! {
            sent = sent => match sent {
                Ok(stream) if may_reuse => {
                    ConnectionOutcome::Settled(Ok(Some(Box::new(PeerConnection { stream, link, peer_key }))))
                }
                Ok(stream) => {
                    stream.end().await;
                    ConnectionOutcome::Settled(Ok(None))
                }
                Err(error) if error.is_lost_connection() => ConnectionOutcome::Lost(error),
                Err(error) => ConnectionOutcome::Settled(Err(self.task.cause(self.error(&error)).await)),
            },
            over = self.over_while_sending(&admission, listener, known) => over,
            // The recipient alone dials, and dials again only when it has lost what it had.
            newer = rendezvous.accept_from(peer_key, self.control.progress.subscribe()) => {
                ConnectionOutcome::Redialled(Box::new(newer))
            }
        }
    }

    /// Waits, while bytes flow, until the task is over, and a little longer for the peer's own last word; or
    /// until another process of the recipient takes over: at once if it is the same one, started again, else
    /// if bytes flow no more. Where they flow on, the other one is turned away.
    async fn over_while_sending(
        &self,
        admission: &Admission,
        listener: &mut Listener,
        known: &mut P2p,
    ) -> ConnectionOutcome {
        let mut progress = self.control.progress.subscribe();
        let mut successor: Option<Successor> = None;
        let mut silent_at = Instant::now() + SILENCE;
        loop {
            let latest = successor.as_ref().map_or_else(|| known.clone(), |successor| successor.p2p.clone());
            let change = {
                // One reading of the task, however often bytes move meanwhile.
                let mut change = pin!(self.task.change(listener, Some(&latest)));
                loop {
                    let late_at = successor.as_ref().map_or(silent_at, |successor| successor.late_at);
                    tokio::select! {
                        change = &mut change => break Some(change),
                        Ok(()) = progress.changed() => silent_at = Instant::now() + SILENCE,
                        () = sleep_until(silent_at), if successor.is_some() => {
                            return ConnectionOutcome::Superseded(latest.clone());
                        }
                        () = sleep_until(late_at), if successor.is_some() => {
                            let has_moved_lately = silent_at > Instant::now() + SILENCE - LATELY;
                            match &mut successor {
                                // It seems to have fallen silent: that shows soon.
                                Some(successor) if !has_moved_lately => {
                                    successor.late_at = silent_at + LATELY;
                                }
                                _ => break None,
                            }
                        }
                    }
                }
            };
            match change {
                Some(TaskChange::Ended(error)) => {
                    if error.code != Code::Cancelled {
                        sleep(LAST_WORD).await;
                    }
                    return ConnectionOutcome::Settled(Err(error));
                }
                Some(TaskChange::Completed(outputs)) => {
                    sleep(LAST_WORD).await;
                    let by_latest = self.task.check_completion(&outputs, &latest);
                    // Whoever came later may have been passed over.
                    let checked = by_latest
                        .or_else(|error| self.task.check_completion(&outputs, known).map_err(|_| error));
                    return ConnectionOutcome::Settled(checked.map(|()| None));
                }
                // The process that held the connection is gone: another one goes on in its place.
                Some(TaskChange::Key(p2p)) if p2p.instance == known.instance && p2p.key != known.key => {
                    return ConnectionOutcome::Superseded(p2p);
                }
                // It says the same anew.
                Some(TaskChange::Key(p2p)) if p2p.key == known.key => known.seq = p2p.seq,
                Some(TaskChange::Key(p2p)) => {
                    successor = Some(Successor { p2p, late_at: Instant::now() + SILENCE });
                }
                None => {
                    admission.turn_away(latest.key);
                    // Its word has been heard, and counts no more.
                    known.seq = latest.seq;
                    successor = None;
                }
            }
        }
    }

    /// Tells the recipient on the task that it may dial now, and through which nodes: it would learn it by
    /// its next dial only, which may come too late.
    fn call_recipient(&self, rendezvous: &Rendezvous, ours: &P2p) {
        let nodes = rendezvous.relay_addresses().into_iter().collect();
        let seq = self.context.next_seq();
        let word = self.task.word(P2p { nodes, seq, ..ours.clone() });
        let (task, cancel) = (self.task.id.clone(), self.control.cancel.clone());
        let client = self.context.client.patient(self.limit, cancel.clone());
        self.context.spawn(cancel.run_until_cancelled_owned(async move {
            if let Err(error) = client.add_message(&task, vec![word]).await {
                tracing::debug!("the recipient of task {task} could not be called: {error}");
            }
        }));
    }

    fn nobody_came(&self, rendezvous: &Rendezvous, last: Option<String>) -> Error {
        let step = match last {
            Some(_) => FailedStep::Transfer,
            None if rendezvous.relay_addresses().is_empty() => FailedStep::Network,
            None => FailedStep::Handshake,
        };
        self.unreachable(last, step)
    }
}
