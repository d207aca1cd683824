//! Unsigned integers of any size, as far as reading and printing long doubles needs them: up to some 50,000 bits, quadratic.

use std::fmt::Write as _;

/// An unsigned integer: 32-bit digits, the lowest first, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Big(Vec<u32>);

impl From<u128> for Big {
    fn from(value: u128) -> Big {
        let mut made = Big((0..4).map(|index| (value >> (32 * index)) as u32).collect());
        made.trim();
        made
    }
}

impl Big {
    /// Whether this is 0.
    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, if it fits.
    pub fn to_u64(&self) -> Option<u64> {
        match self.0[..] {
            [] => Some(0),
            [low] => Some(u64::from(low)),
            [low, high] => Some(u64::from(high) << 32 | u64::from(low)),
            _ => None,
        }
    }

    /// `self × factor + addend`
    pub fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for digit in &mut self.0 {
            let value = u64::from(*digit) * u64::from(factor) + carry;
            *digit = value as u32;
            carry = value >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// `self × 10^power`
    pub fn multiply_by_power_of_ten(&mut self, power: u32) {
        for _ in 0..power / 9 {
            self.multiply_add(1_000_000_000, 0);
        }
        self.multiply_add(10u32.pow(power % 9), 0);
    }

    /// `self × 2^bits`
    pub fn shift_left(&mut self, bits: u32) {
        self.multiply_add(1 << (bits % 32), 0);
        if !self.is_zero() {
            self.0.splice(0..0, std::iter::repeat_n(0, (bits / 32) as usize));
        }
    }

    /// The highest bits (128 at most, 97 at least unless there are fewer), the power of two they stand for, and whether bits below them are set.
    pub fn top_bits(&self) -> (u128, i32, bool) {
        let below = self.0.len().saturating_sub(4);
        let top = self.0[below..].iter().rev().fold(0, |sum, &digit| sum << 32 | u128::from(digit));
        (top, 32 * below as i32, self.0[..below].iter().any(|&digit| digit != 0))
    }

    /// A quotient of 67 bits or more as `quotient × 2^shift`, and whether a remainder is left. Neither number is 0.
    pub fn divide(&self, divisor: &Big) -> (u128, i32, bool) {
        const BITS: i32 = 68;
        let shift = self.bits() as i32 - divisor.bits() as i32 - BITS;
        let (mut rest, mut divisor) = (self.clone(), divisor.clone());
        // rest / divisor is between 2^(BITS-1) and 2^(BITS+1); bit by bit from the top.
        if shift < 0 {
            rest.shift_left(shift.unsigned_abs());
        } else {
            divisor.shift_left(shift.unsigned_abs());
        }
        let mut quotient = 0u128;
        divisor.shift_left(BITS as u32);
        for _ in 0..=BITS {
            quotient <<= 1;
            if rest.subtract_if_not_less(&divisor) {
                quotient |= 1;
            }
            rest.shift_left(1);
        }
        (quotient, shift, !rest.is_zero())
    }

    /// Decimal digits.
    pub fn to_decimal(&self) -> String {
        let mut rest = self.clone();
        let mut groups = Vec::new();
        while !rest.is_zero() {
            groups.push(rest.divide_by(1_000_000_000));
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            let _ = write!(text, "{group:09}"); // a String takes everything
        }
        text
    }

    fn bits(&self) -> u32 {
        self.0.last().map_or(0, |top| 32 * self.0.len() as u32 - top.leading_zeros())
    }

    /// Divides by a small number and returns the remainder.
    fn divide_by(&mut self, divisor: u32) -> u32 {
        let mut rest = 0u64;
        for digit in self.0.iter_mut().rev() {
            let value = rest << 32 | u64::from(*digit);
            *digit = (value / u64::from(divisor)) as u32;
            rest = value % u64::from(divisor);
        }
        self.trim();
        rest as u32
    }

    /// Subtracts `other` if the result is not negative; says whether it did.
    fn subtract_if_not_less(&mut self, other: &Big) -> bool {
        let is_less =
            self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()));
        if is_less == std::cmp::Ordering::Less {
            return false;
        }
        let mut borrow = false;
        for (index, digit) in self.0.iter_mut().enumerate() {
            let other_digit = other.0.get(index).copied().unwrap_or(0);
            let (value, first) = digit.overflowing_sub(other_digit);
            let (value, second) = value.overflowing_sub(u32::from(borrow));
            *digit = value;
            borrow = first || second;
        }
        self.trim();
        true
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_text_of_powers() {
        let mut big = Big::from(1);
        big.shift_left(128);
        assert_eq!(big.to_decimal(), "340282366920938463463374607431768211456");
        let mut big = Big::from(7);
        big.multiply_by_power_of_ten(30);
        assert_eq!(big.to_decimal(), format!("7{}", "0".repeat(30)));
        assert_eq!(Big::from(0).to_decimal(), "0");
    }

    #[test]
    fn quotients_have_their_bits() {
        let (quotient, shift, rest) = Big::from(1 << 100).divide(&Big::from(1 << 3));
        assert!(!rest);
        assert_eq!(quotient.checked_shl(shift.unsigned_abs()).filter(|_| shift >= 0), Some(1 << 97));
        let (quotient, shift, rest) = Big::from(1).divide(&Big::from(3));
        assert!(rest && quotient.leading_zeros() <= 128 - 67);
        assert!((quotient as f64 * 2f64.powi(shift) - 1.0 / 3.0).abs() < 1e-15);
    }
}
