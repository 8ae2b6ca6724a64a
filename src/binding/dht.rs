//! A node of the DHT for others.

use std::net::{Ipv4Addr, SocketAddr};

use hyperdht::{Dht, Network};
use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Undefined};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::cancel::NativeCancel;
use super::environment::Tenant;
use super::error::{promise, thrown};
use super::options::read;
use crate::dht::{DhtConfig, Started, start};
use crate::error::{Code, Error, Result};
use crate::sync::or_cancelled;

/// Options of a node.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DhtOptions {
    host: Option<String>,
    port: Option<u16>,
    bootstrap: Vec<String>,
}

/// A node of the DHT that runs.
#[napi]
pub struct NativeDht {
    started: Started,
    network: watch::Receiver<Network>,
    dht: Tenant<Dht>,
}

#[napi]
impl NativeDht {
    /// Starts a node; see `DhtOptions` in `index.d.ts`.
    #[napi(ts_args_type = "options: object, cancel: NativeCancel", ts_return_type = "Promise<NativeDht>")]
    pub fn start<'env>(
        env: &'env Env,
        options: Value,
        cancel: &NativeCancel,
    ) -> napi::Result<PromiseRaw<'env, Self>> {
        let options: DhtOptions =
            crate::log::start().and_then(|()| read(options)).map_err(|error| thrown(env, &error))?;
        let dht = Tenant::new(env, |dht: Dht| Box::pin(async move { dht.destroy().await }))?;
        let (kept, cancel) = (dht.clone(), cancel.token());
        let start = async move {
            let run = async {
                let (dht, started) = run(options).await?;
                let network = dht.network();
                Ok((dht, (started, network)))
            };
            kept.start(or_cancelled(&cancel, run)).await
        };
        promise(env, start, |(started, network)| Self { started, network, dht })
    }

    /// Where others reach it, `host:port`.
    #[napi]
    pub fn address(&self) -> String {
        self.started.address.to_string()
    }

    /// Whether others do.
    #[napi]
    pub fn reachable(&self) -> bool {
        self.started.reachable
    }

    /// Where others reach it, `host:port`, once they do; null if it is stopped before.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn reached<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Option<String>>> {
        let (mut network, address) = (self.network.clone(), self.started.address);
        let reached = async move {
            let settled = network.wait_for(|network| !network.ephemeral || network.destroyed).await;
            let reached = settled.ok().filter(|network| !network.ephemeral);
            Ok(reached.map(|network| network.remote_address.map_or(address, SocketAddr::V4).to_string()))
        };
        promise(env, reached, |address| address)
    }

    /// Other nodes that it knew when it had looked around.
    #[napi]
    pub fn nodes(&self) -> u32 {
        u32::try_from(self.started.nodes).unwrap_or(u32::MAX)
    }

    /// Stops it; a second call does nothing.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Undefined>> {
        let dht = self.dht.clone();
        let close = async move {
            dht.close().await;
            Ok(())
        };
        promise(env, close, |()| ())
    }
}

async fn run(options: DhtOptions) -> Result<(Dht, Started)> {
    let mut config = DhtConfig { port: options.port, bootstrap: options.bootstrap, ..DhtConfig::default() };
    if let Some(host) = &options.host {
        config.host = host.parse::<Ipv4Addr>().map_err(|_| {
            Error::new(
                Code::InvalidArgument,
                format!("{host:?} is no IPv4 address, and the DHT has no other"),
            )
        })?;
    }
    start(&config).await
}
