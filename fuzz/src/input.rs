//! `Input`: reads numbers and byte strings from what the fuzzer made up. Never fails: at the end there are zeros.

/// Reads from the front of a byte string.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Reads `data`.
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input(data)
    }

    /// Whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// Whether this bit of the next byte is set.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// The next eight bytes as a number.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// The next `len` bytes, or what there is.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A byte string with its length in front: one byte, of which 255 means that two more follow.
    pub fn string(&mut self) -> &'a [u8] {
        let len = match self.byte() {
            255 => usize::from(self.byte()) << 8 | usize::from(self.byte()),
            short => usize::from(short),
        };
        self.bytes(len)
    }
}
