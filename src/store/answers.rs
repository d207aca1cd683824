//! `Answers`: which requests of other nodes a partition's history has carried out lately, and what was answered to them.
//!
//! A change that came by another node carries the request's id and its answer in its record, so whoever has the record knows that the
//! request was carried out: the node that made the change, those that follow it, and the one that takes its place. See
//! `docs/decisions/2026-11-21-forwarded-writes-once.md`.
//!
//! Invariants:
//! - what was applied at or after [`Answers::complete_since_us`] is here;
//! - it is bounded in number, bytes and time; what is dropped moves that moment on.

use crate::base::clock;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How many answers a partition keeps.
const KEPT_MAX: usize = 8192;
/// Bytes of them.
const KEPT_BYTES_MAX: usize = 2 << 20;
/// For how long.
const KEPT_US: u64 = 600 * 1_000_000;

/// A request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its id.
    pub request: u128,
    /// What was answered, as the layers above write it.
    pub answer: Box<[u8]>,
}

/// See the module.
pub struct Answers {
    by_request: HashMap<u128, Arc<Answered>>,
    /// In the order they came: id and moment.
    order: VecDeque<(u128, u64)>,
    bytes: usize,
    complete_since_us: u64,
}

/// The moment, in microseconds since the machine started.
fn now_us() -> u64 {
    clock::since_boot().as_micros() as u64
}

impl Default for Answers {
    fn default() -> Answers {
        Answers { by_request: HashMap::new(), order: VecDeque::new(), bytes: 0, complete_since_us: now_us() }
    }
}

impl Answers {
    /// Remembers a request that is carried out at this moment.
    pub fn insert(&mut self, answered: Arc<Answered>) {
        let now = now_us();
        self.bytes += answered.answer.len();
        self.order.push_back((answered.request, now));
        if let Some(before) = self.by_request.insert(answered.request, answered) {
            self.bytes -= before.answer.len(); // the same id again: its first entry in the order stands for it
            self.order.pop_back();
        }
        while let Some((request, at)) = self.order.pop_front_if(|(_, at)| {
            self.by_request.len() > KEPT_MAX || self.bytes > KEPT_BYTES_MAX || *at + KEPT_US < now
        }) {
            self.bytes -= self.by_request.remove(&request).map_or(0, |dropped| dropped.answer.len());
            self.complete_since_us = at + 1;
        }
    }

    /// The request with this id, if it is remembered.
    pub fn get(&self, request: u128) -> Option<&Arc<Answered>> {
        self.by_request.get(&request)
    }

    /// From when on everything is here that was applied, in microseconds since the machine started.
    pub fn complete_since_us(&self) -> u64 {
        self.complete_since_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_says_how_far_it_reaches_back() {
        let mut answers = Answers::default();
        let began = answers.complete_since_us();
        let answered = |request, len| Arc::new(Answered { request, answer: vec![0; len].into() });
        (0..KEPT_MAX as u128).for_each(|request| answers.insert(answered(request, 3)));
        answers.insert(answered(5, 4));
        assert_eq!((answers.complete_since_us(), answers.bytes), (began, 3 * KEPT_MAX + 1));
        answers.insert(answered(1 << 100, 3));
        assert!(answers.get(0).is_none() && answers.get(1).is_some() && answers.complete_since_us() > began);
        answers.insert(answered(1 << 101, KEPT_BYTES_MAX));
        assert!(answers.get(1).is_none() && answers.get(1 << 101).is_some());
        assert_eq!((answers.order.len(), answers.by_request.len()), (1, 1));
    }
}
