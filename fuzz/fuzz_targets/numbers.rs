//! Target `numbers`, with C as the oracle.

#![no_main]

use larder_fuzz::numbers::{ORACLE, Oracle, check};
use std::ffi::{c_char, c_double, c_int};

unsafe extern "C" {
    fn oracle_double(text: *const c_char, len: usize, value: *mut c_double) -> c_int;
    fn oracle_sum(
        a: *const c_char,
        a_len: usize,
        b: *const c_char,
        b_len: usize,
        out: *mut c_char,
        size: usize,
    ) -> c_int;
    fn oracle_format(value: c_double, out: *mut c_char, size: usize);
    fn oracle_format_long(value: c_double, out: *mut c_char, size: usize);
}

/// Room for the longest long double.
const SIZE: usize = 8 * 1024;

fn filled(fill: impl FnOnce(*mut c_char, usize) -> bool) -> Option<String> {
    let mut text = vec![0_u8; SIZE];
    let is_filled = fill(text.as_mut_ptr().cast(), SIZE);
    let len = text.iter().position(|byte| *byte == 0).unwrap_or(SIZE);
    text.truncate(len);
    is_filled.then(|| String::from_utf8(text).expect("digits"))
}

fn double(text: &[u8]) -> Option<f64> {
    let mut value = 0.0;
    // SAFETY: the pointers are of this text and this value.
    let is_one = unsafe { oracle_double(text.as_ptr().cast(), text.len(), &raw mut value) } != 0;
    is_one.then_some(value)
}

fn sum(a: &[u8], b: &[u8]) -> Option<String> {
    // SAFETY: the pointers are of these texts, `out` has room for `size` bytes.
    filled(|out, size| unsafe {
        oracle_sum(a.as_ptr().cast(), a.len(), b.as_ptr().cast(), b.len(), out, size) != 0
    })
}

fn format(value: f64) -> String {
    // SAFETY: `out` has room for `size` bytes.
    let text = filled(|out, size| unsafe {
        oracle_format(value, out, size);
        true
    });
    text.unwrap_or_default()
}

fn format_long(value: f64) -> String {
    // SAFETY: `out` has room for `size` bytes.
    let text = filled(|out, size| unsafe {
        oracle_format_long(value, out, size);
        true
    });
    text.unwrap_or_default()
}

libfuzzer_sys::fuzz_target!(init: {
    let _ = ORACLE.set(Oracle { double, format, sum, format_long });
}, |data| larder_fuzz::in_time(check, data));
