//! The tunnel: whether files get through where UDP does not.

use crate::ats::{Client, Health};
use crate::options::TunnelChoice;
use crate::tunnel::{Tunnels, probe};

use super::Finding;

const CHECK: &str = "tunnel";

/// Looks whether the tunnel that this node would use opens.
pub(super) async fn check(
    choice: &TunnelChoice,
    client: Option<&Client>,
    health: Option<&Health>,
) -> Finding {
    let (Some(client), Some(health)) = (client, health) else {
        let found = "not looked at: the task service was to say where it is, and was not reached";
        return Finding::skipped(CHECK, found);
    };
    if *choice == TunnelChoice::Nowhere {
        return Finding::skipped(CHECK, "switched off");
    }
    let tunnels = Tunnels::new(choice, client.settings(), client.web(), health.p2p.as_ref());
    let Some(tunnel) = tunnels.own() else {
        return Finding::skipped(CHECK, "the task service has none: files need UDP at both ends")
            .advise("where UDP is blocked, run a hub that both ends reach, and name its tunnel (--tunnel)");
    };
    match probe(tunnel).await {
        Ok(()) => {
            Finding::ok(CHECK, format!("{} opens: files get through where UDP does not", tunnel.shown()))
        }
        Err(error) => Finding::warning(CHECK, format!("{error}"))
            .advise("where UDP is blocked at one end, no file gets through until this is mended"),
    }
    .fact("at", tunnel.shown())
}
