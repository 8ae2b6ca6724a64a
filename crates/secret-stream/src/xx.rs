//! The XX handshake over a transport: each message in a frame, no payloads.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};

use crate::frame::{FrameDecoder, encode_length};
use crate::transport::{ChunkReader, ChunkWriter};
use crate::{Error, Handshake, HandshakeResult, KeyPair};

/// Bytes of the three messages without payloads: e; e, sealed s, sealed nothing; sealed s, sealed nothing.
const MESSAGE_LENGTHS: [usize; 3] = [32, 32 + 48 + 16, 48 + 16];

/// Runs the handshake; the result, and bytes that arrived after the last message.
pub(crate) async fn run(
    is_initiator: bool,
    keys: KeyPair,
    reader: &mut impl ChunkReader,
    writer: &mut impl ChunkWriter,
) -> Result<(HandshakeResult, BytesMut), Error> {
    let handshake =
        if is_initiator { Handshake::initiator_xx(keys, &[]) } else { Handshake::responder_xx(keys, &[]) };
    let result = exchange(handshake, is_initiator, reader, writer).await;
    if result.is_err() {
        writer.destroy();
    }
    result
}

async fn exchange(
    mut handshake: Handshake,
    is_initiator: bool,
    reader: &mut impl ChunkReader,
    writer: &mut impl ChunkWriter,
) -> Result<(HandshakeResult, BytesMut), Error> {
    let mut decoder = FrameDecoder::new(0..=0);
    for (index, length) in MESSAGE_LENGTHS.into_iter().enumerate() {
        if (index % 2 == 0) == is_initiator {
            let message = handshake.write(&[])?;
            writer.write_chunk(Bytes::from([&encode_length(message.len())[..], &message].concat()))?;
        } else {
            decoder.accept(length..=length);
            let message = read_frame(&mut decoder, reader).await?;
            handshake.read(&message)?;
        }
    }
    let result = handshake.finished().ok_or(Error::HandshakeOutOfTurn)?.clone();
    Ok((result, decoder.into_rest()))
}

async fn read_frame(decoder: &mut FrameDecoder, reader: &mut impl ChunkReader) -> Result<BytesMut, Error> {
    loop {
        if let Some(frame) = decoder.next_frame()? {
            return Ok(frame);
        }
        let chunk = poll_fn(|cx| reader.poll_read_chunk(cx)).await?.ok_or(Error::Truncated)?;
        decoder.push(&chunk);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::task::{Context, Poll};

    use super::*;
    use crate::message::tests::{sealer, strings};
    use crate::message::{LEAD, MAX_MESSAGE, Opener};
    use crate::vectors::{Case, array};
    use crate::{HEADROOM, TAILROOM};

    /// Reads what was recorded, keeps what is written.
    #[derive(Default)]
    struct Recorded {
        incoming: VecDeque<Bytes>,
        outgoing: Vec<u8>,
        destroyed: bool,
    }

    impl ChunkReader for Recorded {
        fn poll_read_chunk(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
            Poll::Ready(Ok(self.incoming.pop_front()))
        }

        fn destroy(&mut self) {
            self.destroyed = true;
        }
    }

    impl ChunkWriter for Recorded {
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
            self.outgoing.extend_from_slice(&chunk);
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
            self.destroyed = true;
        }
    }

    fn recorded(bytes: &[u8], step: usize) -> Recorded {
        let incoming = bytes.chunks(step).map(Bytes::copy_from_slice).collect();
        Recorded { incoming, ..Recorded::default() }
    }

    /// Everything that each side writes, and what it understands of the other's bytes, cut every `step`
    /// bytes.
    async fn check_side(is_initiator: bool, step: usize) {
        let case = Case::load("secret-stream-xx-bytes");
        let (own, other) = if is_initiator { ("initiator", "responder") } else { ("responder", "initiator") };
        let keys = |name: String| KeyPair::from_seed(&array(&case.value["inputs"][name]));
        let static_keys = keys(format!("{own}_seed"));
        let handshake = if is_initiator {
            Handshake::initiator_xx(static_keys, &[])
        } else {
            Handshake::responder_xx(static_keys, &[])
        };
        let handshake = handshake.with_ephemeral(keys(format!("{own}_ephemeral_seed")));

        let mut reader = recorded(&strings(&case.value["hex"][other]).concat(), step);
        let mut writer = Recorded::default();
        let (result, rest) = exchange(handshake, is_initiator, &mut reader, &mut writer).await.unwrap();
        assert_eq!(result.hash, array(&case.value["handshake_hash"]));
        assert_eq!(result.remote_public_key, array(&case.value[format!("{own}_remotePublicKey")]));

        let header = array(&case.value["inputs"][format!("secretstream_header_{own}")]);
        let (mut sealer, header) = sealer(&result, header);
        writer.write_chunk(Bytes::copy_from_slice(&header)).unwrap();
        let plaintexts =
            |side| case.value["inputs"].get(format!("plaintexts_{side}")).map(strings).unwrap_or_default();
        for plaintext in plaintexts(own) {
            let mut buffer = [&[0; HEADROOM][..], &plaintext, &[0; TAILROOM]].concat();
            sealer.seal_in_place(&mut buffer).unwrap();
            writer.write_chunk(Bytes::from(buffer).slice(LEAD..)).unwrap();
        }
        assert_eq!(writer.outgoing, strings(&case.value["hex"][own]).concat());

        let mut opener = Opener::new(&result, MAX_MESSAGE);
        opener.push(&rest);
        for chunk in reader.incoming {
            opener.push(&chunk);
        }
        let mut opened = Vec::new();
        while let Some(message) = opener.next_message().unwrap() {
            opened.push(message.to_vec());
        }
        assert_eq!(opened, plaintexts(other));
        assert!(opener.is_at_boundary());
    }

    #[tokio::test]
    async fn bytes_of_both_sides() {
        for step in [1, 2, 7, 100, 10_000] {
            check_side(true, step).await;
            check_side(false, step).await;
        }
    }

    #[tokio::test]
    async fn another_length_is_refused_at_once() {
        let mut writer = Recorded::default();
        let mut reader = recorded(&[33, 0, 0], 3);
        let result = run(false, KeyPair::generate(), &mut reader, &mut writer).await;
        assert!(matches!(result, Err(Error::FrameLength { length: 33, min: 32, max: 32 })));
        assert!(writer.destroyed);
    }

    #[tokio::test]
    async fn an_end_half_way_is_noticed() {
        let mut writer = Recorded::default();
        let mut reader = recorded(&[32, 0, 0, 1, 2], 5);
        let result = run(false, KeyPair::generate(), &mut reader, &mut writer).await;
        assert!(matches!(result, Err(Error::Truncated)));
        assert!(writer.destroyed);
    }
}
