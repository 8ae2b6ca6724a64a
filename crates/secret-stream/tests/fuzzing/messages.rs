//! The bytes of a stream of messages, changed on their way: panics where it is not noticed. Fuzzing runs it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use secret_stream::{ChunkReader, ChunkWriter, Handshake, HandshakeResult, KeyPair, SecretStream, Transport};

/// The longest message that the receiver takes, in bytes.
const MAX_MESSAGE: usize = 1000;

/// What both ends of the stream know.
static ENDS: LazyLock<[HandshakeResult; 2]> = LazyLock::new(|| {
    let keys = |seed: u8| KeyPair::from_seed(&[seed; 32]);
    let mut initiator = Handshake::initiator_ik(keys(1), keys(2).public_key(), &[]).with_ephemeral(keys(3));
    let mut responder = Handshake::responder_ik(keys(2), &[]).with_ephemeral(keys(4));
    let first = initiator.write(&[]).expect("a message");
    responder.read(&first).expect("it is read");
    initiator.read(&responder.write(&[]).expect("a message")).expect("it is read");
    [&initiator, &responder].map(|end| end.finished().expect("it is over").clone())
});

/// A stream whose bytes the input changes: a byte that says what happens, and up to 255 bytes, after their
/// count, to do it with.
pub(crate) fn run(data: &[u8]) {
    let wire = Wire::default();
    let mut sender = SecretStream::new(ENDS[0].clone(), wire.clone());
    let mut sent = Vec::new();
    let mut rest = data;
    while let [kind, count, more @ ..] = rest {
        let (bytes, behind) = more.split_at(more.len().min((*count).into()));
        rest = behind;
        let mut chunks = wire.0.lock().expect("nobody panicked");
        match kind % 8 {
            0..=2 => {
                drop(chunks);
                let message = bytes.repeat(1 + usize::from(kind >> 5));
                poll(sender.send(&message)).expect("it is written");
                poll(sender.flush()).expect("it is written");
                sent.push(message);
            }
            3 => chunks.push_back(Bytes::copy_from_slice(bytes)),
            4 => drop(chunks.pop_back()),
            5 => {
                let Some(last) = chunks.pop_back() else { continue };
                let key = bytes.iter().chain(std::iter::repeat(&0));
                chunks.push_back(last.iter().zip(key).map(|(a, b)| a ^ b).collect());
            }
            6 => {
                let Some(mut last) = chunks.pop_back() else { continue };
                let first = last.split_to(last.len().min((*count).into()));
                chunks.extend([first, last]);
            }
            _ => {
                let last = chunks.back().cloned();
                chunks.extend(last);
            }
        }
    }
    receive(wire, &sent);
}

/// What is received is what was sent, from the first message on, up to an error or the end.
fn receive(wire: Wire, sent: &[Vec<u8>]) {
    let mut receiver = SecretStream::new(ENDS[1].clone(), wire);
    receiver.set_max_message(MAX_MESSAGE);
    let mut expected = sent.iter();
    loop {
        match poll(receiver.recv()) {
            Ok(Some(message)) => {
                assert!(message.len() <= MAX_MESSAGE);
                assert!(
                    expected.next().is_some_and(|sent| *sent == message[..]),
                    "a message is as it was sent"
                );
            }
            Ok(None) => return,
            Err(_) => break,
        }
    }
    assert!(!matches!(poll(receiver.recv()), Ok(Some(_))), "an error is final");
}

fn poll<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("nothing here has to wait"),
    }
}

/// The bytes on their way: what is written waits to be read.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<VecDeque<Bytes>>>);

/// The end that writes, or reads what had been written; what a reader's own end writes goes nowhere.
struct End(Option<Wire>);

impl Transport for Wire {
    type Reader = End;
    type Writer = End;
    type Handle = ();

    fn handle(&self) {}

    fn split(self) -> (End, End) {
        let is_written = !self.0.lock().expect("nobody panicked").is_empty();
        let writer = if is_written { None } else { Some(self.clone()) };
        (End(Some(self)), End(writer))
    }
}

impl ChunkReader for End {
    fn poll_read_chunk(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let wire = self.0.as_ref();
        Poll::Ready(Ok(wire.and_then(|wire| wire.0.lock().expect("nobody panicked").pop_front())))
    }

    fn destroy(&mut self) {
        self.0 = None;
    }
}

impl ChunkWriter for End {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        if let Some(wire) = &self.0 {
            wire.0.lock().expect("nobody panicked").push_back(chunk);
        }
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn pending(&self) -> usize {
        0
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn destroy(&mut self) {
        self.0 = None;
    }
}
