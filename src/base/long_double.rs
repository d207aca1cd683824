//! 80-bit extended floating point, which INCRBYFLOAT, HINCRBYFLOAT and GEOPOS compute and print with on x86.
//!
//! Redis adds `long double`s and prints them with 17 digits after the point, trailing zeros cut; Rust has no such type and
//! no crate of ours prints it, so this is the small part that is needed: read, add, print, all correctly rounded (half to even).
//!
//! A finite value is `mantissa × 2^exponent`; the mantissa is 0 or has its top bit set. Subnormals are kept with full
//! precision: they print as zero either way.

use super::big::Big;

/// Longest text that is read, as in Redis.
const MAX_TEXT: usize = 5 * 1024;
/// Largest exponent of a 64-bit integer mantissa: values reach just below 2^16384.
const MAX_EXPONENT: i32 = 16_384 - 64;
/// Half of the smallest subnormal is 2^-16446; what is not above it rounds to zero, which is refused when read.
const MIN_TOP_BIT: i32 = -16_446;
/// Digits after the point.
const DECIMALS: u32 = 17;

/// An x87 extended double that is no NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongDouble {
    /// `-1^negative × mantissa × 2^exponent`
    Finite {
        /// Sign; also of zero.
        negative: bool,
        /// 0, or with bit 63 set.
        mantissa: u64,
        /// Power of two of the mantissa's lowest bit; 0 if the mantissa is.
        exponent: i32,
    },
    /// Infinity.
    Infinite {
        /// Sign.
        negative: bool,
    },
}

impl LongDouble {
    /// Reads what C's `strtold` reads, if that is all of `text`: decimal or hexadecimal digits, `inf` and `infinity` in any case.
    /// `None` for anything else: spaces, NaN, a value too large, or one so small that it would become zero.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= MAX_TEXT {
            return None;
        }
        let (negative, digits) = split_sign(text);
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble::Infinite { negative });
        }
        if let Some((significand, exponent, sticky)) = hexadecimal(digits) {
            return accept(round(negative, significand, exponent, sticky), significand != 0 || sticky);
        }
        let (significand, exponent) = decimal(digits)?;
        let is_zero = significand.is_zero();
        accept(from_decimal(negative, significand, exponent), !is_zero)
    }

    /// The same value; `None` for a NaN.
    pub fn from_f64(value: f64) -> Option<LongDouble> {
        let negative = value.is_sign_negative();
        if value.is_nan() {
            return None;
        }
        if value.is_infinite() {
            return Some(LongDouble::Infinite { negative });
        }
        let bits = value.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let biased = (bits >> 52 & 0x7ff) as i32;
        let (mantissa, exponent) =
            if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
        Some(round(negative, u128::from(mantissa), exponent, false))
    }

    /// Whether this is an infinity.
    pub fn is_infinite(self) -> bool {
        matches!(self, LongDouble::Infinite { .. })
    }

    /// The rounded sum; `None` if it is no number (infinity minus infinity).
    #[expect(clippy::should_implement_trait, reason = "the result is optional")]
    pub fn add(self, other: LongDouble) -> Option<LongDouble> {
        use LongDouble::{Finite, Infinite};
        match (self, other) {
            (Infinite { negative: a }, Infinite { negative: b }) => (a == b).then_some(self),
            (Infinite { .. }, Finite { .. }) => Some(self),
            (Finite { .. }, Infinite { .. }) => Some(other),
            (Finite { mantissa: 0, negative: a, .. }, Finite { mantissa: 0, negative: b, .. }) => {
                Some(Finite { negative: a && b, mantissa: 0, exponent: 0 })
            }
            (Finite { mantissa: 0, .. }, _) => Some(other),
            (_, Finite { mantissa: 0, .. }) => Some(self),
            (
                Finite { negative: na, mantissa: ma, exponent: ea },
                Finite { negative: nb, mantissa: mb, exponent: eb },
            ) => {
                if (ea, ma) >= (eb, mb) {
                    Some(add_finite((na, ma, ea), (nb, mb, eb)))
                } else {
                    Some(add_finite((nb, mb, eb), (na, ma, ea)))
                }
            }
        }
    }

    /// The text Redis shows: 17 digits after the point, without trailing zeros and without a sign of zero.
    pub fn format(self) -> String {
        let (negative, mantissa, exponent) = match self {
            LongDouble::Infinite { negative } => return if negative { "-inf" } else { "inf" }.to_owned(),
            LongDouble::Finite { negative, mantissa, exponent } => (negative, mantissa, exponent),
        };
        let magnitude = if exponent >= 0 {
            let mut big = Big::from(u128::from(mantissa));
            big.shift_left(exponent as u32);
            big.to_decimal()
        } else {
            format_fraction(mantissa, exponent.unsigned_abs())
        };
        if negative && magnitude != "0" { format!("-{magnitude}") } else { magnitude }
    }
}

/// `mantissa / 2^shift` in decimal. Scaled by 10^17 it fits 128 bits, so that one rounded shift does it.
fn format_fraction(mantissa: u64, shift: u32) -> String {
    const SCALE: u128 = 10u128.pow(DECIMALS);
    let scaled = u128::from(mantissa) * SCALE;
    let mut whole = scaled.checked_shr(shift).unwrap_or(0);
    if shift < 128 {
        let rest = scaled & ((1 << shift) - 1);
        let half = 1u128 << (shift - 1);
        whole += u128::from(rest > half || (rest == half && whole & 1 == 1));
    }
    let text = format!("{}.{:017}", whole / SCALE, whole % SCALE);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

type Parts = (bool, u64, i32);

/// Adds two values that are not zero; the first is not the smaller one.
fn add_finite(
    (negative, large, exponent): Parts,
    (other_negative, small, small_exponent): Parts,
) -> LongDouble {
    // 62 bits below the larger mantissa's last: room for the carry above, and what falls out below only matters as "not zero".
    let base = u128::from(large) << 62;
    let distance = (exponent - small_exponent) as u32;
    let wide = u128::from(small) << 62;
    let aligned = wide.checked_shr(distance).unwrap_or(0);
    let sticky = distance >= 128 || (aligned << distance) != wide;
    let sum = if negative == other_negative {
        base + aligned
    } else {
        // What fell out makes the true difference smaller: take one off, the rest of it stays as sticky.
        base - aligned - u128::from(sticky)
    };
    if sum == 0 && !sticky {
        return LongDouble::Finite { negative: false, mantissa: 0, exponent: 0 };
    }
    round(negative, sum, exponent - 62, sticky)
}

/// The nearest value to `significand × 2^exponent` (and a bit more if `sticky`), ties to even.
fn round(negative: bool, significand: u128, exponent: i32, sticky: bool) -> LongDouble {
    if significand == 0 {
        return LongDouble::Finite { negative, mantissa: 0, exponent: 0 };
    }
    let excess = 64 - significand.leading_zeros() as i32; // bits beyond 64
    let (mut mantissa, mut exponent) = if excess <= 0 {
        ((significand << -excess) as u64, exponent + excess)
    } else {
        let kept = (significand >> excess) as u64;
        let rest = significand & ((1 << excess) - 1);
        let half = 1u128 << (excess - 1);
        let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
        match kept.checked_add(u64::from(up)) {
            Some(mantissa) => (mantissa, exponent + excess),
            None => (1 << 63, exponent + excess + 1),
        }
    };
    if exponent > MAX_EXPONENT {
        return LongDouble::Infinite { negative };
    }
    let top_bit = exponent + 63;
    if top_bit < MIN_TOP_BIT || (top_bit == MIN_TOP_BIT && mantissa == 1 << 63) {
        (mantissa, exponent) = (0, 0);
    }
    LongDouble::Finite { negative, mantissa, exponent }
}

/// Refuses what left the range when it was read.
fn accept(value: LongDouble, is_not_zero: bool) -> Option<LongDouble> {
    match value {
        LongDouble::Infinite { .. } => None,
        LongDouble::Finite { mantissa: 0, .. } if is_not_zero => None,
        LongDouble::Finite { .. } => Some(value),
    }
}

/// The nearest value to `significand × 10^exponent`.
fn from_decimal(negative: bool, significand: Big, exponent: i32) -> LongDouble {
    if significand.is_zero() || exponent < -12_000 {
        return LongDouble::Finite { negative, mantissa: 0, exponent: 0 };
    }
    if exponent > 5_000 {
        return LongDouble::Infinite { negative };
    }
    if exponent >= 0 {
        let mut value = significand;
        value.multiply_by_power_of_ten(exponent as u32);
        let (top, shift, sticky) = value.top_bits();
        return round(negative, top, shift, sticky);
    }
    let power = exponent.unsigned_abs();
    if let (Some(number), true) = (significand.to_u64(), power <= 18) {
        // The usual case without big numbers: the quotient has 67 bits or more.
        let divisor = 10u128.pow(power);
        let shift = 64 + number.leading_zeros();
        let dividend = u128::from(number) << shift;
        return round(negative, dividend / divisor, -(shift as i32), !dividend.is_multiple_of(divisor));
    }
    let mut divisor = Big::from(1);
    divisor.multiply_by_power_of_ten(power);
    let (quotient, shift, sticky) = significand.divide(&divisor);
    round(negative, quotient, shift, sticky)
}

/// The sign and what follows it.
fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// Reads `digits[.digits][e[+-]digits]` as an integer and a power of ten.
fn decimal(text: &[u8]) -> Option<(Big, i32)> {
    let (mut significand, mut exponent, mut any) = (Big::from(0), 0i32, false);
    let (mut group, mut group_len) = (0u32, 0u32);
    let mut rest = text;
    let mut after_point = false;
    while let [byte, tail @ ..] = rest {
        match byte {
            b'0'..=b'9' => {
                any = true;
                group = group * 10 + u32::from(byte - b'0');
                group_len += 1;
                if group_len == 9 {
                    significand.multiply_add(1_000_000_000, group);
                    (group, group_len) = (0, 0);
                }
                exponent -= i32::from(after_point);
            }
            b'.' if !after_point => after_point = true,
            _ => break,
        }
        rest = tail;
    }
    significand.multiply_add(10u32.pow(group_len), group);
    if !any {
        return None;
    }
    if let [b'e' | b'E', tail @ ..] = rest {
        exponent = exponent.saturating_add(exponent_value(tail)?);
    } else if !rest.is_empty() {
        return None;
    }
    Some((significand, exponent))
}

/// Reads `0xhex[.hex][p[+-]digits]` as an integer, a power of two, and whether lower bits were lost.
pub(super) fn hexadecimal(text: &[u8]) -> Option<(u128, i32, bool)> {
    let [b'0', b'x' | b'X', digits @ ..] = text else { return None };
    let mut rest = digits;
    let (mut significand, mut exponent, mut sticky) = (0u128, 0i32, false);
    let (mut any, mut after_point) = (false, false);
    while let [byte, tail @ ..] = rest {
        if *byte == b'.' && !after_point {
            after_point = true;
        } else if let Some(digit) = char::from(*byte).to_digit(16) {
            any = true;
            if significand >> 120 == 0 {
                significand = significand << 4 | u128::from(digit);
                exponent -= 4 * i32::from(after_point);
            } else {
                sticky |= digit != 0;
                exponent += 4 * i32::from(!after_point);
            }
        } else {
            break;
        }
        rest = tail;
    }
    if !any {
        return None;
    }
    if let [b'p' | b'P', tail @ ..] = rest {
        exponent = exponent.saturating_add(exponent_value(tail)?);
    } else if !rest.is_empty() {
        return None;
    }
    Some((significand, exponent, sticky))
}

/// `[+-]digits`, kept within ±1,000,000: beyond every range either way.
fn exponent_value(text: &[u8]) -> Option<i32> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |sum: i32, digit| (sum * 10 + i32::from(digit - b'0')).min(1_000_000));
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let read = |text: &str| LongDouble::parse(text.as_bytes()).expect("a number");
        read(a).add(read(b)).expect("a sum").format()
    }

    #[test]
    fn sums_are_those_of_redis() {
        // Each line was answered by redis-server 7.0.15.
        assert_eq!(sum("3.0e3", "200"), "3200");
        assert_eq!(sum("0.1", "0.2"), "0.3");
        assert_eq!(sum("10.50", "0.1"), "10.6");
        assert_eq!(sum("5.0e3", "2.0e2"), "5200");
        assert_eq!(sum("1", "-1"), "0");
        assert_eq!(sum("-0.5", "0.5"), "0");
        assert_eq!(sum("0", "-0"), "0");
        assert_eq!(sum("0x1p3", "0"), "8");
    }

    #[test]
    fn a_half_rounds_to_even_in_print() {
        assert_eq!(sum("1e-17", "0"), "0.00000000000000001");
        assert_eq!(sum("4e-18", "0"), "0");
        assert_eq!(sum("1e20", "0"), "100000000000000000000");
        assert_eq!(sum("-1e-30", "0"), "0");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "nan",
            "1e",
            "e1",
            ".",
            "0x",
            "0xp1",
            "1e5000",
            "1e-5000",
            "0x1p-17000",
            "--1",
            "1_0",
            "1\0",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        for text in ["inf", "-INFINITY", "+1", ".5", "5.", "0x.8", "0X1P+2", "1e-4940", "1e4932", "0e9999"] {
            assert!(LongDouble::parse(text.as_bytes()).is_some(), "{text:?}");
        }
    }

    #[test]
    fn infinities_add_up_or_not() {
        let inf = LongDouble::Infinite { negative: false };
        assert_eq!(inf.add(LongDouble::Infinite { negative: true }), None);
        assert_eq!(inf.add(inf), Some(inf));
        let large = LongDouble::parse(b"1e4932").expect("within range");
        assert_eq!(large.add(large), Some(inf));
    }

    #[test]
    fn doubles_become_long_doubles() {
        for (value, text) in
            [(0.0, "0"), (-0.0, "0"), (1.5, "1.5"), (0.1, "0.10000000000000001"), (1e22, "1e22")]
        {
            let text = if text == "1e22" { "10000000000000000000000" } else { text };
            assert_eq!(LongDouble::from_f64(value).map(LongDouble::format).as_deref(), Some(text));
        }
        assert_eq!(LongDouble::from_f64(f64::NAN), None);
    }
}
