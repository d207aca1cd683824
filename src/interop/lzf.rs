//! LZF, the light compression of strings in the RDB format.
//!
//! ```text
//! 000lllll                              l + 1 literal bytes follow
//! lllooooo oooooooo           l in 1..=6: copy l + 2 bytes from o + 1 bytes back
//! 111ooooo llllllll oooooooo             copy l + 9 bytes from o + 1 bytes back
//! ```
//!
//! The compressor keeps the last place of each hashed group of three bytes and takes the first match it finds.

/// A copy reaches back so far at most.
const WINDOW: usize = 1 << 13;
const LITERALS_MAX: usize = 32;
const MATCH_MAX: usize = 264;
/// Three compressed bytes give 264 at most: what claims more is not worth allocating for.
const RATIO_MAX: usize = MATCH_MAX / 3;
/// Bits of a place in the table, by the length of the input: a short one must not pay for clearing a large table.
const TABLE_BITS: (u32, u32) = (6, 14);

/// Decompresses `input` to exactly `length` bytes; `None` if it is not what it claims to be.
pub fn decompress(input: &[u8], length: usize) -> Option<Vec<u8>> {
    if length > input.len().checked_mul(RATIO_MAX)? {
        return None;
    }
    let mut out = Vec::with_capacity(length);
    let mut rest = input;
    while let Some((&control, after)) = rest.split_first() {
        rest = after;
        let control = control as usize;
        if control < LITERALS_MAX {
            let (literals, after) = rest.split_at_checked(control + 1)?;
            rest = after;
            out.extend_from_slice(literals);
        } else {
            let mut take = || {
                let (&byte, after) = rest.split_first()?;
                rest = after;
                Some(byte as usize)
            };
            let copied = match control >> 5 {
                7 => take()? + 9,
                short => short + 2,
            };
            let back = ((control & 31) << 8 | take()?) + 1;
            copy_back(&mut out, back, copied)?;
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

/// Appends `len` bytes from `back` bytes before the end; what it appends may be among them.
fn copy_back(out: &mut Vec<u8>, back: usize, len: usize) -> Option<()> {
    let start = out.len().checked_sub(back)?;
    if back >= len {
        out.extend_from_within(start..start + len);
    } else {
        for at in start..start + len {
            out.push(out[at]);
        }
    }
    Some(())
}

/// Compresses `input`; `None` if the result would be longer than `max`.
pub fn compress(input: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(max.min(input.len()));
    let bits = (usize::BITS - input.len().leading_zeros()).clamp(TABLE_BITS.0, TABLE_BITS.1);
    let mut table = vec![0_u32; 1 << bits]; // position + 1 of the last group with this hash
    let mut literals_from = 0;
    let mut at = 0;
    while let Some(group) = input.get(at..at + 3) {
        let value = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        let slot = &mut table[(value.wrapping_mul(2_654_435_761) >> (32 - bits)) as usize];
        let candidate = (*slot as usize).checked_sub(1).filter(|&candidate| at - candidate <= WINDOW);
        *slot = u32::try_from(at + 1).ok()?;
        let len = candidate.map_or(0, |candidate| common_len(&input[candidate..], &input[at..]));
        if len < 3 {
            at += 1;
        } else {
            write_literals(&input[literals_from..at], &mut out);
            write_match(at - candidate.unwrap_or(0), len, &mut out);
            at += len;
            literals_from = at;
        }
        if out.len() > max {
            return None;
        }
    }
    write_literals(&input[literals_from..], &mut out);
    (out.len() <= max).then_some(out)
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take(MATCH_MAX).take_while(|(a, b)| a == b).count()
}

fn write_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
}

fn write_match(back: usize, len: usize, out: &mut Vec<u8>) {
    let offset = back - 1;
    if len < 9 {
        out.push(((len - 2) << 5 | offset >> 8) as u8);
    } else {
        out.push((7 << 5 | offset >> 8) as u8);
        out.push((len - 9) as u8);
    }
    out.push(offset as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(input in prop::collection::vec(0_u8..3, 0..3000)) {
            let compressed = compress(&input, usize::MAX).expect("has room");
            prop_assert_eq!(decompress(&compressed, input.len()), Some(input));
        }

        #[test]
        fn no_bytes_make_it_panic(input in prop::collection::vec(any::<u8>(), 0..60), length in 0_usize..5000) {
            let out = decompress(&input, length);
            prop_assert!(out.is_none_or(|out| out.len() == length));
        }
    }

    #[test]
    fn repetition_is_short_and_noise_is_refused() {
        let long = vec![b'x'; 100_000];
        let compressed = compress(&long, long.len() - 4).expect("shorter");
        assert!(compressed.len() < 2000);
        assert_eq!(decompress(&compressed, long.len()), Some(long));
        let noise: Vec<u8> = (0..=255).collect();
        assert_eq!(compress(&noise, noise.len() - 4), None);
        assert_eq!(decompress(&[0xFF; 12], usize::MAX), None);
    }
}
