//! Numbers as Redis reads and writes them: strict 64-bit integers, doubles in the words of C's `strtod` and `%.17g`, memory
//! sizes. Long doubles are in [`super::long_double`].

use super::long_double;

/// Reads a 64-bit integer in the only form Redis takes: optional `-`, no leading zeros, no spaces, no `+`.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut magnitude: u64 = 0;
    for &digit in digits {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(value); // 19 digits fit in u64
    }
    if negative {
        if magnitude <= 1 << 63 { Some((magnitude as i64).wrapping_neg()) } else { None }
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Reads a double as C's `strtod` does if that takes all of `text`: decimal, hexadecimal (`0x1p-3`), `inf` and `infinity` in
/// any case. `None` for NaN, for spaces, for what is too large, and for what is so small that it would become zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let unsigned = match text {
        [b'-' | b'+', rest @ ..] => rest,
        _ => text,
    };
    if let [b'0', b'x' | b'X', ..] = unsigned {
        let value = parse_hexadecimal(unsigned)?;
        return Some(if text[0] == b'-' { -value } else { value });
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let is_word = unsigned.first().is_some_and(u8::is_ascii_alphabetic);
    if value.is_nan() || (value.is_infinite() && !is_word) {
        return None;
    }
    (value != 0.0 || !has_digits_but_zero(unsigned)).then_some(value)
}

/// Whether a mantissa (what stands before an exponent) has a digit other than 0.
fn has_digits_but_zero(text: &[u8]) -> bool {
    text.iter().take_while(|byte| !matches!(byte, b'e' | b'E')).any(|byte| (b'1'..=b'9').contains(byte))
}

fn parse_hexadecimal(text: &[u8]) -> Option<f64> {
    let (significand, exponent, sticky) = long_double::hexadecimal(text)?;
    if significand == 0 {
        return Some(0.0);
    }
    // Bits that do not fit are cut here, with "and a bit more" kept as the lowest bit; the last rounding is then the only one.
    let exponent = exponent.clamp(-1_000_000, 1_000_000);
    let top = 128 - significand.leading_zeros() as i32 + exponent; // value < 2^top
    let kept_bits = 53.min(top + 1074);
    if kept_bits < 0 || top > 1024 {
        return None;
    }
    let lowest = top - kept_bits; // power of two of the last bit that is kept
    let shift = lowest - exponent;
    let (kept, up) = if shift <= 0 {
        (significand << -shift, false)
    } else {
        let kept = significand.checked_shr(shift as u32).unwrap_or(0);
        let rest = if shift >= 128 { significand } else { significand & ((1 << shift) - 1) };
        let half = 1u128.checked_shl(shift as u32 - 1).unwrap_or(u128::MAX);
        (kept, rest > half || (rest == half && (sticky || kept & 1 == 1)))
    };
    let mantissa = (kept + u128::from(up)) as f64;
    // Two exact steps: a single power of two below 2^-1022 would itself be subnormal, or zero.
    let value = mantissa * 2f64.powi(lowest / 2) * 2f64.powi(lowest - lowest / 2);
    (value.is_finite() && value != 0.0).then_some(value)
}

/// The text of a double in replies: that of C's `%.17g`, so `3`, `0.10000000000000001`, `1e+20`, `inf`, `-inf`, `nan`.
pub fn format_f64(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    if value.fract() == 0.0 && value.abs() < 1e15 {
        // `%g` keeps the sign of zero.
        let sign = if value == 0.0 && value.is_sign_negative() { "-" } else { "" };
        return format!("{sign}{}", value as i64);
    }
    let text = format!("{value:.16e}");
    let (mantissa, exponent) = text.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a small integer");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0');
    if !(-4..17).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}e{exponent_sign}{:02}", exponent.abs());
    }
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    }
    let whole_len = exponent as usize + 1;
    if digits.len() <= whole_len {
        return format!("{sign}{digits}{}", "0".repeat(whole_len - digits.len()));
    }
    let (whole, fraction) = digits.split_at(whole_len);
    format!("{sign}{whole}.{fraction}")
}

/// Reads a memory size: a number and perhaps `b`, `k` (1000), `kb` (1024), `m`, `mb`, `g`, `gb`, in any case.
/// An empty text is 0, as in Redis; what does not fit 64 bits with its unit is refused, where Redis
/// wraps around.
pub fn parse_memory(text: &[u8]) -> Option<u64> {
    let digits_len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(digits_len);
    let unit: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    // As C's strtoull: too long a number is the largest.
    let number =
        digits.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    number.checked_mul(unit)
}

/// A memory size in the largest unit that divides it: `100mb`, `1gb`, `1500`.
pub fn format_memory(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_form() {
        for (text, value) in
            [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(parse_i64(text.as_bytes()), Some(value));
        }
        for text in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_are_read_as_strtod_reads_them() {
        for (text, value) in [
            ("3", 3.0),
            ("+3.5", 3.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("-1e3", -1000.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("-0x1.8p1", -3.0),
            ("0x1p-1074", 5e-324),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000081p0", 1.000_000_000_000_000_2),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0e500", 0.0),
            ("0x0p99999", 0.0),
            ("1e-320", 1e-320),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "1e",
            ".",
            "0x",
            "0x1p",
            "1e400",
            "-1e400",
            "1e-400",
            "0x1p1024",
            "0x1p-1076",
            "abc",
            "infinit",
            "1,5",
            "--1",
            "+-1",
        ] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_are_written_as_percent_17_g_writes_them() {
        // Each was answered by redis-server 7.0.15 (ZRANGE WITHSCORES).
        for (value, text) in [
            (3.0, "3"),
            (0.1, "0.10000000000000001"),
            (0.3, "0.29999999999999999"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (123_456_789_012_345_678.0, "1.2345678901234568e+17"),
            (1e-5, "1.0000000000000001e-05"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (12_345_678.125, "12345678.125"),
            (5e-324, "4.9406564584124654e-324"),
            (-2.5, "-2.5"),
            (0.0001, "0.0001"),
            (-0.0, "-0"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(format_f64(value), text);
        }
    }

    #[test]
    fn memory_sizes_have_two_kinds_of_units() {
        for (text, bytes) in [
            ("100MB", 104_857_600),
            ("1gb", 1 << 30),
            ("1k", 1000),
            ("1kb", 1024),
            ("7b", 7),
            ("", 0),
            ("18446744073709551616", u64::MAX),
        ] {
            assert_eq!(parse_memory(text.as_bytes()), Some(bytes), "{text}");
        }
        for text in
            ["-1", "+1", "1t", " 1", "1.5mb", "1mbb", "x", "99999999999999999gb", "18446744073709551616kb"]
        {
            assert_eq!(parse_memory(text.as_bytes()), None, "{text}");
        }
        assert_eq!([100 << 20, 1 << 30, 1500, 0].map(format_memory), ["100mb", "1gb", "1500", "0"]);
    }
}
