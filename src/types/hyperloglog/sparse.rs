//! Registers as runs. See the module above for their bytes.

use super::{REGISTERS, Refused};

const ZEROS_MAX: usize = 64;
const VALUES_MAX: usize = 4;
/// A higher register needs the dense encoding.
const VALUE_MAX: u8 = 32;
/// Runs looked at for neighbours to be joined, from the one before a change on.
const JOINED_AFTER_CHANGE: usize = 5;

/// Registers of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// So many zeros, in a byte.
    Zeros(usize),
    /// So many zeros, in two bytes.
    ManyZeros(usize),
    /// A value, and so many registers that have it.
    Values(u8, usize),
}

impl Run {
    /// The run at the front of `bytes`. Where the second byte of a run is cut off it is a zero, as in Redis, where one follows each
    /// string; what such a run makes of a sketch is told by its length.
    fn read(bytes: &[u8]) -> Option<Run> {
        let &first = bytes.first()?;
        Some(match first >> 6 {
            0 => Run::Zeros(usize::from(first & 0x3F) + 1),
            1 => Run::ManyZeros(
                (usize::from(first & 0x3F) << 8 | usize::from(bytes.get(1).copied().unwrap_or(0))) + 1,
            ),
            _ => Run::Values((first >> 2 & 0x1F) + 1, usize::from(first & 3) + 1),
        })
    }

    /// How many registers.
    pub fn len(self) -> usize {
        match self {
            Run::Zeros(len) | Run::ManyZeros(len) | Run::Values(_, len) => len,
        }
    }

    /// What they hold.
    pub fn value(self) -> u8 {
        match self {
            Run::Values(value, _) => value,
            _ => 0,
        }
    }

    /// Bytes of the run.
    fn size(self) -> usize {
        if matches!(self, Run::ManyZeros(_)) { 2 } else { 1 }
    }
}

/// The runs in these bytes.
pub fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let run = Run::read(rest)?;
        rest = rest.get(run.size()..).unwrap_or_default();
        Some(run)
    })
}

/// Appends a run of zeros.
pub fn push_zeros(out: &mut Vec<u8>, len: usize) {
    match len {
        0 => {}
        1..=ZEROS_MAX => out.push(len as u8 - 1),
        _ => out.extend_from_slice(&(0x4000 | (len - 1) as u16).to_be_bytes()),
    }
}

fn values(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

fn push_values(out: &mut Vec<u8>, value: u8, len: usize) {
    match (value, len) {
        (_, 0) => {}
        (0, _) => push_zeros(out, len),
        _ => out.push(values(value, len)),
    }
}

/// What became of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SparseChange {
    /// It was as high.
    Unchanged,
    /// It is higher now.
    Raised,
    /// It cannot be said in runs that are short enough. Nothing was changed.
    DoesNotFit,
}

/// Raises the register `index` of the runs that begin at `start` of `bytes`, which may become `len_max` bytes long.
pub fn raise(
    bytes: &mut Vec<u8>,
    start: usize,
    index: usize,
    value: u8,
    len_max: usize,
) -> Result<SparseChange, Refused> {
    debug_assert!(index < REGISTERS);
    if value > VALUE_MAX {
        return Ok(SparseChange::DoesNotFit);
    }
    let (mut at, mut before, mut first) = (start, start, 0);
    let run = loop {
        let run = bytes.get(at..).and_then(Run::read).ok_or(Refused::Corrupted)?;
        if at + run.size() > bytes.len() {
            return Err(Refused::Corrupted);
        }
        if index < first + run.len() {
            break run;
        }
        first += run.len();
        before = at;
        at += run.size();
    };
    if run.value() >= value {
        return Ok(SparseChange::Unchanged);
    }
    if run.size() == 1 && run.len() == 1 {
        bytes[at] = values(value, 1);
    } else {
        let mut split = Vec::with_capacity(5);
        push_values(&mut split, run.value(), index - first);
        push_values(&mut split, value, 1);
        push_values(&mut split, run.value(), first + run.len() - 1 - index);
        if split.len() > run.size() && bytes.len() + split.len() - run.size() > len_max {
            return Ok(SparseChange::DoesNotFit);
        }
        bytes.splice(at..at + run.size(), split);
    }
    join_neighbours(bytes, before);
    Ok(SparseChange::Raised)
}

/// Joins runs of the same value behind `at`, as far as a change can have made them neighbours.
fn join_neighbours(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINED_AFTER_CHANGE {
        let Some(run) = bytes.get(at..).and_then(Run::read) else { return };
        if let (Run::Values(value, len), Some(Run::Values(next, more))) = (run, Run::read(&bytes[at + 1..]))
            && value == next
            && len + more <= VALUES_MAX
        {
            bytes[at + 1] = values(value, len + more);
            bytes.remove(at);
            continue;
        }
        at += run.size();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::prelude::*;

    #[test]
    fn runs_are_registers() {
        let mut random = StdRng::seed_from_u64(2);
        let (mut bytes, mut model) = (Vec::new(), vec![0_u8; REGISTERS]);
        push_zeros(&mut bytes, REGISTERS);
        for round in 0..3000 {
            // Close to each other at first, so that runs meet.
            let index = if round < 1500 {
                500 + random.random_range(0..300)
            } else {
                random.random_range(0..REGISTERS)
            };
            let value = random.random_range(1..5);
            let change = raise(&mut bytes, 0, index, value, usize::MAX).expect("whole");
            assert_eq!(change == SparseChange::Raised, model[index] < value);
            model[index] = model[index].max(value);
            if round % 50 == 0 {
                let all: Vec<u8> =
                    runs(&bytes).flat_map(|run| std::iter::repeat_n(run.value(), run.len())).collect();
                assert_eq!(all, model);
            }
        }
        assert_eq!(raise(&mut bytes, 0, 3, 33, usize::MAX).expect("whole"), SparseChange::DoesNotFit);
        let before = bytes.clone();
        let index = model.iter().rposition(|&value| value == 0).expect("some are left");
        assert_eq!(raise(&mut bytes, 0, index, 1, before.len()).expect("whole"), SparseChange::DoesNotFit);
        assert_eq!(bytes, before);
    }
}
