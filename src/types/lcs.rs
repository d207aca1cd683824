//! The longest common subsequence of two strings, by dynamic programming over a table of lengths.

/// A run of bytes that both strings have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where it begins in the first string.
    pub a: usize,
    /// Where it begins in the second string.
    pub b: usize,
    /// Its bytes.
    pub len: usize,
}

/// Bytes the table takes for strings of these lengths; `None` if that is no number.
pub fn table_bytes(a: usize, b: usize) -> Option<usize> {
    (a + 1).checked_mul(b + 1)?.checked_mul(size_of::<u32>())
}

/// The length of the longest common subsequence, and the runs it consists of, last first.
pub fn longest(a: &[u8], b: &[u8]) -> (usize, Vec<Match>) {
    let table = lengths(a, b);
    let width = b.len() + 1;
    let (mut i, mut j) = (a.len(), b.len());
    let mut matches: Vec<Match> = Vec::new();
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            match matches.last_mut() {
                Some(last) if last.a == i + 1 && last.b == j + 1 => {
                    *last = Match { a: i, b: j, len: last.len + 1 };
                }
                _ => matches.push(Match { a: i, b: j, len: 1 }),
            }
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    (table[a.len() * width + b.len()] as usize, matches)
}

/// Row i, column j: the length for the first i bytes of `a` and the first j of `b`.
fn lengths(a: &[u8], b: &[u8]) -> Vec<u32> {
    let width = b.len() + 1;
    let mut table = vec![0_u32; (a.len() + 1) * width];
    for (i, byte) in a.iter().enumerate() {
        let (above, row) = table[i * width..(i + 2) * width].split_at_mut(width);
        for (j, other) in b.iter().enumerate() {
            row[j + 1] = if byte == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation() {
        let (len, matches) = longest(b"ohmytext", b"mynewtext");
        assert_eq!(len, 6);
        assert_eq!(matches, [Match { a: 4, b: 5, len: 4 }, Match { a: 2, b: 0, len: 2 }]);
        assert_eq!(longest(b"", b"x"), (0, vec![]));
    }
}
