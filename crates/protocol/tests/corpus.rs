//! Replays what fuzzing found worth keeping.

#[path = "fuzzing/offers.rs"]
mod offers;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn offers_of_the_corpus_are_read_or_refused() {
    replay::replay(include_str!("../../../fuzz/corpus/offers"), offers::run);
}
