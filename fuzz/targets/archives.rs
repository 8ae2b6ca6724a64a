#![no_main]

#[path = "../../tests/fuzzing/archives.rs"]
mod archives;

libfuzzer_sys::fuzz_target!(|data: &[u8]| archives::run(data));
