//! How many elements registers tell of: Otmar Ertl's improved raw estimator.

use super::{INDEX_BITS, REGISTERS};

/// Bits of a hash that a register sees.
const VALUE_BITS: usize = 64 - INDEX_BITS as usize;
/// 1 / (2 ln 2).
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// The estimate from all registers.
pub fn of(registers: &[u8]) -> u64 {
    let mut histogram = [0_u32; 64];
    registers.iter().for_each(|&value| histogram[usize::from(value)] += 1);
    let all = REGISTERS as f64;
    let mut sum = all * tau((all - f64::from(histogram[VALUE_BITS + 1])) / all);
    for value in (1..=VALUE_BITS).rev() {
        sum += f64::from(histogram[value]);
        sum *= 0.5;
    }
    sum += all * sigma(f64::from(histogram[0]) / all);
    (ALPHA * all * all / sum).round() as u64
}

/// What registers that could not count further stand for.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z.to_bits() == before.to_bits() {
            return z / 3.0;
        }
    }
}

/// What registers that saw nothing stand for.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z.to_bits() == before.to_bits() {
            return z;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_seen_is_nothing_counted() {
        let mut registers = [0; REGISTERS];
        assert_eq!(of(&registers), 0);
        registers[77] = 1;
        assert_eq!(of(&registers), 1);
    }

    #[test]
    fn registers_at_their_end_end_no_loop() {
        assert!(of(&[VALUE_BITS as u8 + 1; REGISTERS]) > 1 << 60);
    }
}
