//! Glob patterns as KEYS, SCAN MATCH, PSUBSCRIBE and CONFIG GET take them: `*`, `?`, `[a-z]`, `[^x]`, `\` before a literal.
//!
//! Semantics are those of Redis, its corners included: an unclosed `[` ends with the pattern, a `\` inside brackets makes
//! the next byte literal in its own case, and a text without bytes is matched by an empty pattern and by `*` alone.
//!
//! Every element but `*` takes exactly one byte, so only the last `*` ever needs to be tried again: two positions, no
//! recursion, at most pattern length × text length steps, and [`STEPS_MAX`] ends even that.

/// Bytes of the pattern that are looked at before the answer is "no match", besides [`STEPS_A_BYTE`] for each byte of the text.
/// Honest patterns stay far below; a pattern and a key of megabytes would hold up everybody for minutes.
const STEPS_MAX: usize = 1 << 24;
/// See [`STEPS_MAX`].
const STEPS_A_BYTE: usize = 8;

/// More `*` than this match nothing, as in Redis, which goes one level deeper for each.
const STARS_MAX: u32 = 1000;

/// Whether `text` as a whole matches `pattern`; with `ignore_case` ASCII letters match in either case.
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    let (mut at, mut position) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None; // element after the star, text position it was tried at
    let (mut steps, mut stars) = (STEPS_MAX + STEPS_A_BYTE * text.len(), 0);
    while position < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            if at == pattern.len() {
                return true;
            }
            stars += u32::from(pattern[at] != b'*');
            if stars > STARS_MAX {
                return false;
            }
            last_star = Some((at, position));
            continue;
        }
        let (len, takes) = element(&pattern[at..], text[position], ignore_case);
        if takes {
            at += len;
            position += 1;
        }
        steps = steps.saturating_sub(len.max(1));
        if steps == 0 {
            return false;
        }
        if takes {
            continue;
        }
        let Some((element_after_star, tried)) = last_star else { return false };
        (at, position) = (element_after_star, tried + 1);
        last_star = Some((at, position));
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// Whether a pattern has no special bytes, so that it can only match itself.
pub fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// Length of the element at the start of `pattern`, and whether it takes `byte`.
#[inline]
fn element(pattern: &[u8], byte: u8, ignore_case: bool) -> (usize, bool) {
    match *pattern {
        [] => (0, false),
        [b'?', ..] => (1, true),
        [b'[', ..] => class(pattern, byte, ignore_case),
        [b'\\', literal, ..] => (2, same(literal, byte, ignore_case)),
        [literal, ..] => (1, same(literal, byte, ignore_case)),
    }
}

#[inline]
fn same(a: u8, b: u8, ignore_case: bool) -> bool {
    a == b || (ignore_case && a.eq_ignore_ascii_case(&b))
}

/// Length of the bracket expression at the start of `pattern`, and whether it takes `byte`.
fn class(pattern: &[u8], byte: u8, ignore_case: bool) -> (usize, bool) {
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = if negated { 2 } else { 1 };
    let mut found = false;
    loop {
        match pattern[at..] {
            [] => break,
            [b'\\', literal, ..] => {
                found |= literal == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                found |= in_range(from, to, byte, ignore_case);
                at += 3;
            }
            [literal, ..] => {
                found |= same(literal, byte, ignore_case);
                at += 1;
            }
        }
    }
    (at, found != negated)
}

/// The ends of a range may be swapped. Bytes are ordered as C's signed `char`: `[\xff-A]` takes what lies between -1 and 65.
fn in_range(from: u8, to: u8, byte: u8, ignore_case: bool) -> bool {
    let (from, to) = if from as i8 <= to as i8 { (from, to) } else { (to, from) };
    let place = |byte: u8| if ignore_case { byte.to_ascii_lowercase() as i8 } else { byte as i8 };
    (place(from)..=place(to)).contains(&place(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_stars_match_nothing() {
        let text = "a".repeat(5000);
        check(&"*?".repeat(1000), &[&text], &[]);
        check(&"*?".repeat(1001), &[], &[&text]);
    }

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for text in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} must match {text}");
        }
        for text in no {
            assert!(!matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} must not match {text}");
        }
    }

    #[test]
    fn stars_and_question_marks() {
        check("", &[""], &["a"]);
        check("*", &["", "a", "abc"], &[]);
        check("h?llo", &["hello", "hallo"], &["hllo", "heello"]);
        check("h*llo", &["hllo", "heeeello"], &["hell"]);
        check("a*b*c", &["abc", "aXbYc", "abbcc", "abcbc"], &["acb", "ab"]);
        check("a**", &["a", "ab"], &["", "b"]);
        check("*a", &["a", "ba", "aaa"], &["", "ab"]);
        check("**", &["a"], &[""]);
        check("*?", &["a", "ab"], &[]);
    }

    #[test]
    fn brackets() {
        check("h[ae]llo", &["hello", "hallo"], &["hillo"]);
        check("h[^e]llo", &["hallo"], &["hello"]);
        check("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]);
        check("h[b-a]llo", &["hallo", "hbllo"], &["hcllo"]);
        check("[a-]", &["a", "]"], &["b", "-"]); // a range up to "]", and then unclosed
        check("[]a", &[], &["a", "]a", "]"]);
        check("[\\]]", &["]"], &["\\"]);
        check("[abc", &["a", "c"], &["d", "ab"]);
        check("[", &[], &["["]);
        check("[^", &["x"], &["xy"]);
        check("[^]", &["x"], &[]);
        check("[a-", &["a", "-"], &["b"]);
        check("[\\", &["\\"], &["a"]);
    }

    #[test]
    fn backslashes() {
        check("\\*", &["*"], &["a", "\\*"]);
        check("a\\", &["a\\"], &["a"]);
        check("\\\\x", &["\\x"], &["x"]);
    }

    #[test]
    fn case() {
        assert!(matches(b"MAX*", b"maxmemory", true));
        assert!(!matches(b"MAX*", b"maxmemory", false));
        assert!(matches(b"[A-C]x", b"bX", true));
        assert!(!matches(b"[\\A]", b"a", true), "an escaped byte in brackets keeps its case");
    }

    #[test]
    fn hard_patterns_end_soon() {
        let text = [b'a'; 5000];
        let pattern = [b"*a".repeat(2500), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &text, false));
        let pattern = [vec![b'*'; 100_000], b"b".to_vec()].concat();
        assert!(!matches(&pattern, &text, false));
        let pattern = [b"*".to_vec(), vec![b'a'; 2500], b"b".to_vec()].concat();
        assert!(!matches(&pattern, &text, false));
    }

    #[test]
    fn a_pattern_and_a_text_of_megabytes_end_soon() {
        let text = vec![b'a'; 2 << 20];
        let classes = [b"*[".to_vec(), vec![b'x'; 1 << 20], b"]".to_vec()].concat();
        assert!(!matches(&classes, &text, false));
        let run = [b"*".to_vec(), vec![b'a'; 1 << 20], b"b".to_vec()].concat();
        assert!(!matches(&run, &text, false));
        let far = [text, b"b".to_vec()].concat();
        assert!(matches(b"*b", &far, false) && matches(b"*a[^a]", &far, false));
    }
}
