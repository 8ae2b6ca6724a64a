//! The transfer protocol as bytes: frames, the metadata that opens a transfer, and what each side may
//! receive when.
//!
//! On one encrypted stream, in the order META, DATA…, DONE from the sender and one ACK, NACK or ERROR
//! from the receiver; an ERROR may come from either at any time. Where META asks for it, the receiver
//! answers it by RESUME, and DATA begins at the byte named there. Nothing here does I/O or knows the
//! time: bytes go in, in whatever cuts the stream made of them, and events come out.
//!
//! # Layout
//! - `frame_type`: what a frame can be, and how long
//! - `frame`: a frame's bytes
//! - `decoder`: byte runs to frames
//! - `meta`: the metadata that opens a transfer; `resume`: from which byte on its answer wants the file
//! - `receiving`: what a receiver gets from the sender, in which order; `sending`: what a sender gets back
//! - `fault`: what a peer can do wrong, and how it is answered

mod decoder;
mod fault;
mod frame;
mod frame_type;
mod meta;
mod receiving;
mod resume;
mod sending;

pub use decoder::{Decoder, Piece};
pub use fault::Fault;
pub use frame::{DONE, HEADER_LEN, encode, header};
pub use frame_type::{FrameType, MAX_DATA, MAX_META, MAX_REASON, MAX_RESUME};
pub use meta::Meta;
pub use receiving::{Arrival, Receiving};
pub use sending::{Reply, Sending};
