//! Numbers as text: what is read and what is shown is what the standard library or, under the fuzzer, C's own functions read and
//! show; what is shown reads as itself.
//!
//! Input: what it is · the bytes; of sums two texts with a space between them.

use larder::base::long_double::LongDouble;
use larder::base::number::{format_f64, format_memory, parse_f64, parse_i64, parse_memory};
use larder::config::kind::event_bits;
use std::sync::OnceLock;

/// What C says. A text that Redis would refuse is `None`.
pub struct Oracle {
    /// `strtod`
    pub double: fn(&[u8]) -> Option<f64>,
    /// `%.17g`
    pub format: fn(f64) -> String,
    /// `strtold` of both, and `%.17Lf` of the sum, zeros cut.
    pub sum: fn(&[u8], &[u8]) -> Option<String>,
    /// `%.17Lf`, zeros cut.
    pub format_long: fn(f64) -> String,
}

/// Set where there is one.
pub static ORACLE: OnceLock<Oracle> = OnceLock::new();

fn integers(text: &[u8]) {
    let expected = std::str::from_utf8(text).ok().and_then(|text| {
        let number: i64 = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    });
    assert_eq!(parse_i64(text), expected);
}

fn doubles(text: &[u8]) {
    let found = parse_f64(text);
    if let Some(oracle) = ORACLE.get() {
        assert_eq!(
            found.map(f64::to_bits),
            (oracle.double)(text).map(f64::to_bits),
            "{}",
            String::from_utf8_lossy(text)
        );
    }
    if let Some(value) = found {
        shown(value);
    }
}

fn shown(value: f64) {
    let text = format_f64(value);
    if let Some(oracle) = ORACLE.get() {
        assert_eq!(text, (oracle.format)(value));
    }
    let again = parse_f64(text.as_bytes());
    assert_eq!(again.map(f64::to_bits), (!value.is_nan()).then_some(value.to_bits()), "{text}");
    let long = LongDouble::from_f64(value);
    assert_eq!(long.is_none(), value.is_nan());
    let Some(long) = long else { return };
    let text = long.format();
    if let Some(oracle) = ORACLE.get() {
        assert_eq!(text, (oracle.format_long)(value));
    }
    assert_eq!(LongDouble::parse(text.as_bytes()).map(LongDouble::format), Some(text));
}

fn sums(text: &[u8]) {
    let at = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let (first, second) = (&text[..at], text.get(at + 1..).unwrap_or(b"0"));
    let read = (LongDouble::parse(first), LongDouble::parse(second));
    let sum = match read {
        (Some(first), Some(second)) => {
            let sum = first.add(second);
            assert_eq!(sum, second.add(first));
            sum.map(LongDouble::format)
        }
        _ => None,
    };
    if let Some(oracle) = ORACLE.get() {
        assert_eq!(sum, (oracle.sum)(first, second), "{}", String::from_utf8_lossy(text));
    }
}

fn sizes(text: &[u8]) {
    let lower = text.to_ascii_lowercase();
    let digits = lower.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let unit: Option<u128> = match &lower[digits..] {
        b"" | b"b" => Some(1),
        b"k" => Some(1000),
        b"kb" => Some(1024),
        b"m" => Some(1000 * 1000),
        b"mb" => Some(1024 * 1024),
        b"g" => Some(1000 * 1000 * 1000),
        b"gb" => Some(1024 * 1024 * 1024),
        _ => None,
    };
    let number = lower[..digits]
        .iter()
        .fold(0_u128, |sum, digit| (sum * 10 + u128::from(digit - b'0')).min(u128::from(u64::MAX)));
    let expected = unit.and_then(|unit| u64::try_from(number * unit).ok());
    let found = parse_memory(text);
    assert_eq!(found, expected);
    if let Some(bytes) = found {
        assert_eq!(parse_memory(format_memory(bytes).as_bytes()), Some(bytes));
    }
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    match kind % 5 {
        0 => integers(text),
        1 => doubles(text),
        2 => shown(f64::from_bits(text.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)))),
        3 => sums(text),
        _ => {
            sizes(text);
            assert_eq!(
                event_bits(text).is_some(),
                text.iter().all(|letter| b"Ag$lshzxetdnKEm".contains(letter))
            );
        }
    }
}
