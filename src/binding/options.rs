//! Options as JavaScript gives them. `index.js` has checked their types already, for better messages.

use std::path::PathBuf;
use std::time::Duration;

use hyperdht::connect::PeerAddress;
use protocol::metadata::{MAX_METADATA_LEN, Metadata};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ats;
use crate::connection::RelayChoice;
use crate::error::{Code, Error, Result};
use crate::files::{self, Existing, JsonPath};
use crate::options::{MAX_CONCURRENT, Options, TunnelChoice};
use crate::pump::MIN_RATE;
use crate::trust::SeedChoice;

/// The longest timeout, milliseconds: what a JavaScript timer can hold, 24 days.
const MAX_TIMEOUT_MS: f64 = 2_147_483_647.0;

/// Says how many bytes a second a node may move.
pub(super) const MAX_RATE_VARIABLE: &str = "ATS_P2P_MAX_RATE";

/// Options of `createNode`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeOptions {
    ats_url: Option<String>,
    organization: Option<String>,
    project: Option<String>,
    channel: Option<String>,
    actor_id: Option<String>,
    actor_name: Option<String>,
    actor_type: Option<String>,
    api_key: Option<String>,
    ca: Option<PathBuf>,
    insecure: Option<bool>,
    allowed_peers: Option<Vec<String>>,
    require_verified: Option<bool>,
    max_file_size: Option<f64>,
    max_rate: Option<f64>,
    timeout: Option<f64>,
    max_offer_age: Option<f64>,
    max_partial_age: Option<f64>,
    max_concurrent: Option<f64>,
    topic_prefix: Option<String>,
    bootstrap: Option<Vec<String>>,
    relay_through: Option<String>,
    tunnel: Option<TunnelOption>,
    any_claimant: Option<bool>,
    identity: Option<IdentityOption>,
    keep_receipts: Option<f64>,
    preserve: Option<bool>,
    hash_cache: Option<bool>,
    home: Option<PathBuf>,
}

/// Whether a node has an identity, or the path of the seed of another one.
#[derive(Deserialize)]
#[serde(untagged)]
enum IdentityOption {
    Has(bool),
    Of(PathBuf),
}

/// Whether peers are met at the task service's tunnel, or the address of another one.
#[derive(Deserialize)]
#[serde(untagged)]
enum TunnelOption {
    Has(bool),
    At(String),
}

/// Options of `send`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SendOptions {
    #[serde(flatten)]
    pub(super) content: ContentOptions,
    pub(super) recipient_id: String,
    pub(super) channel: Option<String>,
    pub(super) timeout: Option<f64>,
    pub(super) idempotency_key: Option<String>,
    /// As JSON text.
    pub(super) metadata: Option<String>,
    pub(super) max_rate: Option<f64>,
}

/// What is sent, where that is no bytes and no stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContentOptions {
    pub(super) file_path: Option<JsonPath>,
    #[serde(default)]
    pub(super) file_paths: Vec<JsonPath>,
    pub(super) file_name: Option<String>,
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    #[serde(default)]
    pub(super) gitignore: bool,
}

/// Options of `watch`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WatchArguments {
    pub(super) channel: Option<String>,
    pub(super) save_dir: Option<JsonPath>,
    pub(super) existing: Option<Existing>,
    /// Whether JavaScript decides about each offer, also where it is saved.
    pub(super) asks: bool,
    /// What its `file` events name it by.
    pub(super) tag: u32,
}

/// Options of `accept`: one of `path` and `dir`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AcceptOptions {
    pub(super) path: Option<JsonPath>,
    pub(super) dir: Option<JsonPath>,
    pub(super) overwrite: Option<bool>,
    pub(super) existing: Option<Existing>,
    pub(super) max_rate: Option<f64>,
}

/// Reads an options object.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|error| Error::new(Code::InvalidArgument, format!("options: {error}")))
}

/// A path in full, which stands whatever the working directory becomes. Text comes so already.
pub(super) fn full(JsonPath(path): JsonPath) -> Result<PathBuf> {
    match path.is_absolute() {
        true => Ok(path),
        false => std::path::absolute(&path).map_err(|error| {
            let path = files::display_path(&path);
            Error::new(
                Code::InvalidArgument,
                format!("{path} can't be found from the working directory: {error}"),
            )
        }),
    }
}

/// What is said of a file, from JSON text.
pub(super) fn metadata(text: &str) -> Result<Metadata> {
    Metadata::parse(text).ok_or_else(|| {
        let message = format!(
            "metadata must be JSON of at most {MAX_METADATA_LEN} bytes and 127 levels, and its text whole \
             characters"
        );
        Error::new(Code::InvalidArgument, message)
    })
}

/// A time in milliseconds.
pub(super) fn milliseconds(name: &str, value: f64) -> Result<Duration> {
    if value > 0.0 && value <= MAX_TIMEOUT_MS {
        Ok(Duration::from_secs_f64(value / 1000.0))
    } else {
        let message = format!("{name} must be a number of milliseconds above 0 and up to {MAX_TIMEOUT_MS}");
        Err(Error::new(Code::InvalidArgument, message))
    }
}

impl NodeOptions {
    pub(super) fn into_options(self) -> Result<Options> {
        let home = self.home.or_else(default_home).ok_or_else(|| {
            Error::new(
                Code::State,
                "no home folder is known: set HOME or ATS_P2P_HOME to a folder of your own",
            )
        })?;
        let mut options = Options::new(home);
        options.ats = ats::Overrides {
            url: self.ats_url,
            organization: self.organization,
            project: self.project,
            channel: self.channel,
            actor_type: self.actor_type,
            actor_id: self.actor_id,
            actor_name: self.actor_name,
            api_key: self.api_key.map(ats::Secret::new),
            ca: self.ca,
            insecure: self.insecure,
        };
        let peers = self.allowed_peers.map(|peers| peers.iter().map(|peer| peer.parse()).collect());
        options.allowed_peers = peers.transpose()?;
        options.require_verified = self.require_verified.unwrap_or(false);
        options.max_file_size = self.max_file_size.map(|size| bytes("maxFileSize", size)).transpose()?;
        options.max_rate = match self.max_rate {
            Some(rate) => Some(max_rate(rate)?),
            None => max_rate_of_environment()?,
        };
        if let Some(timeout) = self.timeout {
            options.timeout = milliseconds("timeout", timeout)?;
        }
        if let Some(age) = self.max_offer_age {
            options.max_offer_age = milliseconds("maxOfferAge", age)?;
        }
        if let Some(age) = self.max_partial_age {
            options.max_partial_age = milliseconds("maxPartialAge", age)?;
        }
        if let Some(places) = self.max_concurrent {
            options.max_concurrent = concurrent(places)?;
        }
        options.topic_prefix = self.topic_prefix.unwrap_or_default();
        options.bootstrap = self.bootstrap.or_else(bootstrap_of_environment);
        options.relay_through = self.relay_through.as_deref().map(relay).transpose()?.unwrap_or_default();
        options.tunnel = match self.tunnel.or_else(tunnel_of_environment) {
            None | Some(TunnelOption::Has(true)) => TunnelChoice::Service,
            Some(TunnelOption::Has(false)) => TunnelChoice::Nowhere,
            Some(TunnelOption::At(address)) => TunnelChoice::at(&address)?,
        };
        options.preserve = self.preserve.unwrap_or(true);
        options.hash_cache = self.hash_cache.unwrap_or(true);
        options.any_claimant = self.any_claimant.unwrap_or(false);
        if let Some(count) = self.keep_receipts {
            options.keep_receipts = usize::try_from(bytes("keepReceipts", count)?).unwrap_or(usize::MAX);
        }
        options.identity = match self.identity {
            None | Some(IdentityOption::Has(true)) => SeedChoice::Home,
            Some(IdentityOption::Has(false)) => SeedChoice::Nobody,
            Some(IdentityOption::Of(path)) => SeedChoice::File(path),
        };
        Ok(options)
    }
}

/// `$ATS_P2P_HOME`, else `~/.ats-p2p`.
pub(super) fn default_home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("ATS_P2P_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".ats-p2p")))
}

fn bootstrap_of_environment() -> Option<Vec<String>> {
    bootstrap_nodes(&std::env::var("ATS_P2P_BOOTSTRAP").ok()?)
}

/// The nodes in a list with commas; `None` where none is named.
pub(super) fn bootstrap_nodes(list: &str) -> Option<Vec<String>> {
    let nodes = list.split(',').map(str::trim).filter(|node| !node.is_empty());
    let nodes: Vec<String> = nodes.map(str::to_owned).collect();
    (!nodes.is_empty()).then_some(nodes)
}

fn max_rate_of_environment() -> Result<Option<u64>> {
    let Ok(text) = std::env::var(MAX_RATE_VARIABLE) else { return Ok(None) };
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let rate = rate_of_text(text).filter(|rate| *rate >= MIN_RATE).ok_or_else(|| {
        let message = format!(
            "{MAX_RATE_VARIABLE} must be bytes a second, at least {MIN_RATE}, such as 500K or 1.5M: {}",
            files::display(text)
        );
        Error::new(Code::InvalidArgument, message)
    })?;
    Ok(Some(rate))
}

/// A number of bytes with a unit: K, M and G, or KiB and so on, are 1024, 1024² and 1024³; KB, MB and GB are
/// 1000, 1000² and 1000³. `lib/checks.js` reads the same.
pub(super) fn rate_of_text(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_uppercase();
    let (power, base) = match unit.strip_prefix(['K', 'M', 'G']) {
        None if unit.is_empty() => (0, 1.0),
        None => return None,
        Some(rest) => {
            let power = 1 + "KMG".find(&unit[..1])?;
            (
                i32::try_from(power).ok()?,
                match rest {
                    "" | "IB" => 1024.0,
                    "B" => 1000.0,
                    _ => return None,
                },
            )
        }
    };
    let rate = number.parse::<f64>().ok()? * f64::powi(base, power);
    bytes("", rate.floor()).ok().filter(|rate| *rate < u64::MAX)
}

/// The address of a tunnel, or `none`.
fn tunnel_of_environment() -> Option<TunnelOption> {
    match std::env::var("ATS_P2P_TUNNEL").ok()?.trim() {
        "" => None,
        "none" => Some(TunnelOption::Has(false)),
        address => Some(TunnelOption::At(address.to_owned())),
    }
}

/// `hub`, `none`, or the key of a relay.
fn relay(text: &str) -> Result<RelayChoice> {
    match text {
        "hub" => Ok(RelayChoice::Hub),
        "none" => Ok(RelayChoice::Nobody),
        key => key.parse().map(|peer: PeerAddress| RelayChoice::Key(peer.public_key)).map_err(|_| {
            let message = "relayThrough must be a public key in hex or z-base-32, 'hub' or 'none'";
            Error::new(Code::InvalidArgument, message)
        }),
    }
}

/// How many files may be received at once.
fn concurrent(value: f64) -> Result<usize> {
    if value.fract() == 0.0 && (1.0..=MAX_CONCURRENT as f64).contains(&value) {
        Ok(value as usize)
    } else {
        let message = format!("maxConcurrent must be a whole number from 1 to {MAX_CONCURRENT}");
        Err(Error::new(Code::InvalidArgument, message))
    }
}

/// Bytes a second.
pub(super) fn max_rate(value: f64) -> Result<u64> {
    bytes("maxRate", value).ok().filter(|rate| *rate >= MIN_RATE).ok_or_else(|| {
        let message = format!("maxRate must be a whole number of bytes a second, at least {MIN_RATE}");
        Error::new(Code::InvalidArgument, message)
    })
}

/// A number of bytes; JavaScript has no integers.
pub(super) fn bytes(name: &str, value: f64) -> Result<u64> {
    // Up to 2^53 every whole number has its own f64, and infinity stands for no limit.
    if value == f64::INFINITY {
        Ok(u64::MAX)
    } else if (0.0..=9_007_199_254_740_991.0).contains(&value) && value.fract() == 0.0 {
        Ok(value as u64)
    } else {
        Err(Error::new(Code::InvalidArgument, format!("{name} must be a whole number of bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_with_its_unit() {
        for (text, rate) in [
            ("1024", 1024),
            ("10K", 10 * 1024),
            ("10k", 10 * 1024),
            ("1.5M", 3 << 19),
            ("2MiB", 2 << 20),
            ("2MB", 2_000_000),
            ("500kb", 500_000),
            ("1G", 1 << 30),
            ("0.5K", 512),
        ] {
            assert_eq!(rate_of_text(text), Some(rate), "{text}");
        }
        for text in
            ["", "K", "1T", "1 K", "-1K", "1e3", "1K/s", "1BB", "1B", "1iB", "1.2.3K", "9999999G", "∞"]
        {
            assert_eq!(rate_of_text(text), None, "{text}");
        }
    }
}
