//! Replays what fuzzing found worth keeping.

#[path = "common/fuzzing/packet.rs"]
mod packet;
#[path = "common/fuzzing/stream.rs"]
mod stream;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files = 0;
    for file in std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
        run(&std::fs::read(file.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 0, "{} is not empty", corpus.display());
}

#[test]
fn packets_of_the_corpus_are_read_or_not() {
    replay("udx_packet", packet::run);
}

#[test]
fn a_stream_survives_the_corpus() {
    replay("udx_stream", stream::run);
}
