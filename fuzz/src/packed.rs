//! Packed lists and compressed texts by themselves, past the checks that stand in front of them: what is read can be written and
//! read again, nothing grows beyond bounds, and what is compressed comes back.
//!
//! Input: what it is · options (bit 0: lengths and counts are put right first) · the bytes.

use super::memory;
use larder::interop::lzf;
use larder::interop::packed::{ListpackWriter, Take, visit_listpack, visit_ziplist, visit_zipmap};
use larder::interop::reader::{Malformed, Reader, write_length, write_string};

type Visit = for<'t, 'a> fn(&'a [u8], Take<'t, 'a>) -> Result<(), Malformed>;

fn read(visit: Visit, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut elements = Vec::new();
    visit(bytes, &mut |element| {
        elements.push(element.into_owned());
        Ok(())
    })?;
    Ok(elements)
}

/// Whatever can be read can be written as a listpack and read again.
fn survives(visit: Visit, bytes: &[u8]) {
    let Ok(elements) = memory::within((4 << 10) + 64 * bytes.len(), || read(visit, bytes)) else { return };
    let mut writer = ListpackWriter::default();
    elements.iter().for_each(|element| writer.push(element));
    let written = writer.finish();
    assert_eq!(read(visit_listpack, &written), Ok(elements));
}

/// Puts the total length at the start right, makes the count unknown and ends the list.
fn put_right(bytes: &mut Vec<u8>, count_at: usize) {
    bytes.push(0xFF);
    let total = (bytes.len() as u32).to_le_bytes();
    if let Some(head) = bytes.get_mut(..count_at + 2) {
        head[..4].copy_from_slice(&total);
        head[count_at..].copy_from_slice(&[0xFF; 2]);
    }
}

fn compressed_texts(bytes: &[u8]) {
    let compressed = lzf::compress(bytes, usize::MAX).expect("there is room");
    assert!(compressed.len() <= bytes.len() + bytes.len().div_ceil(32));
    assert_eq!(lzf::decompress(&compressed, bytes.len()).as_deref(), Some(bytes));
    assert_eq!(lzf::decompress(&compressed, bytes.len() + 1), None);
}

fn strings(bytes: &[u8]) {
    let mut written = Vec::new();
    write_string(bytes, &mut written);
    assert!(written.len() <= bytes.len() + 9);
    let mut reader = Reader::new(&written);
    assert_eq!(reader.string().as_deref(), Ok(bytes));
    assert!(reader.rest().is_empty());
    let mut reader = Reader::new(bytes);
    while let Ok(string) = reader.string() {
        assert!(string.len() <= 88 * bytes.len() + 11);
    }
    if let Ok(length) = Reader::new(bytes).length() {
        let mut written = Vec::new();
        write_length(length, &mut written);
        assert_eq!(Reader::new(&written).length(), Ok(length));
    }
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let [kind, options, bytes @ ..] = data else { return };
    let mut bytes = bytes.to_vec();
    let is_put_right = options & 1 == 1;
    match kind % 6 {
        0 => {
            if is_put_right {
                put_right(&mut bytes, 4);
            }
            survives(visit_listpack, &bytes);
        }
        1 => {
            if is_put_right {
                put_right(&mut bytes, 8);
            }
            survives(visit_ziplist, &bytes);
        }
        2 => survives(visit_zipmap, &bytes),
        3 => {
            let length = usize::from(*options) << 4;
            let text = memory::within((4 << 10) + 128 * bytes.len(), || lzf::decompress(&bytes, length));
            assert!(text.is_none_or(|text| text.len() == length));
        }
        4 => compressed_texts(&bytes),
        _ => strings(&bytes),
    }
}
