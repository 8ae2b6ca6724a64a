#![no_main]

#[path = "../../tests/fuzzing/ats_events.rs"]
mod ats_events;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ats_events::run(data));
