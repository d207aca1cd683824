//! From a long episode that shows a difference to the shortest one that still shows one.

use crate::bounds;
use crate::pair::{Difference, Pair};
use crate::rules;
use crate::transcript::Step;
use std::time::{Duration, Instant};

/// An upper bound on how long is shrunk.
const SHRINK_WITHIN: Duration = Duration::from_mins(2);

struct Shrinker<'a> {
    pair: &'a mut Pair,
    steps: Vec<Step>,
    difference: Difference,
    end: Instant,
}

/// The shortest episode found that still shows a difference, and that difference; none if it does not show again.
pub fn shrink(pair: &mut Pair, steps: &[Step]) -> Option<(Vec<Step>, Difference)> {
    let difference = (0..3).find_map(|_| pair.replay(steps))?;
    let mut shrinker =
        Shrinker { pair, steps: steps.to_vec(), difference, end: Instant::now() + SHRINK_WITHIN };
    let last = shrinker.difference.step + 1;
    let cut = shrinker.steps[..last].to_vec();
    shrinker.keep_if_it_differs(cut);
    loop {
        let before = shrinker.steps.clone();
        shrinker.drop_steps();
        shrinker.join_connections();
        shrinker.drop_words();
        shrinker.simplify_words();
        if shrinker.steps == before || Instant::now() > shrinker.end {
            return Some((shrinker.steps, shrinker.difference));
        }
    }
}

impl Shrinker<'_> {
    fn keep_if_it_differs(&mut self, steps: Vec<Step>) -> bool {
        let is_harmless = steps.iter().all(|step| {
            (step.pause || bounds::is_harmless(&step.words)) && rules::may_be_sent(&step.words, false)
        });
        if steps.is_empty() || !is_harmless || Instant::now() > self.end {
            return false;
        }
        let Some(difference) = self.pair.replay(&steps) else { return false };
        (self.steps, self.difference) = (steps, difference);
        true
    }

    /// Halves, quarters, and so on down to single steps, from the end on.
    fn drop_steps(&mut self) {
        let mut size = self.steps.len().div_ceil(2);
        while size > 0 {
            let mut end = self.steps.len();
            while end > 0 {
                let start = end.saturating_sub(size);
                let rest = [&self.steps[..start], &self.steps[end.min(self.steps.len())..]].concat();
                self.keep_if_it_differs(rest);
                end = start.min(self.steps.len());
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn join_connections(&mut self) {
        for connection in 0..2 {
            let mut steps = self.steps.clone();
            steps.iter_mut().for_each(|step| step.connection = connection);
            if steps == self.steps || self.keep_if_it_differs(steps) {
                return;
            }
        }
    }

    fn drop_words(&mut self) {
        for step in (0..self.steps.len()).rev() {
            let mut size = self.steps[step].words.len().div_ceil(2);
            while size > 0 {
                let mut at = self.steps[step].words.len();
                while at > 1 {
                    let start = at.saturating_sub(size).max(1);
                    let mut steps = self.steps.clone();
                    steps[step].words.drain(start..at);
                    self.keep_if_it_differs(steps);
                    at = start;
                }
                size = if size == 1 { 0 } else { size.div_ceil(2) };
            }
        }
    }

    fn simplify_words(&mut self) {
        for step in 0..self.steps.len() {
            for word in 0..self.steps[step].words.len() {
                for simpler in simpler(&self.steps[step].words[word]) {
                    let mut steps = self.steps.clone();
                    steps[step].words[word] = simpler;
                    if self.keep_if_it_differs(steps) {
                        break;
                    }
                }
            }
        }
    }
}

/// Words that are simpler than this one, the simplest first. Each is shorter, or the same in capitals, so it ends.
fn simpler(word: &[u8]) -> Vec<Vec<u8>> {
    const SIMPLE: &[&[u8]] = &[b"0", b"1", b"a"];
    let mut found: Vec<Vec<u8>> =
        SIMPLE.iter().filter(|simple| simple.len() < word.len()).map(|simple| simple.to_vec()).collect();
    if word.len() > 2 {
        found.push(word[..word.len() / 2].to_vec());
        found.push(word[word.len() / 2..].to_vec());
        found.push(word[..word.len() - 1].to_vec());
        found.push(word[1..].to_vec());
    }
    let capitals = word.to_ascii_uppercase();
    if capitals != word {
        found.push(capitals);
    }
    found
}
