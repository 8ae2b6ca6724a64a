//! Replays what fuzzing found worth keeping.

#[path = "fuzzing/messages.rs"]
mod messages;
#[path = "fuzzing/noise.rs"]
mod noise;
#[path = "../../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn a_handshake_of_the_corpus_is_whole_or_fails() {
    replay(include_str!("../../../fuzz/corpus/noise"), noise::run);
}

#[test]
fn messages_of_the_corpus_arrive_as_they_were_sent_or_not_at_all() {
    replay(include_str!("../../../fuzz/corpus/messages"), messages::run);
}
