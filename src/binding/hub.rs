//! The hub.

use std::path::PathBuf;
use std::time::Duration;

use hub::{AccessConfig, Hub, HubConfig, PostgresUrl, RelayAccess, TlsFiles, TunnelAccess};
use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Undefined};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;

use super::environment::Tenant;
use super::error::{promise, thrown};
use super::options::{bytes, default_home, read};
use crate::error::{Code, Error, Result};

/// The environment variable that holds the URL of a hub's PostgreSQL database.
const DATABASE_VARIABLE: &str = "ATS_P2P_DATABASE";

/// Options of a hub.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HubOptions {
    listen: Option<String>,
    data: Option<PathBuf>,
    database: Option<String>,
    database_file: Option<PathBuf>,
    public_url: Option<String>,
    allowed_hosts: Option<Vec<String>>,
    trusted_proxies: Option<Vec<String>>,
    open: bool,
    trust: Vec<String>,
    insecure: bool,
    cert: Option<PathBuf>,
    key_file: Option<PathBuf>,
    /// Milliseconds; 0 for ever.
    keep: Option<f64>,
    dht_port: Option<u16>,
    request_rate: Option<u32>,
    daily_quota: Option<f64>,
    relay: Option<String>,
    relay_pairs: Option<usize>,
    relay_rate: Option<f64>,
    relay_bytes: Option<f64>,
    tunnel: Option<String>,
    tunnel_url: Option<String>,
}

/// A hub that runs.
#[napi]
pub struct NativeHub {
    address: String,
    urls: Vec<String>,
    bootstrap: Vec<String>,
    relay: Option<String>,
    hub: Tenant<Hub>,
}

#[napi]
impl NativeHub {
    /// Starts a hub; see `HubOptions` in `index.d.ts`.
    #[napi(ts_args_type = "options: object", ts_return_type = "Promise<NativeHub>")]
    pub fn start<'env>(env: &'env Env, options: Value) -> napi::Result<PromiseRaw<'env, Self>> {
        let options: HubOptions =
            crate::log::start().and_then(|()| read(options)).map_err(|error| thrown(env, &error))?;
        let hub = Tenant::new(env, |hub: Hub| Box::pin(hub.shutdown()))?;
        let kept = hub.clone();
        let start = async move {
            let start = async {
                let hub = start(options).await?;
                let address = hub.local_addr().to_string();
                let told = (address, hub.urls().to_vec(), hub.bootstrap(), hub.relay().map(hex::encode));
                Ok((hub, told))
            };
            kept.start(start).await
        };
        promise(env, start, |(address, urls, bootstrap, relay)| Self { address, urls, bootstrap, relay, hub })
    }

    /// Where it listens, `host:port`.
    #[napi]
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// The URLs that lead to it, the one that serves most callers first.
    #[napi]
    pub fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    /// The nodes of its DHT, `host:port` each.
    #[napi]
    pub fn bootstrap(&self) -> Vec<String> {
        self.bootstrap.clone()
    }

    /// The public key of its relay, if there is one.
    #[napi]
    pub fn relay(&self) -> Option<String> {
        self.relay.clone()
    }

    /// Stops it; a second call does nothing.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Undefined>> {
        let hub = self.hub.clone();
        let close = async move {
            hub.close().await;
            Ok(())
        };
        promise(env, close, |()| ())
    }
}

/// Options of a backup.
#[cfg(not(test))]
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BackupOptions {
    data: Option<PathBuf>,
    database: Option<String>,
    database_file: Option<PathBuf>,
    replace: bool,
}

/// Copies a hub's database to a file.
#[cfg(not(test))]
#[napi(ts_args_type = "file: string, options: object", ts_return_type = "Promise<void>")]
pub(super) fn backup_hub(env: &Env, file: String, options: Value) -> napi::Result<PromiseRaw<'_, Undefined>> {
    let options: BackupOptions =
        crate::log::start().and_then(|()| read(options)).map_err(|error| thrown(env, &error))?;
    let backup = async move {
        let data = data_folder(options.data)?;
        if let Some(url) = database(options.database, options.database_file)? {
            let message = format!("the hub's tasks are in {url}: pg_dump makes a backup of that");
            return Err(Error::new(Code::State, message));
        }
        hub::backup(&data, std::path::Path::new(&file), options.replace)
            .await
            .map_err(|error| Error::new(Code::State, error.to_string()))
    };
    promise(env, backup, |()| ())
}

/// Where a hub's data is.
pub(super) fn data_folder(named: Option<PathBuf>) -> Result<PathBuf> {
    named.or_else(|| default_home().map(|home| home.join("hub"))).ok_or_else(|| {
        Error::new(Code::State, "no home folder is known: name a data folder, or set HOME or ATS_P2P_HOME")
    })
}

/// The PostgreSQL database of a hub, where it has one: the URL itself, or the file that holds it, or else
/// `ATS_P2P_DATABASE`. No error shows the URL, which may hold a password.
pub(super) fn database(url: Option<String>, file: Option<PathBuf>) -> Result<Option<PostgresUrl>> {
    let invalid = |message: String| Error::new(Code::InvalidArgument, message);
    let (text, whence) = match (url, file) {
        (Some(_), Some(_)) => {
            return Err(invalid("the database's URL and a file of it are too much: give one of them".into()));
        }
        (Some(url), None) => (url, "the database's URL".to_owned()),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(&file).map_err(|error| {
                let message = format!("the database's URL cannot be read from {}: {error}", file.display());
                Error::new(Code::State, message)
            })?;
            (text, format!("the database's URL in {}", file.display()))
        }
        (None, None) => match std::env::var(DATABASE_VARIABLE) {
            Ok(url) if !url.is_empty() => (url, format!("the database's URL in {DATABASE_VARIABLE}")),
            _ => return Ok(None),
        },
    };
    let unusable = |problem| invalid(format!("{whence} cannot be used: {problem}"));
    PostgresUrl::parse(&text).map(Some).map_err(unusable)
}

async fn start(options: HubOptions) -> Result<Hub> {
    let mut config = HubConfig::new(data_folder(options.data)?);
    config.database = database(options.database, options.database_file)?;
    if let Some(keep) = options.keep {
        // A float that is too large becomes the largest number, and none is below 0.
        config.keep = Some(keep as u64).filter(|keep| *keep > 0).map(Duration::from_millis);
    }
    if let Some(listen) = &options.listen {
        config.listen = hub::find_listen(listen).await.map_err(|problem| {
            let or = "127.0.0.1:8787, localhost:8787 and, for all addresses, :8787 are understood";
            let message = format!("{listen:?} is no address to listen on: {problem}; {or}");
            Error::new(Code::InvalidArgument, message)
        })?;
    }
    if let Some(url) = &options.public_url {
        config.public_url =
            Some(parsed(url, hub::parse_public_url, "no public URL: https://hub.example is")?);
    }
    config.allowed_hosts = options.allowed_hosts.unwrap_or_default();
    let proxies = options.trusted_proxies.unwrap_or_default();
    config.trusted_proxies = proxies
        .iter()
        .map(|text| parsed(text, hub::parse_network, "no address of a proxy: 10.0.0.1 and 10.0.0.0/8 are"))
        .collect::<Result<_>>()?;
    config.requests_per_second = options.request_rate.unwrap_or(config.requests_per_second);
    config.access = access(options.open, &options.trust, options.insecure)?;
    config.tls = match (options.cert, options.key_file) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        _ => {
            let message = "a certificate goes with its key: cert and keyFile (--cert, --key-file)";
            return Err(Error::new(Code::InvalidArgument, message));
        }
    };
    if let Some(quota) = options.daily_quota {
        config.stored_bytes_per_day = bytes("dailyQuota", quota)?;
    }
    if let Some(port) = options.dht_port {
        config.dht_port = port;
    }
    config.relay = match options.relay.as_deref() {
        None | Some("tasks") => RelayAccess::Tasks,
        Some("open") => RelayAccess::Open,
        Some("off") => RelayAccess::Off,
        Some(other) => {
            let message = format!("relay must be 'tasks', 'open' or 'off', not {other:?}");
            return Err(Error::new(Code::InvalidArgument, message));
        }
    };
    config.tunnel = tunnel(options.tunnel.as_deref())?;
    if let Some(url) = &options.tunnel_url {
        let or = "no address of a tunnel: https://hub-1.example is";
        config.tunnel_url = Some(parsed(url, hub::parse_public_url, or)?);
    }
    let limits = &mut config.relay_limits;
    limits.pairs = options.relay_pairs.unwrap_or(limits.pairs);
    if let Some(rate) = options.relay_rate {
        limits.bytes_per_second = bytes("relayRate", rate)?;
    }
    if let Some(most) = options.relay_bytes {
        limits.bytes_per_pair = bytes("relayBytes", most)?;
    }
    Hub::start(config).await.map_err(|error| Error::new(Code::State, format!("the hub can't start: {error}")))
}

fn tunnel(text: Option<&str>) -> Result<TunnelAccess> {
    match text {
        None | Some("tasks") => Ok(TunnelAccess::Tasks),
        Some("keys") => Ok(TunnelAccess::Keys),
        Some("open") => Ok(TunnelAccess::Open),
        Some("off") => Ok(TunnelAccess::Off),
        Some(other) => {
            let message = format!("tunnel must be 'tasks', 'keys', 'open' or 'off', not {other:?}");
            Err(Error::new(Code::InvalidArgument, message))
        }
    }
}

fn access(open: bool, trust: &[String], insecure: bool) -> Result<AccessConfig> {
    let network = |text: &String| parsed(text, hub::parse_network, "no network: 10.0.0.1 and 10.0.0.0/8 are");
    Ok(AccessConfig { open, trust: trust.iter().map(network).collect::<Result<_>>()?, insecure })
}

fn parsed<T>(text: &str, parse: impl Fn(&str) -> Option<T>, or: &str) -> Result<T> {
    parse(text).ok_or_else(|| Error::new(Code::InvalidArgument, format!("{text:?} is {or}")))
}
