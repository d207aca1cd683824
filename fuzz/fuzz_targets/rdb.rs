//! Target `rdb`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::in_time(larder_fuzz::rdb::check, data));
