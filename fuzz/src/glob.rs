//! Glob patterns: the answer is that of an oracle which tries everything, for patterns and texts of any bytes.
//!
//! Input: options (bit 0: case does not matter) · length of the pattern · pattern · text.

use larder::base::glob;

/// What one byte of the text may be.
enum Element {
    /// Any number of bytes.
    Star,
    /// One byte for which this holds.
    One(Box<dyn Fn(u8) -> bool>),
}

/// The pattern's elements, by the rules that `base::glob` states.
fn elements(pattern: &[u8], ignore_case: bool) -> Vec<Element> {
    let fold = move |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let mut made = Vec::new();
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        made.push(match first {
            b'*' => Element::Star,
            b'?' => Element::One(Box::new(|_| true)),
            b'[' => Element::One(class(&mut rest, ignore_case)),
            b'\\' if !rest.is_empty() => {
                let literal = rest[0];
                rest = &rest[1..];
                Element::One(Box::new(move |byte| fold(byte) == fold(literal)))
            }
            literal => Element::One(Box::new(move |byte| fold(byte) == fold(literal))),
        });
    }
    made
}

/// What stands in brackets, up to and with the closing one.
fn class(rest: &mut &[u8], ignore_case: bool) -> Box<dyn Fn(u8) -> bool> {
    let fold = move |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let negated = rest.first() == Some(&b'^');
    *rest = &rest[usize::from(negated)..];
    let mut taken = [false; 256];
    while let Some(&first) = rest.first() {
        let now: &[u8] = rest;
        let range = match (first, now) {
            (b'\\', [_, literal, ..]) => {
                taken[usize::from(*literal)] = true;
                *rest = &rest[2..];
                continue;
            }
            (b']', _) => break,
            (_, [from, b'-', to, ..]) => {
                let range = if signed(*from) <= signed(*to) { (*from, *to) } else { (*to, *from) };
                *rest = &rest[3..];
                range
            }
            _ => {
                *rest = &rest[1..];
                (first, first)
            }
        };
        let (from, to) = (signed(fold(range.0)), signed(fold(range.1)));
        for byte in 0..=255 {
            let folded = signed(fold(byte));
            taken[usize::from(byte)] |= from <= folded && folded <= to;
        }
    }
    *rest = rest.strip_prefix(b"]").unwrap_or(rest);
    Box::new(move |byte| taken[usize::from(byte)] != negated)
}

/// Bytes are ordered as C's `char` is on most machines.
fn signed(byte: u8) -> i16 {
    if byte < 128 { i16::from(byte) } else { i16::from(byte) - 256 }
}

/// All positions of the text that can be reached, element by element.
fn oracle(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for element in elements(pattern, ignore_case) {
        let mut next = vec![false; text.len() + 1];
        match element {
            Element::Star => {
                let first = reached.iter().position(|&is| is).unwrap_or(reached.len());
                next[first..].fill(true);
            }
            Element::One(takes) => {
                for (at, &byte) in text.iter().enumerate() {
                    next[at + 1] = reached[at] && takes(byte);
                }
            }
        }
        reached = next;
    }
    reached[text.len()]
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let [options, len, bytes @ ..] = data else { return };
    let (pattern, text) = bytes.split_at(usize::from(*len).min(bytes.len()));
    let ignore_case = options & 1 == 1;
    let found = glob::matches(pattern, text, ignore_case);
    assert_eq!(found, oracle(pattern, text, ignore_case), "{pattern:?} {text:?}");
    if glob::is_literal(pattern) {
        assert_eq!(glob::matches(pattern, text, false), pattern == text);
    }
}
