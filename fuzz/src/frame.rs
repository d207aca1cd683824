//! `Frame`: a reply as its bytes say, read by a decoder that takes nothing but the one form each reply has.

/// A reply of either protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// `+`, `-` or `(`, with the mark.
    Line(u8, Vec<u8>),
    /// `:`
    Integer(i64),
    /// `,`: the text, as there is more than one for a number.
    Double(Vec<u8>),
    /// `#`
    Bool(bool),
    /// `$` or `=`, with the mark.
    Bulk(u8, Vec<u8>),
    /// `$-1`, `*-1` or `_`, with the mark.
    Null(u8),
    /// `*`, `~`, `>`, `%` or `|`, with the mark; pairs as two elements in turn. What attributes belong to follows them.
    Aggregate(u8, Vec<Frame>),
}

/// Deeper replies are refused: nothing here answers with more than a few levels.
const DEPTH_MAX: usize = 16;

/// The frame at the start of `bytes` and how long it is; `None` if there is none in its only form.
pub fn decode(bytes: &[u8]) -> Option<(Frame, usize)> {
    let mut rest = bytes;
    let frame = read(&mut rest, DEPTH_MAX)?;
    Some((frame, bytes.len() - rest.len()))
}

fn read(rest: &mut &[u8], depth: usize) -> Option<Frame> {
    let mark = take(rest, 1)?[0];
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = take(rest, end)?;
    take(rest, 2)?;
    if line.contains(&b'\r') || line.contains(&b'\n') {
        return None;
    }
    Some(match mark {
        b'+' | b'-' => Frame::Line(mark, line.to_vec()),
        b'(' => Frame::Line(
            mark,
            line.strip_prefix(b"-").unwrap_or(line).iter().all(u8::is_ascii_digit).then(|| line.to_vec())?,
        ),
        b':' => Frame::Integer(canonical(line)?),
        b',' => Frame::Double(line.to_vec()),
        b'#' => Frame::Bool(match line {
            b"t" => true,
            b"f" => false,
            _ => return None,
        }),
        b'_' => line.is_empty().then_some(Frame::Null(mark))?,
        b'$' | b'*' if line == b"-1" => Frame::Null(mark),
        b'$' | b'=' => {
            let text = take(rest, usize::try_from(canonical(line)?).ok()?)?;
            let is_fine = take(rest, 2)? == b"\r\n" && (mark == b'$' || text.get(3) == Some(&b':'));
            is_fine.then(|| Frame::Bulk(mark, text.to_vec()))?
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            let len = usize::try_from(canonical(line)?).ok()?;
            let count = if matches!(mark, b'%' | b'|') { len.checked_mul(2)? } else { len };
            let depth = depth.checked_sub(1)?;
            let mut items = Vec::new();
            for _ in 0..count + usize::from(mark == b'|') {
                items.push(read(rest, depth)?);
            }
            Frame::Aggregate(mark, items)
        }
        _ => return None,
    })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

/// A number in its only spelling.
fn canonical(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}
