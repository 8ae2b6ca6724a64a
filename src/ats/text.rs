//! Text from the network, made fit to be shown.

pub(super) use protocol::text::one_line as printable;

/// The most characters of a foreign text that an error repeats: two lines of a terminal.
pub(super) const SHOWN: usize = 200;
