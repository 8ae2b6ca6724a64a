#![no_main]

#[path = "../../crates/protocol/tests/fuzzing/offers.rs"]
mod offers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| offers::run(data));
