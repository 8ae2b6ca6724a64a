//! The relay: what carries files where no direct way opens.

use hyperdht::Dht;
use hyperdht::connect::ConnectOptions;
use secret_stream::{KeyPair, PublicKey};
use tokio::time::timeout;

use super::Finding;
use super::peer::{DIAL_LIMIT, part};
use crate::ats::Client;

const CHECK: &str = "relay";

/// Connects to the relay as a transfer would. `of_hub`: whose relay it is, if it is one of the task service.
pub(super) async fn check(dht: Option<&Dht>, relay: Option<PublicKey>, of_hub: Option<&Client>) -> Finding {
    let Some(relay) = relay else {
        return Finding::skipped(CHECK, "none is named");
    };
    let Some(dht) = dht.filter(|dht| dht.network().borrow().nodes > 0) else {
        return Finding::skipped(CHECK, "not looked for, since no node answers");
    };
    let key_pair = KeyPair::generate();
    if let Some(client) = of_hub {
        // It serves those whom the hub knows.
        let _ = client.visit_relay(&key_pair.public_key()).await;
    }
    let options = ConnectOptions { key_pair: Some(key_pair), ..ConnectOptions::default() };
    let finding = match timeout(DIAL_LIMIT, dht.connect(relay, options)).await {
        Ok(Ok(connection)) => {
            let at = connection.link().remote_addr();
            part(connection).await;
            Finding::ok(CHECK, format!("{at} is reached: it carries where no direct way opens"))
        }
        Ok(Err(error)) => unreached(&error.to_string()),
        Err(_) => unreached(&format!("no answer within {} s", DIAL_LIMIT.as_secs())),
    };
    finding.fact("key", hex::encode(relay))
}

fn unreached(why: &str) -> Finding {
    Finding::warning(CHECK, format!("the relay is not reached: {why}")).advise(
        "files still go directly, or by the tunnel; else see whether the hub runs, and lets its UDP ports be \
         reached",
    )
}
