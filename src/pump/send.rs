//! One file to one peer.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use secret_stream::{ChunkReader, ChunkWriter, Receiver, Sender, Transport};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Control, PumpError, Stream,
    close::close,
    pace::Pace,
    reader::{self, DATA_LEN, FRAMES, LEAST_DATA_LEN},
};
use crate::{
    error::Code,
    files::Source,
    sync::spawn_blocking,
    wire::{DONE, MAX_META, Meta, Reply, Sending},
};

/// Bytes a millisecond at which a receiver brings a file to its disk at least, 20 MB/s: so much longer than
/// for anything else it may be waited for when it has all bytes.
const SYNCED: u64 = 20_000;

/// How long a reply that came before the connection was lost may take to be read.
const LATE_REPLY: Duration = Duration::from_secs(1);

/// Bytes that stand between us and the peer before how long a batch takes says anything of the path: more
/// than the stream's buffers hold.
const BUFFERED: u64 = 4 * 1024 * 1024;

/// A batch that the stream takes sooner than this may be followed by one twice as large.
const QUICK: Duration = Duration::from_millis(250);

/// A batch that takes longer than this is followed by single messages, since time is only measured batch
/// by batch, and a path that is slow but moves must not count as stalled.
const SLOW: Duration = Duration::from_secs(1);

/// Sends the file that `meta` describes, from the byte on that the receiver wants if `meta` asks it, and
/// gives the stream back once the receiver has acknowledged it.
///
/// Tells the peer of what went wrong here, and ends the stream then. Several may run at once on clones of
/// one source. Dropped before it returns, it tears the stream down without a word.
///
/// # Errors
/// `Source` where the file is not what `meta` says (any more), in which case the receiver got no end of
/// it; `Nack` or `Remote` for what the peer said; `Fault`, `Closed` or `Connection` for what it did;
/// `Stalled`; `Cancelled`.
pub async fn send<T: Transport>(
    stream: Stream<T>,
    source: &Source,
    meta: &Meta,
    control: &Control,
) -> Result<Stream<T>, PumpError> {
    let Stream { mut receiver, mut sender, .. } = stream;
    // All that may come is a short frame or two.
    receiver.set_max_message(MAX_META);
    let result = tokio::select! {
        biased;
        () = control.cancel.cancelled() => Err(PumpError::Cancelled),
        result = exchange(&mut receiver, &mut sender, source, meta, control) => result,
    };
    match result {
        Ok((acknowledgement, spoken)) => {
            // The acknowledgement can be faster than the stream's own.
            control.sent();
            Ok(Stream { receiver, sender, spoken, acknowledgement })
        }
        Err(error) => {
            if matches!(error, PumpError::Nack(_)) && error.code() == Code::Integrity {
                let source = source.clone();
                // If the hash was only remembered, it is made anew the next time.
                let _ = spawn_blocking(move || source.forget()).await;
            }
            // Whether the peer still hears it changes nothing here.
            let _ = close(receiver, sender, error.last_word()).await;
            Err(error)
        }
    }
}

/// Returns what the receiver says with its acknowledgement, and whether it said more than that.
async fn exchange<R: ChunkReader, W: ChunkWriter>(
    receiver: &mut Receiver<R>,
    sender: &mut Sender<W>,
    source: &Source,
    meta: &Meta,
    control: &Control,
) -> Result<(Bytes, bool), PumpError> {
    let done = AtomicBool::new(false);
    let (begin, offset) = oneshot::channel();
    let (sending, begin) = match meta.resume {
        true => (Sending::asking(meta.size), Some(begin)),
        false => {
            // Whoever is not asked wants all of it.
            let _ = begin.send(0);
            (Sending::default(), None)
        }
    };
    let mut reply = Box::pin(reply(receiver, sending, begin, &done));
    let sent = tokio::select! {
        biased;
        reply = &mut reply => return reply,
        sent = transfer(sender, source, meta, control, offset, &done) => sent,
    };
    match sent {
        Ok(()) => {
            control.sent();
            let limit = control.idle.saturating_add(Duration::from_millis(meta.size / SYNCED));
            timeout(limit, reply).await.unwrap_or(Err(PumpError::Stalled))
        }
        // The peer may have said why before it left, and the end of the stream may be noticed first.
        Err(error) if error.is_lost_connection() => match timeout(LATE_REPLY, reply).await {
            Ok(Err(said)) if said.is_lost_connection() => Err(error),
            Ok(said) => said,
            Err(_) => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Waits for the receiver's last word, and returns what it says in it and whether more came; `done` says
/// whether it may be an ACK. Tells `begin` from which byte on the receiver wants the file.
async fn reply<R: ChunkReader>(
    receiver: &mut Receiver<R>,
    mut sending: Sending,
    mut begin: Option<oneshot::Sender<u64>>,
    done: &AtomicBool,
) -> Result<(Bytes, bool), PumpError> {
    while let Some(message) = receiver.recv().await? {
        if done.load(Ordering::Relaxed) {
            sending.done_sent();
        }
        sending.handle(message.freeze());
        while let Some(reply) = sending.poll()? {
            match reply {
                Reply::Resume(offset) => {
                    if let Some(begin) = begin.take() {
                        // Nobody waits for it where sending has failed already.
                        let _ = begin.send(offset);
                    }
                }
                Reply::Ack(word) => return Ok((word, sending.has_more())),
                Reply::Nack(reason) => return Err(PumpError::Nack(reason)),
                Reply::Error(reason) => return Err(PumpError::Remote(reason)),
            }
        }
    }
    Err(PumpError::Closed)
}

/// Sends META, all DATA from the byte `offset` on, and DONE, and waits until the receiver has them.
async fn transfer<W: ChunkWriter>(
    sender: &mut Sender<W>,
    source: &Source,
    meta: &Meta,
    control: &Control,
    offset: oneshot::Receiver<u64>,
    done: &AtomicBool,
) -> Result<(), PumpError> {
    if meta.size != source.size() {
        return Err(source.changed().into());
    }
    let announced = meta.encode()?;
    timeout(control.idle, sender.send(&announced)).await.map_err(|_| PumpError::Stalled)??;
    let offset = match timeout(control.idle, offset).await {
        Ok(Ok(offset)) => offset,
        Ok(Err(_)) => return Err(PumpError::Closed),
        Err(_) => return Err(PumpError::Stalled),
    };
    control.begin(offset);
    // Where little may move, it moves in small pieces.
    let step = control.throttle.step();
    let data_len = step.map_or(DATA_LEN, |step| step.clamp(LEAST_DATA_LEN, DATA_LEN));
    let most = step.map_or(FRAMES, |step| (step / data_len).clamp(1, FRAMES));
    let mut chunks = reader::start(source.clone(), meta.hash.clone(), offset, data_len);
    let mut outflow = Outflow {
        pending: sender.control(),
        written: offset,
        pace: Pace::new(control.idle, offset..meta.size, Instant::now()),
    };
    let mut count = 1;
    loop {
        let asked = Instant::now();
        let Some(chunk) = chunks.recv().await else { break };
        outflow.pace.held_up(asked.elapsed());
        let mut chunk = chunk?;
        while let Some(messages) = chunk.take(count.min(most)) {
            if step.is_some() {
                outflow.pace.held_up(control.throttle.pass(messages.bytes).await);
            }
            let start = Instant::now();
            outflow.keeps(sender.send_in_place(messages.buffer, &messages.places)).await?;
            outflow.written += messages.bytes;
            control.progress.send_replace(outflow.written);
            count = next_count(count, outflow.written - offset, start.elapsed());
        }
    }
    if outflow.written < meta.size {
        return Err(PumpError::Thread);
    }
    done.store(true, Ordering::Relaxed);
    outflow.keeps(sender.send(&DONE)).await?;
    outflow.keeps(sender.flush()).await
}

/// The pace at which the peer takes what is written: what it has acknowledged, where the stream knows.
struct Outflow<W: ChunkWriter> {
    pending: secret_stream::Control<W>,
    /// Bytes of the file that the stream has accepted.
    written: u64,
    pace: Pace,
}

impl<W: ChunkWriter> Outflow<W> {
    /// Waits for the stream as long as bytes move.
    async fn keeps(
        &mut self,
        done: impl Future<Output = Result<(), secret_stream::Error>>,
    ) -> Result<(), PumpError> {
        let mut done = pin!(done);
        loop {
            if let Ok(done) = timeout_at(self.pace.deadline(), &mut done).await {
                self.look();
                return Ok(done?);
            }
            self.look();
            if self.pace.has_stalled(Instant::now()) {
                return Err(PumpError::Stalled);
            }
        }
    }

    fn look(&mut self) {
        let pending = u64::try_from(self.pending.pending()).unwrap_or(u64::MAX);
        self.pace.moved(self.written.saturating_sub(pending), Instant::now());
    }
}

/// How many messages go at once after `count` of them took `took`, `moved` bytes in all.
fn next_count(count: usize, moved: u64, took: Duration) -> usize {
    if took > SLOW {
        1
    } else if took < QUICK && moved > BUFFERED {
        (count * 2).min(FRAMES)
    } else {
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_on_a_quick_path_and_shrink_on_a_slow_one() {
        let quick = Duration::from_millis(1);
        assert_eq!(next_count(1, BUFFERED, quick), 1);
        assert_eq!(next_count(1, BUFFERED + 1, quick), 2);
        assert_eq!(next_count(FRAMES, u64::MAX, quick), FRAMES);
        assert_eq!(next_count(8, u64::MAX, QUICK), 8);
        assert_eq!(next_count(8, u64::MAX, SLOW + quick), 1);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_remembered_hash_that_the_receiver_does_not_get_is_forgotten() {
        use secret_stream::{Io, KeyPair, SecretStream};
        use tokio::sync::watch;
        use tokio_util::sync::CancellationToken;

        use crate::{
            files::HashCache,
            wire::{FrameType, encode},
        };

        let home = tempfile::tempdir().unwrap();
        let (cache, path) = (HashCache::new(home.path()), home.path().join("file"));
        std::fs::write(&path, vec![7; 2 << 20]).unwrap();
        let opened = Source::open(&path).unwrap();
        opened.hash(|_| {}, &CancellationToken::new()).unwrap();
        opened.remember_as(&opened, &cache);
        // Told of once: it is known.
        let hash_once = || {
            let (source, mut told) = (Source::open(&path).unwrap(), 0);
            let hash = source.hash_once(&cache, |_| told += 1, &CancellationToken::new()).unwrap();
            (source, hash, told == 1)
        };
        for (reason, is_known) in [("DISK_FULL: no room", true), ("INTEGRITY: another hash", false)] {
            let (source, hash, was_known) = hash_once();
            assert!(was_known);
            let (a, b) = tokio::io::duplex(1 << 20);
            let (a, b) = tokio::join!(
                SecretStream::handshake_xx(true, KeyPair::generate(), Io(a)),
                SecretStream::handshake_xx(false, KeyPair::generate(), Io(b)),
            );
            let (a, mut b) = (a.unwrap(), b.unwrap());
            let (name, size) = ("file".to_owned(), source.size());
            let meta = Meta { name, size, hash, transfer_id: None, resume: false };
            let control =
                Control::new(watch::Sender::new(0), CancellationToken::new(), Duration::from_secs(60));
            let refuse = async {
                b.recv().await.unwrap();
                b.send(&encode(FrameType::Nack, reason.as_bytes())).await.unwrap();
                while b.recv().await.is_ok_and(|message| message.is_some()) {}
            };
            let (sent, ()) = tokio::join!(send(a.into(), &source, &meta, &control), refuse);
            assert!(matches!(sent, Err(PumpError::Nack(_))));
            assert_eq!(hash_once().2, is_known, "{reason}");
        }
    }
}
