#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "one target uses one property")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::report(data));
