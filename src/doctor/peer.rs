//! The way to another machine: dialled by the key that it shows while it waits for that.

use std::sync::Arc;
use std::time::Duration;

use hyperdht::Dht;
use hyperdht::connect::{ConnectError, ConnectOptions, Connection, ConnectionPath, Server, ServerOptions};
use protocol::RELAY_ALLOWLIST_TIME;
use secret_stream::{KeyPair, PublicKey};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Finding, network};
use crate::ats::{Client, Environment, Settings};
use crate::connection::{ConnectionInfo, bootstrap_config};
use crate::error::{Code, Error, Result, Step};
use crate::options::Options;

const CHECK: &str = "peer";

/// How long the dial may take: as long as one of a transfer's.
pub(super) const DIAL_LIMIT: Duration = Duration::from_secs(20);

/// How long the other machine may take to notice that the dial came through, before it is left.
const PARTING_LIMIT: Duration = Duration::from_secs(2);

/// How long a direct way may take to open once the peer was reached through a relay: most holes are punched
/// by then.
const UPGRADE_LIMIT: Duration = Duration::from_secs(5);

/// Finds the peer on the network and connects to it, through this relay where no direct way opens.
pub(super) async fn reach(dht: Option<&Dht>, peer: PublicKey, relay: Option<PublicKey>) -> Finding {
    let Some(dht) = dht else {
        return Finding::skipped(CHECK, "not looked for, since there is no network to look in");
    };
    let options = ConnectOptions { relay_through: relay, ..ConnectOptions::default() };
    let finding = match timeout(DIAL_LIMIT, dht.connect(peer, options)).await {
        Ok(Ok(dialled)) => {
            let link = dialled.link();
            if link.path() == ConnectionPath::Relayed {
                let _ = timeout(UPGRADE_LIMIT, link.direct()).await;
            }
            let connection = ConnectionInfo::of(&link);
            part(dialled).await;
            reached(link.path(), &connection)
        }
        Ok(Err(error)) => failed(error),
        Err(_) => Finding::failed(CHECK, format!("no connection within {} s", DIAL_LIMIT.as_secs()))
            .advise("try again; then run the doctor on the other machine too")
            .fact("step", Step::Handshake.name()),
    };
    finding.fact("key", hex::encode(peer))
}

fn reached(path: ConnectionPath, connection: &ConnectionInfo) -> Finding {
    let ConnectionInfo { remote_address: remote, path: name, connect_time, .. } = connection;
    let ms = connect_time.as_millis();
    let mut finding = match path {
        ConnectionPath::Relayed => {
            let found = format!("reached in {ms} ms, but only through the relay at {remote}");
            Finding::warning(CHECK, found).advise(
                "transfers work, at the speed that the relay allows, and it sees nothing but ciphertext; to \
                 be direct they need UDP to pass between the two machines, and one of the two without a \
                 symmetric NAT (`nat` above, at both ends)",
            )
        }
        _ => Finding::ok(CHECK, format!("reached at {remote} ({name}) in {ms} ms")),
    };
    finding.connection = Some(*connection);
    finding
}

/// Ends the connection once the other machine has ended it too: torn down earlier, it may never count there.
pub(super) async fn part(mut dialled: Connection) {
    let parting = async {
        if dialled.stream.shutdown().await.is_ok() {
            while let Ok(Some(_)) = dialled.stream.recv().await {}
        }
    };
    let _ = timeout(PARTING_LIMIT, parting).await;
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
    /// Has the hub's relay serve it.
    _visit: Option<AbortOnDropHandle<()>>,
}

impl Waiting {
    /// Listens under a fresh key on the network that these options lead to.
    ///
    /// # Errors
    /// Those of the task service where it has to say which network, and `NETWORK`.
    pub async fn start(options: &Options) -> Result<Self> {
        let hub = match options.bootstrap {
            Some(_) => None,
            None => {
                let (settings, _) = Settings::load(options.ats.clone(), &Environment::current());
                let client = Client::new(settings)?;
                client.health().await?.p2p.map(|p2p| (client, p2p))
            }
        };
        let hub_relay = hub.as_ref().and_then(|(_, p2p)| p2p.relay);
        let relay = options.relay_through.among(hub_relay);
        let key_pair = KeyPair::generate();
        let visit = match &hub {
            Some((client, _)) if relay.is_some() && relay == hub_relay => {
                let key = key_pair.public_key();
                // Without it the relay does not help, and all else works.
                let _ = client.visit_relay(&key).await;
                Some(AbortOnDropHandle::new(tokio::spawn(visit_again(client.clone(), key))))
            }
            _ => None,
        };
        let bootstrap = options.bootstrap.clone().or(hub.and_then(|(_, p2p)| p2p.bootstrap));
        let dht = Dht::new(bootstrap_config(bootstrap.as_deref())?).await.map_err(Error::network)?;
        let relay_through = relay.map(|relay| Arc::new(move || Some(relay)) as _);
        let server_options = ServerOptions { relay_through, ..ServerOptions::default() };
        let server = dht.listen(key_pair, server_options).await.map_err(Error::network)?;
        if server.relay_addresses().is_empty() {
            let _ = timeout(network::LEAVE_LIMIT, dht.destroy()).await;
            return Err(Error::new(
                Code::Network,
                format!("no node of the network took the announcement; {}", Step::Network.help()),
            ));
        }
        Ok(Self { dht, server, _visit: visit })
    }

    /// What the other machine's doctor is told by `--peer`: 64 hex digits.
    pub fn key(&self) -> String {
        hex::encode(self.server.public_key())
    }

    /// The next peer that has come; `None` at the end.
    pub async fn next(&mut self) -> Option<ConnectionInfo> {
        let mut connection = self.server.accept().await?;
        let link = connection.link();
        // The dialler ends it: it wants nothing but to know that this works.
        tokio::spawn(async move { timeout(DIAL_LIMIT, connection.stream.recv()).await.is_ok() });
        Some(ConnectionInfo::of(&link))
    }

    /// Leaves the network.
    pub async fn close(self) {
        let _ = timeout(network::LEAVE_LIMIT, self.server.close()).await;
        let _ = timeout(network::LEAVE_LIMIT, self.dht.destroy()).await;
    }
}

/// Has the relay go on serving a key.
async fn visit_again(client: Client, key: PublicKey) {
    loop {
        sleep(RELAY_ALLOWLIST_TIME / 2).await;
        let _ = client.visit_relay(&key).await;
    }
}
