#![no_main]

#[path = "../../tests/fuzzing/ats_answers.rs"]
mod ats_answers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ats_answers::run(data));
