//! Target `append_only`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::in_time(larder_fuzz::append_only::check, data));
