//! Replays what fuzzing found worth keeping.

#[path = "common/fuzzing/packet.rs"]
mod packet;
#[path = "../../../fuzz/replay.rs"]
mod replay;
#[path = "common/fuzzing/stream.rs"]
mod stream;

use replay::replay;

#[test]
fn packets_of_the_corpus_are_read_or_not() {
    replay(include_str!("../../../fuzz/corpus/udx_packet"), packet::run);
}

#[test]
fn a_stream_survives_the_corpus() {
    replay(include_str!("../../../fuzz/corpus/udx_stream"), stream::run);
}
