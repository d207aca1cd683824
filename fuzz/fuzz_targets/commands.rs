//! Target `commands`. Every other mutation puts a line in, or in place of another, that the command table's syntax trees give.

#![no_main]

mod grammar;

use grammar::{Random, line};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| larder_fuzz::in_time(larder_fuzz::commands::check, data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random(u64::from(seed));
    if random.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut lines: Vec<Vec<u8>> =
        data[..size].split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = random.below(lines.len() + 1);
    let replaces = at < lines.len() && random.below(3) == 0;
    lines.splice(at..at + usize::from(replaces), [line(&mut random).into_bytes()]);
    let made = lines.concat();
    if made.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..made.len()].copy_from_slice(&made);
    made.len()
});
