//! The way to another machine: dialled by the key that it shows while it waits for that.

use std::time::Duration;

use hyperdht::Dht;
use hyperdht::connect::{ConnectError, ConnectOptions, Server, ServerOptions};
use secret_stream::{KeyPair, PublicKey};
use tokio::time::timeout;

use super::{Finding, network};
use crate::ats::{Client, Environment, Settings};
use crate::connection::Connection;
use crate::error::{Code, Error, Result, Step};
use crate::network::dht_config;
use crate::node::Options;

const CHECK: &str = "peer";

/// How long the dial may take: as long as one of a transfer's.
const DIAL_LIMIT: Duration = Duration::from_secs(20);

/// How long the other machine may take to notice that the dial came through, before it is left.
const PARTING_LIMIT: Duration = Duration::from_secs(2);

/// Finds the peer on the network and connects to it.
pub(super) async fn reach(dht: Option<&Dht>, peer: PublicKey) -> Finding {
    let Some(dht) = dht else {
        return Finding::skipped(CHECK, "not looked for, since there is no network to look in");
    };
    let finding = match timeout(DIAL_LIMIT, dht.connect(peer, ConnectOptions::default())).await {
        Ok(Ok(dialled)) => {
            let connection = Connection::of(&dialled.link());
            let _ = timeout(PARTING_LIMIT, part(dialled)).await;
            let found = format!(
                "reached at {} ({}) in {} ms",
                connection.remote,
                connection.path,
                connection.connecting.as_millis()
            );
            connection
                .to_json()
                .into_iter()
                .fold(Finding::ok(CHECK, found), |finding, (name, value)| finding.fact(&name, value))
        }
        Ok(Err(error)) => failed(error),
        Err(_) => Finding::failed(CHECK, format!("no connection within {} s", DIAL_LIMIT.as_secs()))
            .advise("try again; then run the doctor on the other machine too")
            .fact("step", Step::Handshake.name()),
    };
    finding.fact("key", hex::encode(peer))
}

/// Ends the connection once the other machine has ended it too: torn down earlier, it may never count there.
async fn part(mut dialled: hyperdht::connect::Connection) {
    if dialled.stream.shutdown().await.is_ok() {
        while let Ok(Some(_)) = dialled.stream.recv().await {}
    }
}

fn failed(error: ConnectError) -> Finding {
    let step = Step::from(error);
    let advice = match step {
        Step::Lookup => {
            "is it still waiting (`ats-p2p doctor --wait`), with this very key, and on the same network? \
             Compare the bootstrap nodes that `doctor --json` shows at both ends"
        }
        Step::Handshake => {
            "it announced itself, but no answer came back: it may have ended just now, refuse this key (a \
             sender admits its recipient alone), or be where UDP is blocked"
        }
        step => step.help(),
    };
    Finding::failed(CHECK, error.to_string())
        .advise(advice)
        .fact("step", step.name())
        .fact("error", error.code())
}

/// A place on the network, under a key of its own, that answers whoever dials.
#[derive(Debug)]
pub struct Waiting {
    dht: Dht,
    server: Server,
}

impl Waiting {
    /// Listens under a fresh key on the network that these options lead to.
    ///
    /// # Errors
    /// Those of the task service where it has to say which network, and `NETWORK`.
    pub async fn start(options: &Options) -> Result<Waiting> {
        let bootstrap = match &options.bootstrap {
            Some(nodes) => Some(nodes.clone()),
            None => {
                let (settings, _) = Settings::load(options.ats.clone(), &Environment::current());
                Client::new(settings)?.health().await?.p2p.map(|p2p| p2p.bootstrap)
            }
        };
        let dht = Dht::new(dht_config(bootstrap.as_deref())?).await.map_err(Error::network)?;
        let server =
            dht.listen(KeyPair::generate(), ServerOptions::default()).await.map_err(Error::network)?;
        if server.relay_addresses().is_empty() {
            let _ = timeout(network::LEAVE_LIMIT, dht.destroy()).await;
            return Err(Error::new(
                Code::Network,
                format!("no node of the network took the announcement; {}", Step::Network.help()),
            ));
        }
        Ok(Waiting { dht, server })
    }

    /// What the other machine's doctor is told by `--peer`: 64 hex digits.
    pub fn key(&self) -> String {
        hex::encode(self.server.public_key())
    }

    /// The next peer that has come; `None` at the end.
    pub async fn next(&mut self) -> Option<Connection> {
        let mut connection = self.server.accept().await?;
        let link = connection.link();
        // The dialler ends it: it wants nothing but to know that this works.
        tokio::spawn(async move { timeout(DIAL_LIMIT, connection.stream.recv()).await.is_ok() });
        Some(Connection::of(&link))
    }

    /// Leaves the network.
    pub async fn close(self) {
        let _ = timeout(network::LEAVE_LIMIT, self.server.close()).await;
        let _ = timeout(network::LEAVE_LIMIT, self.dht.destroy()).await;
    }
}
