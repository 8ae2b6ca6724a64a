//! An encrypted stream of messages over a transport.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::message::{MAX_MESSAGE, Opener, Sealer};
use crate::shared::Shared;
use crate::transport::{ChunkWriter, Transport};
use crate::{Control, Error, HandshakeResult, KeyPair, PublicKey, Receiver, Sender, xx};

/// An authenticated, encrypted stream of messages between the two ends of a finished handshake.
///
/// Messages arrive as they were sent, whole and in order. Dropped before [`Self::shutdown`], it destroys its
/// transport; after it, what was sent is delivered in the background.
pub struct SecretStream<T: Transport = udx::Stream> {
    peers: Peers,
    handle: T::Handle,
    receiver: Receiver<T::Reader>,
    sender: Sender<T::Writer>,
}

/// Who is at the ends.
struct Peers {
    is_initiator: bool,
    public_key: PublicKey,
    remote_public_key: PublicKey,
    handshake_hash: [u8; 64],
}

impl<T: Transport> SecretStream<T> {
    /// The stream of a finished handshake. Its header goes out at once, before anything of the peer's came.
    ///
    /// If the transport has already failed, the first use of the stream reports it.
    pub fn new(result: HandshakeResult, transport: T) -> Self {
        let handle = transport.handle();
        let (reader, writer) = transport.split();
        Self::assemble(&result, handle, reader, writer, &[])
    }

    /// Runs a Noise XX handshake on `transport` first, as npm's secret-stream does when it is given nothing
    /// but a transport.
    pub async fn handshake_xx(is_initiator: bool, keys: KeyPair, transport: T) -> Result<Self, Error> {
        let handle = transport.handle();
        let (mut reader, mut writer) = transport.split();
        let (result, rest) = xx::run(is_initiator, keys, &mut reader, &mut writer).await?;
        Ok(Self::assemble(&result, handle, reader, writer, &rest))
    }

    fn assemble(
        result: &HandshakeResult,
        handle: T::Handle,
        reader: T::Reader,
        mut writer: T::Writer,
        received: &[u8],
    ) -> Self {
        let (sealer, header) = Sealer::new(result);
        let mut opener = Opener::new(result, MAX_MESSAGE);
        opener.push(received);
        // If this fails, the transport has failed: the next use of the stream reports it.
        let _ = writer.write_chunk(Bytes::copy_from_slice(&header));
        let shared = Arc::new(Shared::default());
        Self {
            peers: Peers {
                is_initiator: result.is_initiator,
                public_key: result.public_key,
                remote_public_key: result.remote_public_key,
                handshake_hash: result.hash,
            },
            handle,
            receiver: Receiver::new(opener, reader, shared.clone()),
            sender: Sender::new(sealer, writer, shared),
        }
    }

    /// Whether this end began the handshake.
    pub fn is_initiator(&self) -> bool {
        self.peers.is_initiator
    }

    /// This end's key.
    pub fn public_key(&self) -> PublicKey {
        self.peers.public_key
    }

    /// The other end's key. Proven once [`Self::ready`] returned.
    pub fn remote_public_key(&self) -> PublicKey {
        self.peers.remote_public_key
    }

    /// The handshake hash: the same at both ends, and different for each connection.
    pub fn handshake_hash(&self) -> &[u8; 64] {
        &self.peers.handshake_hash
    }

    /// The handle of the transport below.
    pub fn transport(&self) -> &T::Handle {
        &self.handle
    }

    /// See [`Receiver::ready`].
    pub async fn ready(&mut self) -> Result<(), Error> {
        self.receiver.ready().await
    }

    /// See [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<BytesMut>, Error> {
        self.receiver.recv().await
    }

    /// See [`Receiver::set_max_message`].
    pub fn set_max_message(&mut self, bytes: usize) {
        self.receiver.set_max_message(bytes);
    }

    /// See [`Sender::send`].
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// See [`Sender::send_in_place`].
    pub async fn send_in_place(&mut self, buffer: BytesMut, messages: &[Range<usize>]) -> Result<(), Error> {
        self.sender.send_in_place(buffer, messages).await
    }

    /// See [`Sender::flush`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.sender.flush().await
    }

    /// See [`Sender::shutdown`].
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        self.sender.shutdown().await
    }

    /// See [`Sender::destroy`].
    pub fn destroy(&mut self) {
        self.sender.destroy();
    }

    /// See [`Sender::set_keep_alive`].
    pub fn set_keep_alive(&mut self, interval: Option<Duration>) {
        self.sender.set_keep_alive(interval);
    }

    /// See [`Sender::control`].
    pub fn control(&self) -> Control<T::Writer> {
        self.sender.control()
    }

    /// The halves, for tasks that receive and send at the same time. Dropping both drops the stream.
    pub fn split(self) -> (Receiver<T::Reader>, Sender<T::Writer>) {
        (self.receiver, self.sender)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::message::tests::handshake_result;
    use crate::{HEADROOM, Io, TAILROOM, Traffic};

    type Stream = SecretStream<Io<DuplexStream>>;

    /// Both ends, with `capacity` bytes in flight each way.
    fn pair(capacity: usize) -> (Stream, Stream) {
        let (a, b) = tokio::io::duplex(capacity);
        (SecretStream::new(handshake_result(true), Io(a)), SecretStream::new(handshake_result(false), Io(b)))
    }

    /// One end, and the bytes below the other.
    fn half(is_initiator: bool) -> (Stream, DuplexStream) {
        let (a, b) = tokio::io::duplex(1 << 20);
        (SecretStream::new(handshake_result(is_initiator), Io(a)), b)
    }

    async fn is_pending(future: impl Future) -> bool {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn both_directions_and_half_open_end() {
        let (mut a, mut b) = pair(100);
        a.send(b"to b").await.unwrap();
        a.shutdown().await.unwrap();
        b.ready().await.unwrap();
        assert_eq!(b.recv().await.unwrap().unwrap(), &b"to b"[..]);
        assert!(b.recv().await.unwrap().is_none());
        b.send(b"to a").await.unwrap();
        b.shutdown().await.unwrap();
        assert_eq!(a.recv().await.unwrap().unwrap(), &b"to a"[..]);
        assert!(a.recv().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn the_header_goes_out_by_itself() {
        let (_stream, mut below) = half(true);
        let mut frame = [0; 59];
        below.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..3], [56, 0, 0]);
    }

    #[tokio::test]
    async fn nothing_is_handed_up_before_the_header_verified() {
        let (mut stream, mut below) = half(true);
        let mut replayed = [0; 59];
        below.read_exact(&mut replayed).await.unwrap();
        below.write_all(&replayed).await.unwrap();
        assert!(matches!(stream.ready().await, Err(Error::InvalidHeader)));
        assert!(stream.send(b"more").await.is_err());
    }

    #[tokio::test]
    async fn ready_waits_for_the_whole_header() {
        let (mut stream, mut below) = half(true);
        let (_, header) = Sealer::new(&handshake_result(false));
        below.write_all(&header[..58]).await.unwrap();
        assert!(is_pending(stream.ready()).await);
        below.write_all(&header[58..]).await.unwrap();
        stream.ready().await.unwrap();
    }

    #[tokio::test]
    async fn an_end_inside_a_frame_is_an_error() {
        for cut in [0, 1, 58, 60, 100] {
            let (mut stream, mut below) = half(true);
            let (mut sealer, header) = Sealer::new(&handshake_result(false));
            let mut bytes = BytesMut::from(&header[..]);
            sealer.seal(&[0; 100], &mut bytes).unwrap();
            below.write_all(&bytes[..cut]).await.unwrap();
            drop(below);
            assert!(matches!(stream.recv().await, Err(Error::Truncated)), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_message_longer_than_allowed_ends_the_stream() {
        let (mut a, mut b) = pair(1 << 20);
        b.set_max_message(100);
        a.send(&[0; 100]).await.unwrap();
        a.send(&[0; 101]).await.unwrap();
        assert_eq!(b.recv().await.unwrap().unwrap().len(), 100);
        assert!(matches!(b.recv().await, Err(Error::FrameLength { length: 118, .. })));
        assert!(b.recv().await.is_err());
        while a.recv().await.is_ok_and(|message| message.is_some()) {}
    }

    #[tokio::test]
    async fn a_send_dropped_while_waiting_leaves_the_stream_whole() {
        let (mut a, mut b) = pair(64);
        let large = vec![7; 2 << 20];
        a.send(&large).await.unwrap();
        assert!(is_pending(a.send(b"never")).await);
        let mut batch = BytesMut::zeroed(HEADROOM + TAILROOM);
        assert!(
            is_pending(a.send_in_place(batch.split(), std::slice::from_ref(&(HEADROOM..HEADROOM)))).await
        );
        let receive = tokio::spawn(async move {
            assert_eq!(b.recv().await.unwrap().unwrap(), large);
            b.recv().await.unwrap().unwrap()
        });
        a.send(b"after").await.unwrap();
        assert_eq!(receive.await.unwrap(), &b"after"[..]);
    }

    #[tokio::test]
    #[should_panic(expected = "messages fill the buffer")]
    async fn a_batch_with_a_gap_is_a_mistake() {
        let (mut a, _b) = pair(64);
        let _ =
            a.send_in_place(BytesMut::zeroed(200), std::slice::from_ref(&(HEADROOM..HEADROOM + 16))).await;
    }

    #[tokio::test]
    async fn dropping_an_end_is_no_orderly_end() {
        let (mut a, b) = pair(1 << 20);
        drop(b);
        assert!(a.recv().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn keep_alive_is_sent_when_nothing_else_was() {
        let (mut a, mut b) = pair(1 << 20);
        let interval = Duration::from_secs(5);
        a.set_keep_alive(Some(interval));
        b.ready().await.unwrap();
        let start = tokio::time::Instant::now();
        assert_eq!(b.recv().await.unwrap().unwrap(), &b""[..]);
        assert_eq!(start.elapsed(), interval);

        tokio::time::sleep(Duration::from_secs(4)).await;
        a.send(b"content").await.unwrap();
        assert_eq!(b.recv().await.unwrap().unwrap(), &b"content"[..]);
        let written = tokio::time::Instant::now();
        assert_eq!(b.recv().await.unwrap().unwrap(), &b""[..]);
        assert_eq!(written.elapsed(), interval);

        a.set_keep_alive(None);
        let silence = tokio::time::timeout(Duration::from_secs(60), b.recv()).await;
        assert!(silence.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn with_keep_alive_on_empty_messages_are_the_peers() {
        let (mut a, mut b) = pair(1 << 20);
        b.set_keep_alive(Some(Duration::from_secs(5)));
        a.send(b"").await.unwrap();
        a.control().send_keep_alive();
        a.send(b"content").await.unwrap();
        assert_eq!(b.recv().await.unwrap().unwrap(), &b"content"[..]);
        assert_eq!(a.control().traffic(), Traffic { sent: 3, received: 0 });
        assert_eq!(b.control().traffic(), Traffic { sent: 0, received: 3 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_destroys_what_others_hold() {
        let (mut a, b) = pair(1 << 20);
        let control = a.control();
        let (mut receiver, sender) = b.split();
        a.ready().await.unwrap();
        control.destroy();
        assert!(a.recv().await.is_err());
        assert!(receiver.recv().await.is_ok_and(|message| message.is_none()));
        drop((a, sender));
        control.destroy();
        control.send_keep_alive();
    }
}
