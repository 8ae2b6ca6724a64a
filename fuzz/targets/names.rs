#![no_main]

#[path = "../../tests/fuzzing/names.rs"]
mod names;

libfuzzer_sys::fuzz_target!(|data: &[u8]| names::run(data));
