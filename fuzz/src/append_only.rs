//! Logs of Redis, and the manifests that name their files.
//!
//! Input: a manifest and, behind the first zero byte, a log.
//!
//! A manifest that is taken and written anew names the same files, and no path. A log read in small steps gives the same as one read at once: the
//! same commands, the same cut, or the same error at the same place. What is read up to there, written anew, is what stands in the log, but for its
//! notes; and it takes memory in proportion to its length.

use super::memory;
use larder::interop::append_only::{LogReader, Next};
use larder::interop::manifest::Manifest;
use larder::interop::rdb_file::FileError;

/// Bytes of a small step.
const STEP: usize = 16;

/// Words of a command have some bytes each for their place.
fn memory_max(len: usize) -> usize {
    (4 << 20) + 64 * len
}

type Commands = Vec<Vec<Vec<u8>>>;

/// The commands, how it ends, and where another one begins behind a cut.
fn read(bytes: &[u8], step: usize) -> (Commands, Result<Next, FileError>, Option<u64>) {
    let mut log = LogReader::in_steps(bytes, bytes.len() as u64, step);
    let mut commands = Vec::new();
    loop {
        match log.next_command() {
            Ok(Next::Command(at)) => {
                assert!(at < log.offset() && log.offset() <= bytes.len() as u64);
                commands.push(log.words().from(0).map(<[u8]>::to_vec).collect());
            }
            end => {
                let behind = match end {
                    Ok(Next::Cut(_)) => log.next_head().expect("memory can be read"),
                    _ => None,
                };
                return (commands, end, behind);
            }
        }
    }
}

fn written(commands: &Commands) -> Vec<u8> {
    let mut out = Vec::new();
    for words in commands {
        out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

fn check_log(bytes: &[u8]) {
    let whole = memory::within(memory_max(bytes.len()), || read(bytes, bytes.len()));
    let in_steps = memory::within(memory_max(bytes.len()), || read(bytes, STEP));
    assert_eq!(whole, in_steps);
    let again = written(&whole.0);
    if !bytes.contains(&b'#') {
        assert!(bytes.starts_with(&again), "it is what stood there");
    }
    let (commands, end, _) = read(&again, STEP);
    assert_eq!((commands, end), (whole.0, Ok(Next::End)));
    if let Ok(Next::Cut(at)) = whole.1 {
        let up_to_the_cut = read(&bytes[..at as usize], STEP);
        assert_eq!(up_to_the_cut.1, Ok(Next::End));
    }
}

fn check_manifest(text: &[u8]) {
    let Ok(manifest) = memory::within(memory_max(text.len()), || Manifest::read(text)) else { return };
    let mut again = Vec::new();
    for (number, name) in manifest.files().enumerate() {
        assert!(!name.contains(&b'/') && !name.is_empty());
        let kind = if number == 0 && manifest.base.is_some() { 'b' } else { 'i' };
        let name: String = name.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        again.extend_from_slice(format!("file \"{name}\" seq {} type {kind}\n", number + 1).as_bytes());
    }
    match Manifest::read(&again) {
        Ok(read) => assert_eq!(read, manifest),
        Err(error) => assert_eq!(error.reason, "too many bytes", "quotes make a name four times as long"),
    }
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let zero = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    check_manifest(&data[..zero]);
    check_log(data.get(zero + 1..).unwrap_or_default());
}
