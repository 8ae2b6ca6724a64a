#![no_main]

#[path = "../../crates/secret-stream/tests/fuzzing/noise.rs"]
mod noise;

libfuzzer_sys::fuzz_target!(|data: &[u8]| noise::run(data));
