//! Noise handshake over Ed25519 and encrypted message streams, as the Hyperswarm network speaks them.
//!
//! # Layout
//! - [`KeyPair`], [`verify`], [`hash`], [`keyed_hash`], [`namespace`]: identities and hashes.
//! - [`Handshake`]: Noise IK and XX, bytes in and bytes out.
//! - [`secretstream`]: libsodium's `crypto_secretstream_xchacha20poly1305`, in place.
//! - `frame`: the frames, behind a length of three bytes, that a stream is cut into.
//! - `message`: what one side of a stream sends and accepts: the 56-byte header, then messages.
//! - [`secretbox`]: the box that hyperdht seals what it says about hole punching in.
//!
//! None of the above performs I/O or reads a clock. On top of them:
//! - [`SecretStream`], [`Receiver`], [`Sender`], [`Control`]: an encrypted stream over a [`Transport`].
//! - Transports: [`udx::Stream`], and [`Io`] for anything that is `AsyncRead + AsyncWrite`.

pub mod secretbox;
pub mod secretstream;

mod error;
mod frame;
mod handshake;
mod hashing;
mod io;
mod keys;
mod message;
mod receiver;
mod sender;
mod shared;
mod stream;
mod symmetric;
mod transport;
mod udx_stream;
mod xx;

pub use error::Error;
pub use handshake::{Handshake, HandshakeResult};
pub use hashing::{hash, keyed_hash, namespace};
pub use io::{Io, IoReader, IoWriter};
pub use keys::{KeyPair, PublicKey, SEED_LEN, SIGNATURE_LEN, verify};
pub use message::{HEADROOM, MAX_MESSAGE, TAILROOM};
pub use receiver::Receiver;
pub use sender::{Control, Sender};
pub use shared::Traffic;
pub use stream::SecretStream;
pub use transport::{ChunkReader, ChunkWriter, Transport};

#[cfg(test)]
mod vectors;
