//! Whether UDP leads anywhere from here. A network may let nothing out but HTTPS; then no DHT node answers,
//! and nobody need wait for one.

use std::time::Duration;

use hyperdht::Network;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long DHT nodes have to answer before UDP counts as blocked: several are asked at once, and again
/// within that time.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What is known of it on the network that this machine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Udp {
    /// Nothing yet.
    Unknown,
    /// DHT nodes answer.
    Works,
    /// None did.
    Blocked,
}

/// Keeps `udp` up to date until the DHT node ends; nodes have `patience` to answer.
pub(super) async fn watch_udp(
    mut network: watch::Receiver<Network>,
    udp: watch::Sender<Udp>,
    patience: Duration,
) {
    let set = |now: Udp| udp.send_if_modified(|before| std::mem::replace(before, now) != now);
    loop {
        let changes = network.borrow_and_update().changes;
        set(Udp::Unknown);
        let found =
            match timeout(patience, network.wait_for(|network| is_over(network) || works(network))).await {
                Ok(Ok(network)) if is_over(&network) => return,
                Ok(Ok(_)) => Udp::Works,
                Ok(Err(_)) => return,
                Err(_) => Udp::Blocked,
            };
        set(found);
        // Until the machine is elsewhere, or it turns out otherwise.
        let is_other = |network: &Network| {
            is_over(network) || network.changes != changes || works(network) != (found == Udp::Works)
        };
        match network.wait_for(is_other).await {
            Ok(network) if !is_over(&network) => {}
            _ => return,
        }
    }
}

fn works(network: &Network) -> bool {
    network.nodes > 0 && network.online
}

fn is_over(network: &Network) -> bool {
    network.destroyed
}
