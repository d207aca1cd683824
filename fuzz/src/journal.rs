//! The journal: bytes of any kind end in records whose checksums hold, in a torn tail that is cut, or in an error that changes
//! nothing; a byte that was damaged never shows; payloads of any kind are read or refused.
//!
//! Input: what it is · options · the bytes.

use super::input::Input;
use larder::store::journal::{
    Recovered, Section, decode_mark, decode_payload, encode_section, put_mark, put_number, read_all, salvage,
};
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes in front of a segment's first record.
const HEADER: usize = 20;
/// Bytes in front of a record's payload.
const HEAD: usize = 8;

/// CRC-32C, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ (0x82F6_3B78 & 0_u32.wrapping_sub(sum & 1)))
    })
}

fn header(position: u64) -> Vec<u8> {
    let mut bytes = b"LARDERJ\x03".to_vec();
    bytes.extend_from_slice(&position.to_le_bytes());
    bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
    bytes
}

fn record(payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_le_bytes();
    let sum = checksum(&[&len[..], payload].concat());
    [&len[..], &sum.to_le_bytes(), payload].concat()
}

/// The length of the whole record at the head of `bytes`, if there is one.
fn whole_record(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let payload = bytes.get(HEAD..HEAD.checked_add(len)?)?;
    let sum = checksum(&[&bytes[..4], payload].concat());
    (len > 0 && bytes[4..8] == sum.to_le_bytes()).then_some(HEAD + len)
}

fn segment(folder: &Path, position: usize) -> PathBuf {
    folder.join(format!("{position:020}.log"))
}

/// Reads the journal in `folder`: positions of its records, and the outcome.
fn read(folder: &Path) -> (Vec<usize>, Option<Recovered>) {
    let mut positions = Vec::new();
    let outcome = read_all(folder, 0, |record| {
        let _ = (record.decode(), record.only_partition());
        positions.push(record.position as usize);
        Ok(())
    });
    (positions, outcome.ok())
}

/// One segment of any bytes.
fn any_segment(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = segment(folder.path(), 0);
    let written = [&header(0)[..], bytes].concat();
    fs::write(&path, &written).expect("written");
    let salvaged = salvage(folder.path()).expect("it can be read");
    for record in salvaged.records() {
        let payload = &bytes[record.position as usize..];
        assert_eq!(whole_record(payload), Some(HEAD + record.payload().len()));
    }
    let (positions, outcome) = read(folder.path());
    let (mut good, mut given, mut marked) = (0, Vec::new(), 0);
    while let Some(len) = whole_record(&bytes[good..]) {
        if decode_mark(&bytes[good + HEAD..good + len], good as u64).is_some() {
            marked = (good + len) as u64;
        } else {
            given.push(good);
        }
        good += len;
    }
    assert_eq!(positions, given, "all whole records, and no others");
    assert!(positions.len() <= salvaged.records().count());
    let left = fs::read(&path).expect("it is there");
    match outcome {
        None => assert_eq!(left, written),
        Some(recovered) => {
            let cut = (bytes.len() - good) as u64;
            let expected = Recovered { end: good as u64, last_segment: Some(0), marked, cut };
            assert_eq!(recovered, expected);
            assert_eq!(left, written[..HEADER + good]);
        }
    }
}

/// A good journal of some records in one or two segments, of which one byte is damaged, or whose end is torn off. With a mark
/// behind them that says that they were synced, or without.
fn damaged(mut input: Input) {
    let (at, with, is_torn, roll_after) =
        (input.number(), input.byte(), input.flag(), usize::from(input.byte()));
    let is_synced = roll_after % 2 == 1;
    let mut payloads = Vec::new();
    while !input.is_empty() && payloads.len() < 40 {
        payloads.push(input.string());
    }
    payloads.retain(|payload| !payload.is_empty());
    let records: Vec<Vec<u8>> = payloads.iter().map(|payload| record(payload)).collect();
    let first_len: usize = records.iter().take(roll_after).map(Vec::len).sum();
    let has_two = roll_after < records.len() && roll_after > 0;
    let mut segments = vec![(0, [header(0), records[..roll_after.min(records.len())].concat()].concat())];
    if has_two {
        segments.push((first_len, [header(first_len as u64), records[roll_after..].concat()].concat()));
    } else {
        segments[0].1 = [header(0), records.concat()].concat();
    }
    let end = records.iter().map(Vec::len).sum::<usize>() as u64;
    let mut mark = Vec::new();
    put_mark(&mut mark, end, if is_synced { end } else { 0 });
    segments.last_mut().expect("one at least").1.extend(record(&mark));
    let folder = tempfile::tempdir().expect("a folder");
    let write = |segments: &[(usize, Vec<u8>)]| {
        for (position, bytes) in segments {
            fs::write(segment(folder.path(), *position), bytes).expect("written");
        }
    };
    write(&segments);
    let starts: Vec<usize> =
        records.iter().scan(0, |end, record| Some(std::mem::replace(end, *end + record.len()))).collect();
    let (positions, outcome) = read(folder.path());
    assert_eq!(positions, starts);
    let last_segment = segments.last().map(|(position, _)| *position as u64);
    let behind = end + record(&mark).len() as u64;
    assert_eq!(outcome, Some(Recovered { end: behind, last_segment, marked: behind, cut: 0 }));

    let (number, is_last) = if at >> 63 == 1 && has_two { (0, false) } else { (segments.len() - 1, true) };
    let (position, bytes) = &mut segments[number];
    let at = at as usize % bytes.len();
    if is_torn {
        bytes.truncate(at);
    } else {
        bytes[at] ^= with.max(1);
    }
    // The first record that is not whole any more; a header that is damaged takes all of its segment.
    let hit = at.checked_sub(HEADER).map(|offset| *position + offset);
    let first_bad = match hit {
        Some(hit) => starts.iter().zip(&records).position(|(start, record)| start + record.len() > hit),
        None => starts.iter().position(|start| start >= position),
    };
    let first_bad = first_bad.unwrap_or(starts.len());
    write(&segments);
    let (positions, outcome) = read(folder.path());
    assert_eq!(positions, starts[..first_bad], "what stands before the damage, and nothing else");
    // Whether bytes that look like a record stand in the segment that was damaged.
    let range = if !has_two {
        0..payloads.len()
    } else if is_last {
        roll_after..payloads.len()
    } else {
        0..roll_after
    };
    let has_record =
        payloads[range].iter().any(|payload| payload.len() > 4 && decode_payload(payload).is_some());
    // What is left says that what is missing was synced; but for the mark itself, which is nobody's.
    let keeps_mark = !is_torn || !is_last;
    let hits_mark = hit.is_some_and(|hit| hit as u64 >= end);
    let lost_head = !is_torn && hit.is_none();
    if is_synced && keeps_mark && !hits_mark && end > 0 {
        assert_eq!(outcome, None, "this is no torn tail");
    } else if lost_head {
        // Records, or bytes that look like one, say that the header was there once.
        assert!(outcome.is_none() || !has_record, "the header was there once");
    } else if hit.is_some() {
        let end = starts.get(first_bad).map_or(end, |start| *start as u64);
        assert_eq!(outcome.map(|recovered| recovered.end), Some(end), "a torn tail is cut");
    }
}

/// The sections as bytes.
fn encoded(sections: &[Section]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_number(&mut bytes, sections.len() as u64);
    for section in sections {
        encode_section(&mut bytes, &section.head, section.operations.iter());
    }
    bytes
}

fn payload(bytes: &[u8]) {
    let limit = (4 << 10) + 256 * bytes.len();
    let Some(sections) = super::memory::within(limit, || decode_payload(bytes)) else { return };
    if sections.is_empty() {
        return; // a mark
    }
    let written = encoded(&sections);
    assert!(written.len() <= bytes.len(), "numbers have no shorter form than ours");
    let again = decode_payload(&written).expect("ours");
    assert_eq!(encoded(&again), written);
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 3 {
        0 => payload(bytes),
        1 => any_segment(bytes),
        _ => damaged(Input::new(bytes)),
    }
}
