//! `WriteConcern`: on how many nodes a write must be stored before its reply may leave.

/// On how many nodes, the primary included, a write is stored before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteConcern {
    /// The primary alone.
    #[default]
    Local,
    /// The primary and one replica.
    One,
    /// More than half of all copies.
    Majority,
    /// Every copy.
    All,
}

impl WriteConcern {
    /// Those that wait for replicas.
    pub const HELD: [WriteConcern; 3] = [WriteConcern::One, WriteConcern::Majority, WriteConcern::All];

    /// The words for all of them, weakest first.
    pub const NAMES: [&str; 4] = ["local", "one", "majority", "all"];

    /// Its word.
    pub fn name(self) -> &'static str {
        WriteConcern::NAMES[self as usize]
    }

    /// The one with this word, in upper or lower case.
    pub fn named(word: &[u8]) -> Option<WriteConcern> {
        let all = [WriteConcern::Local, WriteConcern::One, WriteConcern::Majority, WriteConcern::All];
        all.into_iter().find(|concern| word.eq_ignore_ascii_case(concern.name().as_bytes()))
    }

    /// Its place in [`WriteConcern::HELD`]; `None` for the one that waits for nobody.
    #[inline]
    pub fn held_index(self) -> Option<usize> {
        (self as usize).checked_sub(1)
    }

    /// How many replicas must have the write, of data that is kept in `copies` copies.
    pub fn replicas(self, copies: u16) -> u16 {
        match self {
            WriteConcern::Local => 0,
            WriteConcern::One => 1,
            WriteConcern::Majority => copies / 2,
            WriteConcern::All => copies.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half_of_the_copies() {
        for copies in 1..9 {
            let nodes = WriteConcern::Majority.replicas(copies) + 1;
            assert!(nodes * 2 > copies && (nodes - 1) * 2 <= copies);
        }
        assert_eq!(WriteConcern::HELD.map(WriteConcern::held_index), [Some(0), Some(1), Some(2)]);
        assert_eq!(WriteConcern::Local.held_index(), None);
    }

    #[test]
    fn each_has_a_word() {
        for word in WriteConcern::NAMES {
            assert_eq!(
                WriteConcern::named(word.to_uppercase().as_bytes()).map(WriteConcern::name),
                Some(word)
            );
        }
        assert_eq!(WriteConcern::named(b"quorum"), None);
    }
}
