//! Replays what fuzzing found worth keeping.

#[path = "fuzzing/frames.rs"]
mod frames;
#[path = "fuzzing/names.rs"]
mod names;
#[path = "../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn frames_of_the_corpus_are_taken_in_order_or_refused() {
    replay(include_str!("../fuzz/corpus/frames"), frames::run);
}

#[test]
fn names_of_the_corpus_are_made_safe() {
    replay(include_str!("../fuzz/corpus/names"), names::run);
}
