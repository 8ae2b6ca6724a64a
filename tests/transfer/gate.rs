//! Ways to the hub, and what stands in its place, that fail when they are told to.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::lab::PATIENCE;

/// A way to the hub that can be closed.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Open,
    /// Answers are held up.
    Closed,
    /// Closes when a request says this.
    ClosesAfter(&'static str),
    /// All connections break off, and no other comes about.
    Cut,
    /// Cuts when a request says this, which does not pass.
    CutsBefore(&'static str),
    /// A request that says this is answered with this status, and does not pass.
    Answers(&'static str, &'static str),
}

impl Gate {
    pub(crate) async fn start(hub: SocketAddr) -> Self {
        Self::start_as(hub, false).await
    }

    /// One behind which the hub is a task service that does no more than it must.
    pub(crate) async fn start_plain(hub: SocketAddr) -> Self {
        Self::start_as(hub, true).await
    }

    async fn start_as(hub: SocketAddr, is_plain: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State::Open);
        let gate = state.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *gate.borrow() != State::Cut {
                    let far = TcpStream::connect(hub).await.unwrap();
                    tokio::spawn(pass(near, far, gate.clone(), is_plain));
                }
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn open(&self) {
        self.state.send_replace(State::Open);
    }

    pub(crate) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    pub(crate) fn close_after(&self, word: &'static str) {
        self.state.send_replace(State::ClosesAfter(word));
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        let mut state = self.state.subscribe();
        timeout(PATIENCE, state.wait_for(|state| *state == State::Closed)).await.expect("it closes").unwrap();
    }

    pub(crate) fn cut_before(&self, word: &'static str) {
        self.state.send_replace(State::CutsBefore(word));
    }

    /// Has requests that say this refused, until it is opened.
    pub(crate) fn refuse(&self, word: &'static str) {
        self.state.send_replace(State::Answers(word, "403 Forbidden"));
    }

    /// Has what requests that say this ask for be gone, until it is opened.
    pub(crate) fn lose(&self, word: &'static str) {
        self.state.send_replace(State::Answers(word, "404 Not Found"));
    }

    /// Has requests that say this put off, until it is opened.
    pub(crate) fn put_off(&self, word: &'static str) {
        self.state.send_replace(State::Answers(word, "503 Service Unavailable"));
    }
}

async fn pass(near: TcpStream, far: TcpStream, gate: watch::Sender<State>, is_plain: bool) {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let mut state = gate.subscribe();
    let mut cut = gate.subscribe();
    let (refuse, mut refusals) = tokio::sync::mpsc::unbounded_channel();
    let requests = async {
        let mut buffer = vec![0; 65536];
        while let Ok(len @ 1..) = from_near.read(&mut buffer).await {
            let says = |word: &str| buffer[..len].windows(word.len()).any(|window| window == word.as_bytes());
            let is = *gate.borrow();
            match is {
                State::ClosesAfter(word) if says(word) => drop(gate.send_replace(State::Closed)),
                State::CutsBefore(word) if says(word) => {
                    gate.send_replace(State::Cut);
                    break;
                }
                State::Answers(word, status) if says(word) => {
                    let _ = refuse.send(status);
                    continue;
                }
                _ => {}
            }
            if to_far.write_all(&buffer[..len]).await.is_err() {
                break;
            }
        }
    };
    let answers = async {
        let mut buffer = vec![0; 65536];
        loop {
            let read = tokio::select! {
                read = from_far.read(&mut buffer) => read,
                Some(status) = refusals.recv() => {
                    let refusal = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
                    if to_near.write_all(refusal.as_bytes()).await.is_err() {
                        break;
                    }
                    continue;
                }
            };
            let Ok(len @ 1..) = read else { break };
            if is_plain {
                hide_features(&mut buffer[..len]);
            }
            let _ = state.wait_for(|state| *state != State::Closed).await;
            if to_near.write_all(&buffer[..len]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
        _ = cut.wait_for(|state| *state == State::Cut) => {}
    }
}

/// Renames the header of what a hub does beyond the service's own protocol.
fn hide_features(answer: &mut [u8]) {
    let name = protocol::HUB_FEATURES.as_bytes();
    if let Some(at) = answer.windows(name.len()).position(|window| window == name) {
        answer[at..at + name.len()].fill(b'x');
    }
}

/// What stands in the place of a hub that was stopped, and hangs up on everybody.
pub(crate) struct StandIn {
    tried: watch::Receiver<usize>,
    hanging_up: JoinHandle<()>,
}

impl StandIn {
    /// Takes a place that is free, and counts what this actor asks of tasks.
    pub(crate) async fn start(address: SocketAddr, actor_id: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let actor = format!("x-actor-id: {actor_id}\r\n");
        let (count, tried) = watch::channel(0);
        let hanging_up = tokio::spawn(async move {
            // A connection on which nothing is asked yet keeps no other one waiting.
            let mut visits = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (actor, count) = (actor.clone(), count.clone());
                visits.spawn(async move {
                    let mut request = vec![0; 65536];
                    let len = stream.read(&mut request).await.unwrap_or(0);
                    let request = String::from_utf8_lossy(&request[..len]).to_ascii_lowercase();
                    if request.contains(" /tasks") && request.contains(&actor) {
                        count.send_modify(|count| *count += 1);
                    }
                });
            }
        });
        Self { tried, hanging_up }
    }

    /// Waits until it was asked so often.
    pub(crate) async fn tried(&mut self, count: usize) {
        timeout(PATIENCE, self.tried.wait_for(|tried| *tried >= count)).await.expect("more tries").unwrap();
    }

    /// Leaves the place.
    pub(crate) async fn leave(self) {
        self.hanging_up.abort();
        let _ = self.hanging_up.await;
    }
}
