//! `SlowLog`: the last commands that took long (SLOWLOG), each with its words cut to a bounded size.

use parking_lot::Mutex;
use std::collections::VecDeque;

/// Words kept of a command; the last one says how many more there were.
const WORDS_MAX: usize = 32;
/// Bytes kept of a word; behind them it says how many more there were.
const WORD_BYTES_MAX: usize = 128;

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    /// Its number, growing for the life of the process.
    pub id: u64,
    /// When it ended, seconds since 1970.
    pub unix_s: i64,
    /// How long it took, microseconds.
    pub duration_us: u64,
    /// Its words, cut.
    pub words: Vec<Vec<u8>>,
    /// Address of the client.
    pub address: String,
    /// Name of the client.
    pub client_name: Vec<u8>,
}

/// The last commands that took long.
#[derive(Default)]
pub struct SlowLog {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    newest_first: VecDeque<SlowCommand>,
    next_id: u64,
}

impl SlowLog {
    /// Adds a command and keeps the newest `entries_max`. Whether it was slow enough is the caller's to know.
    pub fn record<'a>(
        &self,
        entries_max: usize,
        unix_s: i64,
        duration_us: u64,
        words: impl ExactSizeIterator<Item = &'a [u8]>,
        address: &str,
        client_name: &[u8],
    ) {
        let words = cut(words);
        let (address, client_name) = (address.to_owned(), client_name.to_vec());
        let mut entries = self.entries.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.newest_first.push_front(SlowCommand { id, unix_s, duration_us, words, address, client_name });
        entries.newest_first.truncate(entries_max);
    }

    /// The newest `count` commands (all of them, without a count), newest first.
    pub fn get(&self, count: Option<usize>) -> Vec<SlowCommand> {
        self.entries.lock().newest_first.iter().take(count.unwrap_or(usize::MAX)).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.lock().newest_first.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all of them; numbers go on.
    pub fn reset(&self) {
        self.entries.lock().newest_first.clear();
    }
}

fn cut<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let total = words.len();
    let kept = if total > WORDS_MAX { WORDS_MAX - 1 } else { total };
    let mut cut: Vec<Vec<u8>> = words.take(kept).map(cut_word).collect();
    if total > kept {
        cut.push(format!("... ({} more arguments)", total - kept).into_bytes());
    }
    cut
}

fn cut_word(word: &[u8]) -> Vec<u8> {
    if word.len() <= WORD_BYTES_MAX {
        return word.to_vec();
    }
    let rest = format!("... ({} more bytes)", word.len() - WORD_BYTES_MAX);
    [&word[..WORD_BYTES_MAX], rest.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(log: &SlowLog, words: &[&[u8]]) {
        log.record(4, 1000, 20_000, words.iter().copied(), "1.2.3.4:5", b"me");
    }

    #[test]
    fn the_newest_are_kept_and_numbers_go_on() {
        let log = SlowLog::default();
        for _ in 0..6 {
            record(&log, &[b"PING"]);
        }
        assert_eq!(log.get(None).iter().map(|entry| entry.id).collect::<Vec<_>>(), [5, 4, 3, 2]);
        log.reset();
        assert!(log.is_empty());
        record(&log, &[b"PING"]);
        assert_eq!(log.get(Some(10))[0].id, 6);
    }

    #[test]
    fn words_are_cut_as_in_redis() {
        let log = SlowLog::default();
        let words: Vec<&[u8]> = std::iter::repeat_n(&b"x"[..], 35).collect();
        record(&log, &words);
        let kept = &log.get(Some(1))[0].words;
        assert_eq!((kept.len(), kept[31].as_slice()), (32, &b"... (4 more arguments)"[..]));
        record(&log, &[b"SET", &[b'A'; 129]]);
        let kept = &log.get(Some(1))[0].words;
        assert!(kept[1].ends_with(b"A... (1 more bytes)"));
    }
}
