//! A command's arguments: ranges of the connection's buffer, and a cursor that reads them like the syntax line.

use super::error::{self, ErrorReply};
use crate::base::number;

/// Start and end of an argument in its buffer.
pub type Range = (u32, u32);

/// The words of one command, its name first.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buffer: &'a [u8],
    ranges: &'a [Range],
}

impl<'a> Args<'a> {
    /// The words at `ranges` of `buffer`.
    pub const fn new(buffer: &'a [u8], ranges: &'a [Range]) -> Args<'a> {
        Args { buffer, ranges }
    }

    /// Number of words, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is no word at all.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The word at `index`.
    ///
    /// # Panics
    /// If there is none: the arity was checked before.
    #[inline]
    pub fn at(&self, index: usize) -> &'a [u8] {
        let (start, end) = self.ranges[index];
        &self.buffer[start as usize..end as usize]
    }

    /// The word at `index`, if there is one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let &(start, end) = self.ranges.get(index)?;
        Some(&self.buffer[start as usize..end as usize])
    }

    /// The words from `index` on.
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let buffer = self.buffer;
        self.ranges[index.min(self.ranges.len())..].iter().map(move |&(s, e)| &buffer[s as usize..e as usize])
    }

    /// The same words from `index` on, as arguments of their own (a subcommand's own view).
    pub fn tail(&self, index: usize) -> Args<'a> {
        Args { buffer: self.buffer, ranges: &self.ranges[index.min(self.ranges.len())..] }
    }

    /// A cursor on the word at `index`.
    pub fn cursor(&self, index: usize) -> Cursor<'a> {
        Cursor { args: *self, next: index }
    }

    /// The word at `index` as a 64-bit integer, or Redis's "not an integer" error.
    #[inline]
    pub fn int(&self, index: usize) -> Result<i64, ErrorReply> {
        number::parse_i64(self.at(index)).ok_or(error::NOT_AN_INTEGER)
    }

    /// The word at `index` as a C `int`, or Redis's error for what is no integer, or too large a one.
    pub fn int_32(&self, index: usize) -> Result<i32, ErrorReply> {
        i32::try_from(self.int(index)?).map_err(|_| error::OUT_OF_INT)
    }

    /// The word at `index` as a double, or Redis's "not a valid float" error.
    pub fn double(&self, index: usize) -> Result<f64, ErrorReply> {
        number::parse_f64(self.at(index)).ok_or(error::NOT_A_FLOAT)
    }
}

/// Reads arguments from left to right.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    args: Args<'a>,
    next: usize,
}

impl<'a> Cursor<'a> {
    /// Whether all words are read.
    pub fn is_done(&self) -> bool {
        self.next >= self.args.len()
    }

    /// How many words are left.
    pub fn left(&self) -> usize {
        self.args.len() - self.next.min(self.args.len())
    }

    /// Index of the word that comes next.
    pub fn position(&self) -> usize {
        self.next
    }

    /// The next word without taking it.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.args.get(self.next)
    }

    /// Takes the next word; a syntax error if there is none.
    pub fn word(&mut self) -> Result<&'a [u8], ErrorReply> {
        let word = self.peek().ok_or(error::SYNTAX)?;
        self.next += 1;
        Ok(word)
    }

    /// Takes the next word if it is `token`, in upper or lower case.
    pub fn eat(&mut self, token: &str) -> bool {
        let is_it = self.peek().is_some_and(|word| word.eq_ignore_ascii_case(token.as_bytes()));
        self.next += usize::from(is_it);
        is_it
    }

    /// Takes the next word as a 64-bit integer.
    pub fn int(&mut self) -> Result<i64, ErrorReply> {
        number::parse_i64(self.word()?).ok_or(error::NOT_AN_INTEGER)
    }

    /// Takes the next word as a C `int`.
    pub fn int_32(&mut self) -> Result<i32, ErrorReply> {
        i32::try_from(self.int()?).map_err(|_| error::OUT_OF_INT)
    }

    /// Takes the next word as a double.
    pub fn double(&mut self) -> Result<f64, ErrorReply> {
        number::parse_f64(self.word()?).ok_or(error::NOT_A_FLOAT)
    }
}
