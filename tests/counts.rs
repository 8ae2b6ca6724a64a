//! What a megabyte costs in counts, which unlike clocks are the same on a busy machine: system calls, bytes
//! copied in user space, allocations. A count that grew by a tenth beyond benches/counts.json fails;
//! `UPDATE_COUNTS=1 cargo test -p ats-p2p --test counts` writes what is now.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

#[path = "counts/meter.rs"]
mod meter;

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, time::Duration};

use ats_p2p::{
    files::{Existing, Partial, SafeName, Source, Target},
    pump::{self, Control, PumpError, Reception},
    wire::Meta,
};
use meter::Counts;
use secret_stream::{KeyPair, SecretStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use udx::{Socket, Stream, StreamOptions, Udx};

/// Where the counts are kept that a change is held against.
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts.json");

/// Bytes of the file: enough that connecting and the first growth of the window cost nothing beside it.
const SIZE: usize = 32 << 20;

/// A count is the least of so many runs: what the scheduler adds is not the transfer's.
const RUNS: usize = 8;

/// How much more than the baseline a count may be.
const TOLERANCE: f64 = 1.1;

/// What a receive buffer is at least on any Linux, in bytes, so that the batches are the same everywhere.
const RECEIVE_BUFFER: usize = 208 * 1024;

#[test]
fn a_megabyte_costs_no_more_than_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("sent.bin");
    let content: Vec<u8> = (0..SIZE).map(|at| (at * 31 + at / 251).to_le_bytes()[0]).collect();
    fs::write(&path, &content).expect("written");

    let mut least: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..RUNS {
        for (name, count) in per_megabyte(&transfer(dir.path(), &path)) {
            least.entry(name).and_modify(|least| *least = least.min(count)).or_insert(count);
        }
    }
    println!("{least:#.2?}");
    if std::env::var_os("UPDATE_COUNTS").is_some() {
        let text = serde_json::to_string_pretty(&least).expect("encoded");
        return fs::write(BASELINE, text + "\n").expect("written");
    }
    let text = fs::read_to_string(BASELINE).expect("benches/counts.json");
    let baseline: BTreeMap<String, f64> = serde_json::from_str(&text).expect("counts");
    assert_eq!(baseline.keys().collect::<Vec<_>>(), least.keys().collect::<Vec<_>>());
    let grown: Vec<_> = least
        .iter()
        .filter(|(name, count)| **count > baseline[*name] * TOLERANCE)
        .map(|(name, count)| format!("{name}: {count:.2} a MB, was {:.2}", baseline[name]))
        .collect();
    assert!(grown.is_empty(), "{}", grown.join("; "));
}

/// What one transfer of the file costs, both ends together.
fn transfer(dir: &Path, path: &Path) -> Counts {
    // One thread beside those for the files: what runs when is then left to the transfer, not to the
    // scheduler.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let source = Source::open(path).expect("opened");
        let hash = source.hash(|_| {}, &CancellationToken::new()).expect("hashed");
        let meta =
            Meta { name: "sent.bin".into(), size: source.size(), hash, transfer_id: None, resume: false };
        let ((udx_a, a), (udx_b, b)) = pair().await;
        let before = meter::now();
        let receive = tokio::spawn(receive(b, meta.clone(), dir.join("received")));
        pump::send(a.into(), &source, &meta, &control()).await.expect("sent");
        let received = receive.await.expect("run").expect("received");
        let counts = meter::now() - before;
        assert_eq!(fs::metadata(received).expect("a file").len(), meta.size);
        tokio::join!(udx_a.close(), udx_b.close());
        counts
    })
}

async fn receive(
    stream: SecretStream<Stream>,
    offer: Meta,
    dir: std::path::PathBuf,
) -> Result<std::path::PathBuf, PumpError> {
    let target =
        Target::InFolder { dir, name: SafeName::from_offered("received"), existing: Existing::Rename };
    let control = control();
    let mut incoming = Reception::new(stream.into(), offer.clone());
    incoming.meta(&control).await?;
    let partial = Partial::create(&target, "0123456789abcdef", offer.size)?;
    let path = incoming.body(partial, &control).await?.commit().await?.expect("a path");
    incoming.ack().await?;
    Ok(path)
}

type End = (Udx, SecretStream<Stream>);

async fn pair() -> (End, End) {
    let ((udx_a, socket_a, a), (udx_b, socket_b, b)) = (end().await, end().await);
    a.connect(&socket_a, b.id(), socket_b.local_addr()).expect("connected");
    b.connect(&socket_b, a.id(), socket_a.local_addr()).expect("connected");
    let (a, b) = tokio::join!(
        SecretStream::handshake_xx(true, KeyPair::generate(), a),
        SecretStream::handshake_xx(false, KeyPair::generate(), b),
    );
    ((udx_a, a.expect("a stream")), (udx_b, b.expect("a stream")))
}

async fn end() -> (Udx, Socket, Stream) {
    let config = udx::Config { receive_buffer: RECEIVE_BUFFER, ..Default::default() };
    let (udx, _datagrams) = Udx::spawn(config);
    let socket = udx.bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("bound");
    let stream = udx.stream(StreamOptions::default()).await.expect("a stream");
    (udx, socket, stream)
}

fn control() -> Control {
    let idle = Duration::from_secs(60);
    Control::new(watch::Sender::new(0), CancellationToken::new(), idle)
}

fn per_megabyte(counts: &Counts) -> BTreeMap<String, f64> {
    let megabytes = SIZE as f64 / 1e6;
    counts.named().into_iter().map(|(name, count)| (name.to_owned(), count as f64 / megabytes)).collect()
}
