//! Writing to the nodes that a query found.

use tokio::task::JoinSet;

use crate::command;
use crate::error::Error;
use crate::handle::Handle;
use crate::rpc::{Reply, Request};

/// Sends each of the closest nodes its request, with the token it gave. Fails if none took it.
pub(crate) async fn write(
    handle: &Handle,
    closest: Vec<Reply>,
    request: impl Fn(&Reply, [u8; 32]) -> Option<Request>,
) -> Result<(), Error> {
    let first = closest.iter().filter_map(|reply| Some((reply, reply.token?)));
    let mut round: Vec<_> = first.collect();
    let mut taken = false;
    // A token may have expired during a long query; the refusal brings a new one.
    for _ in 0..2 {
        let mut writes = JoinSet::new();
        for (i, (reply, token)) in round.iter().enumerate() {
            let Some(request) = request(reply, *token) else { continue };
            let handle = handle.clone();
            writes.spawn(async move { (i, handle.request(request).await) });
        }
        let mut again = Vec::new();
        for (i, answer) in writes.join_all().await {
            match answer {
                Ok(Reply { error: 0, .. }) => taken = true,
                Ok(Reply { error: command::INVALID_TOKEN, token: Some(token), .. }) => {
                    again.extend(round.get(i).map(|(reply, _)| (*reply, token)));
                }
                _ => {}
            }
        }
        round = again;
    }
    if taken { Ok(()) } else { Err(Error::TooFewNodes) }
}
