//! What a seed stands for: how many voters, how quick they are, which faults come and how often.

use larder::cluster::consensus::raft::{Lengths, Timing};
use rand::prelude::*;
use std::time::Duration;

/// What is wrong on purpose, to show that an invariant would see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// Nothing.
    #[default]
    None,
    /// Votes do not survive a crash.
    ForgetsVotes,
    /// The last few writes do not survive a crash.
    WritesLate,
    /// A leader's term is how often that node has led.
    CountsForItself,
    /// A leader confirms that it leads without asking anybody.
    ConfirmsAlone,
    /// Who asks whether others hear a leader is told that nobody does.
    StandsUnasked,
    /// One node is cut off for ever.
    StaysDeaf,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it was drawn from.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// Of them, those that vote from the beginning.
    pub voters: usize,
    /// Leaders change who votes.
    pub has_changes: bool,
    /// How quick the consensus is.
    pub timing: Timing,
    /// How long its log is.
    pub lengths: Lengths,
    /// How long who starts again elects nobody.
    pub rest: Duration,
    /// The longest time of a write, in milliseconds.
    pub disk_ms: u64,
    /// The longest pause of a client between two commands, in milliseconds.
    pub client_ms: u64,
    /// How long faults come, in milliseconds.
    pub faults_ms: u64,
    /// The longest pause between two faults.
    pub fault_gap_ms: u64,
    /// The longest way of a message.
    pub latency_ms: u64,
    /// How likely a message breaks the link between two nodes.
    pub loss: f64,
    /// What is planted.
    pub plant: Plant,
}

impl Scenario {
    /// The one of a seed.
    pub fn of(seed: u64, plant: Plant) -> Scenario {
        let random = &mut StdRng::seed_from_u64(seed);
        let scale: u64 = random.random_range(1..=2);
        let ms = |ms: u64| Duration::from_millis(ms * scale);
        let timing = Timing { heartbeat: ms(50), election: (ms(150), ms(300)), patience: ms(2000) };
        let has_changes = random.random_bool(0.3);
        let voters = *[3, 3, 3, 5].choose(random).expect("there are some");
        let rest = *[ms(0), ms(900)].choose(random).expect("there are two");
        Scenario {
            seed,
            nodes: if has_changes { voters + random.random_range(0..=1) } else { voters },
            voters,
            has_changes,
            timing,
            lengths: *[
                Lengths::default(),
                Lengths { per_snapshot: 40, kept: 10 },
                Lengths { per_snapshot: 7, kept: 0 },
            ]
            .choose(random)
            .expect("there are some"),
            rest,
            disk_ms: *[1, 4, 10].choose(random).expect("there are some"),
            client_ms: *[5, 20, 100].choose(random).expect("there are some"),
            faults_ms: random.random_range(6_000..15_000),
            fault_gap_ms: *[300, 1000, 3000].choose(random).expect("there are some"),
            latency_ms: random.random_range(2..=8),
            loss: *[0.0, 0.0, 0.0005, 0.002].choose(random).expect("there are some"),
            plant,
        }
    }
}
