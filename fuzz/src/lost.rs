//! Files of what failovers lost: any bytes are such a file or an error, and nothing of a file is taken that does not fit its
//! checksum.
//!
//! Input: a byte that says how, then a whole file, or the lines between the first and the last, which are put around them.

use larder::replication::lost::line::{End, Header, Line, VERSION, Word};
use larder::replication::lost::read::{Reader, State};

/// A file with these lines, whole.
fn around(lines: &[u8]) -> Vec<u8> {
    let header = Header { larder_lost: VERSION, ..Header::default() };
    let mut bytes = serde_json::to_vec(&header).expect("is JSON");
    bytes.push(b'\n');
    bytes.extend_from_slice(lines);
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    let crc32c = format!("{:08x}", crc32c::crc32c(&bytes));
    let end = End { operation: Word::End, keys: 0, missing: None, crc32c };
    bytes.extend(serde_json::to_vec(&end).expect("is JSON"));
    bytes.push(b'\n');
    bytes
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let bytes = if how % 2 == 0 { data.to_vec() } else { around(data) };
    let Ok(mut reader) = Reader::new(&bytes[..]) else { return };
    let mut count = 1;
    while let Ok(Some(line)) = reader.next_line() {
        count += 1;
        let text = serde_json::to_vec(&line).expect("is JSON");
        assert_eq!(serde_json::from_slice::<Line>(&text).expect("ours"), line);
        if let Ok(state) = State::of(&line) {
            assert_eq!(line.name(), Ok(Some(state.name)));
            assert_eq!(state.held.is_none(), line.deleted);
        }
    }
    if reader.end().is_some() {
        assert_eq!(bytes.split(|byte| *byte == b'\n').count(), count + 2, "all was read");
        assert!(matches!(reader.next_line(), Ok(None)));
    }
}
