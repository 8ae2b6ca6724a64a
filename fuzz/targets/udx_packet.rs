#![no_main]

#[path = "../../crates/udx/tests/common/fuzzing/packet.rs"]
mod packet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| packet::run(data));
