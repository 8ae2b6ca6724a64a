#![no_main]

#[path = "../../crates/udx/tests/common/fuzzing/stream.rs"]
mod stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| stream::run(data));
