//! One candidate connection of an incoming file.

use std::path::PathBuf;

use bytes::BytesMut;
use futures_util::FutureExt;
use secret_stream::{ChunkReader, ChunkWriter, Receiver, Sender, Transport};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Control, PumpError, Stream,
    close::close,
    intake::Intake,
    pace::Pace,
    writer::{self, Batch},
};
use crate::{
    sync::spawn_blocking,
    wire::{self, FrameType, Meta, Receiving, encode},
};

/// Why the bytes of a file did not all come, and those that did.
#[derive(Debug)]
pub struct Interrupted {
    /// What went wrong.
    pub error: PumpError,
    /// What has come so far, as long as it was taken.
    pub sink: Option<Intake>,
}

/// A connection on which the file may come. There can be several of them.
///
/// First [`meta`](Self::meta), on all candidates at once; then [`body`](Self::body) on the first that has
/// it; after the file was put in its place, [`ack`](Self::ack), or [`ack_and_keep`](Self::ack_and_keep).
/// Dropped, it tears its stream down without a word.
pub struct Reception<T: Transport> {
    /// Gone once the last word was said.
    stream: Option<Stream<T>>,
    machine: Receiving,
    /// What the sender is told with the acknowledgement.
    word: String,
}

/// A file that came whole and is what was offered, still under its temporary name, or on its way to a reader.
#[derive(Debug)]
pub struct Verified {
    /// SHA-256 of its bytes, lower-case hex.
    pub hash: String,
    /// Bytes.
    pub size: u64,
    sink: Intake,
    cancel: CancellationToken,
}

impl<T: Transport> Reception<T> {
    /// A candidate for what `offer` says.
    pub fn new(stream: Stream<T>, offer: Meta) -> Self {
        Self { stream: Some(stream), machine: Receiving::new(offer), word: String::new() }
    }

    /// Waits for metadata that equals the offer, for as long as `control.idle` in all.
    ///
    /// # Errors
    /// Any but `Source` and `Target`; the peer was told and the stream is at its end.
    pub async fn meta(&mut self, control: &Control) -> Result<(), PumpError> {
        let result = match &mut self.stream {
            None => Err(PumpError::Closed),
            Some(Stream { receiver, .. }) => {
                let deadline = Instant::now() + control.idle;
                tokio::select! {
                    biased;
                    () = control.cancel.cancelled() => Err(PumpError::Cancelled),
                    read = timeout_at(deadline, read_meta(receiver, &mut self.machine)) => {
                        read.unwrap_or(Err(PumpError::Stalled))
                    }
                }
            }
        };
        if let Err(error) = &result {
            self.tell(error).await;
        }
        result
    }

    /// Takes all bytes that `sink` does not have yet, as far as the sender can leave out the others, and
    /// compares the hash of all with the one offered.
    ///
    /// # Errors
    /// Any but `Source`; the peer was told and the stream is at its end. Only of `Spoilt` it was not told:
    /// that is for the caller to do, by [`refuse`](Self::refuse), unless the file is to come once more from
    /// its first byte.
    pub async fn body(
        &mut self,
        sink: impl Into<Intake>,
        control: &Control,
    ) -> Result<Verified, Interrupted> {
        let filled = self.fill(sink.into(), control).await;
        match &filled {
            Ok(_) | Err(Interrupted { error: PumpError::Spoilt(_), .. }) => {}
            Err(Interrupted { error, .. }) => self.tell(error).await,
        }
        filled
    }

    /// Has the sender told this with the acknowledgement. What is longer than 4 KiB is left out: a part of it
    /// would say nothing.
    pub fn say_with_ack(&mut self, word: String) {
        if word.len() <= FrameType::Ack.limit() {
            self.word = word;
        }
    }

    /// Tells the sender that the file is in its final place, and ends the stream.
    ///
    /// # Errors
    /// `Connection` or `Closed` where it is not certain that the sender heard it.
    pub async fn ack(mut self) -> Result<(), PumpError> {
        match self.stream.take() {
            None => Err(PumpError::Closed),
            Some(Stream { receiver, sender, .. }) => {
                Ok(close(receiver, sender, Some((FrameType::Ack, self.word))).await?)
            }
        }
    }

    /// Tells the sender that the file is in its final place, and gives the stream back for the next one,
    /// without waiting until the sender has heard it.
    ///
    /// # Errors
    /// `Connection` or `Closed` where the stream has failed.
    pub async fn ack_and_keep(mut self) -> Result<Stream<T>, PumpError> {
        let mut stream = self.stream.take().ok_or(PumpError::Closed)?;
        stream.sender.send(&encode(FrameType::Ack, self.word.as_bytes())).await?;
        stream.spoken |= self.machine.has_more();
        Ok(stream)
    }

    /// Tells the sender what went wrong, unless it was told, and ends the stream.
    pub async fn refuse(mut self, error: &PumpError) {
        self.tell(error).await;
    }

    async fn fill(&mut self, mut sink: Intake, control: &Control) -> Result<Verified, Interrupted> {
        let Some(Stream { receiver, sender, .. }) = &mut self.stream else {
            return Err(Interrupted::with(PumpError::Closed, sink));
        };
        if sink.written() > 0 && !self.machine.can_resume() {
            sink = cleared(sink).await?;
        }
        let offset = sink.written();
        control.begin(offset);
        if let Some(bytes) = control.throttle.ahead() {
            receiver.set_receive_limit(Some(bytes));
        }
        let begun = match self.machine.begin(offset) {
            Some(frame) => say(sender, &frame, control).await,
            None => Ok(()),
        };
        if let Err(error) = begun {
            return Err(Interrupted::with(error, sink));
        }
        let stop = CancellationToken::new();
        let (batches, mut written) = writer::start(sink, stop.clone());
        let read = tokio::select! {
            biased;
            () = control.cancel.cancelled() => Err(PumpError::Cancelled),
            read = read_body(receiver, &mut self.machine, &batches, control) => read,
        };
        drop(batches);
        if control.throttle.ahead().is_some() {
            // The stream may carry another file.
            receiver.set_receive_limit(None);
        }
        if read.is_err() {
            // A reader may take its time, and another connection brings the rest.
            stop.cancel();
        }
        let (read, written) = tokio::select! {
            biased;
            written = &mut written => (read, written),
            () = control.cancel.cancelled() => {
                stop.cancel();
                (read.and(Err(PumpError::Cancelled)), written.await)
            }
        };
        // Where the disk failed, or the reader went, reading ended because of that.
        let sink = written.map_err(|_| PumpError::Thread)??;
        let hash = sink.hash();
        let checked = read.and_then(|()| match self.machine.check_hash(&hash) {
            Err(fault) if offset > 0 => Err(PumpError::Spoilt(fault)),
            checked => Ok(checked?),
        });
        match checked {
            Ok(()) => {
                let (size, cancel) = (self.machine.received(), control.cancel.clone());
                Ok(Verified { hash, size, sink, cancel })
            }
            Err(error) => Err(Interrupted::with(error, sink)),
        }
    }

    async fn tell(&mut self, error: &PumpError) {
        if let Some(Stream { receiver, sender, .. }) = self.stream.take() {
            // Whether the peer still hears it changes nothing here.
            let _ = close(receiver, sender, error.last_word()).await;
        }
    }
}

impl Interrupted {
    fn with(error: PumpError, sink: Intake) -> Self {
        Self { error, sink: Some(sink) }
    }
}

impl From<PumpError> for Interrupted {
    fn from(error: PumpError) -> Self {
        Self { error, sink: None }
    }
}

impl From<Interrupted> for PumpError {
    fn from(interrupted: Interrupted) -> Self {
        interrupted.error
    }
}

impl Verified {
    /// Brings the file to the disk and gives it its final name, off the runtime; returns its path. Without a
    /// file, waits until the reader has taken all.
    ///
    /// # Errors
    /// `Target`, and nothing is left of the file then; `Cancelled` where the reader is gone.
    pub async fn commit(self) -> Result<Option<PathBuf>, PumpError> {
        self.sink.commit(&self.cancel).await
    }
}

/// Gives up what has come, off the runtime.
async fn cleared(mut sink: Intake) -> Result<Intake, PumpError> {
    let cleared = spawn_blocking(move || sink.clear().map(|()| sink));
    Ok(cleared.await.map_err(|_| PumpError::Thread)??)
}

/// Says a frame in the midst of a run.
async fn say<W: ChunkWriter>(
    sender: &mut Sender<W>,
    frame: &[u8],
    control: &Control,
) -> Result<(), PumpError> {
    tokio::select! {
        biased;
        () = control.cancel.cancelled() => Err(PumpError::Cancelled),
        said = timeout(control.idle, sender.send(frame)) => match said {
            Ok(said) => Ok(said?),
            Err(_) => Err(PumpError::Stalled),
        }
    }
}

async fn read_meta<R: ChunkReader>(
    receiver: &mut Receiver<R>,
    machine: &mut Receiving,
) -> Result<(), PumpError> {
    loop {
        match machine.poll()? {
            Some(wire::Arrival::Meta) => return Ok(()),
            Some(wire::Arrival::Error(reason)) => return Err(PumpError::Remote(reason)),
            // Nothing else comes before it.
            Some(wire::Arrival::Data(_) | wire::Arrival::Done) | None => {}
        }
        let message = receiver.recv().await?.ok_or(PumpError::Closed)?;
        machine.handle(message.freeze());
    }
}

/// Hands all bytes of the file on, up to and with its end, or up to what went wrong.
async fn read_body<R: ChunkReader>(
    receiver: &mut Receiver<R>,
    machine: &mut Receiving,
    batches: &mpsc::Sender<Batch>,
    control: &Control,
) -> Result<(), PumpError> {
    let mut batch = Batch::default();
    let read = read_batches(receiver, machine, batches, control, &mut batch).await;
    if batch.len() > 0 {
        control.progress.send_replace(machine.received());
        // Where the writer has failed, it says why.
        let _ = batches.send(batch.take()).await;
    }
    read
}

async fn read_batches<R: ChunkReader>(
    receiver: &mut Receiver<R>,
    machine: &mut Receiving,
    batches: &mpsc::Sender<Batch>,
    control: &Control,
    batch: &mut Batch,
) -> Result<(), PumpError> {
    let (size, begun) = (machine.offer().size, machine.received());
    let mut pace = Pace::new(control.idle, begun..size, Instant::now());
    let is_limited = control.throttle.step().is_some();
    let mut passed = begun;
    loop {
        let mut done = false;
        while let Some(event) = machine.poll()? {
            match event {
                wire::Arrival::Data(bytes) => batch.push(bytes),
                wire::Arrival::Done => done = true,
                wire::Arrival::Error(reason) => return Err(PumpError::Remote(reason)),
                // It does not come twice.
                wire::Arrival::Meta => {}
            }
        }
        pace.moved(machine.received(), Instant::now());
        if is_limited && machine.received() > passed {
            // What has come is not held up, but what comes next.
            if !hand_over(batch, batches, machine, control, &mut pace).await {
                return Ok(());
            }
            pace.held_up(control.throttle.pass(machine.received() - passed).await);
            passed = machine.received();
        }
        // Messages that have arrived are gathered into one batch, without waiting for further ones.
        let gather = !done && !batch.is_full() && !pace.has_stalled(Instant::now());
        let arrived = if gather { receiver.recv().now_or_never() } else { None };
        let message = match arrived {
            Some(message) => message?,
            None => {
                if batch.len() > 0 && !hand_over(batch, batches, machine, control, &mut pace).await {
                    return Ok(());
                }
                if done {
                    return Ok(());
                }
                next_message(receiver, machine.received(), &mut pace).await?
            }
        };
        machine.handle(message.ok_or(PumpError::Closed)?.freeze());
    }
}

/// Hands a batch to the writer; `false` where that has failed, and says why.
async fn hand_over(
    batch: &mut Batch,
    batches: &mpsc::Sender<Batch>,
    machine: &Receiving,
    control: &Control,
    pace: &mut Pace,
) -> bool {
    control.progress.send_replace(machine.received());
    let handed_over = Instant::now();
    let is_taken = batches.send(batch.take()).await.is_ok();
    pace.held_up(handed_over.elapsed());
    is_taken
}

/// Waits for the next message after `received` bytes of the file. One that comes bit by bit is seen to move.
async fn next_message<R: ChunkReader>(
    receiver: &mut Receiver<R>,
    received: u64,
    pace: &mut Pace,
) -> Result<Option<BytesMut>, PumpError> {
    loop {
        if pace.has_stalled(Instant::now()) {
            return Err(PumpError::Stalled);
        }
        if let Ok(message) = timeout_at(pace.deadline(), receiver.recv()).await {
            return Ok(message?);
        }
        let begun = u64::try_from(receiver.begun()).unwrap_or(u64::MAX);
        pace.moved(received.saturating_add(begun), Instant::now());
    }
}
