//! Replays what fuzzing found worth keeping.

#[path = "fuzzing/ats_answers.rs"]
mod ats_answers;
#[path = "fuzzing/ats_events.rs"]
mod ats_events;
#[path = "fuzzing/frames.rs"]
mod frames;
#[path = "fuzzing/names.rs"]
mod names;
#[path = "../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn answers_of_the_corpus_are_read_alike_in_any_pieces() {
    replay(include_str!("../fuzz/corpus/ats_answers"), ats_answers::run);
}

#[test]
fn events_of_the_corpus_are_read_or_passed_over() {
    replay(include_str!("../fuzz/corpus/ats_events"), ats_events::run);
}

#[test]
fn frames_of_the_corpus_are_taken_in_order_or_refused() {
    replay(include_str!("../fuzz/corpus/frames"), frames::run);
}

#[test]
fn names_of_the_corpus_are_made_safe() {
    replay(include_str!("../fuzz/corpus/names"), names::run);
}
