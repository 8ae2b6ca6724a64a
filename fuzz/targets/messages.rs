#![no_main]

#[path = "../../crates/secret-stream/tests/fuzzing/messages.rs"]
mod messages;

libfuzzer_sys::fuzz_target!(|data: &[u8]| messages::run(data));
