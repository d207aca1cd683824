//! The consensus over a bus in memory whose links can be cut, on a clock that moves when nobody works.

use super::raft::{Options, Raft, Timing};
use super::shelf::{MemoryShelf, Shelf};
use super::{ControlError, ControlPlane, Leading};
use crate::base::ids::NodeId;
use crate::cluster::bus::{Bus, CallError, Kind, Serve};
use crate::cluster::map::{Address, Command, Member, Outcome, Shape};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Long enough for anything that is going to happen.
const LONG: Duration = Duration::from_mins(1);
const REST: Duration = Duration::from_secs(2);

fn node(number: u8) -> NodeId {
    NodeId([number; 20])
}

fn address(number: u8) -> Address {
    Address { host: "h".into(), port: u16::from(number), bus_port: u16::from(number) }
}

fn addresses(numbers: impl IntoIterator<Item = u8>) -> BTreeMap<NodeId, Address> {
    numbers.into_iter().map(|number| (node(number), address(number))).collect()
}

/// Requests reach their node at once, or never.
#[derive(Default)]
struct Wires {
    nodes: Mutex<BTreeMap<NodeId, Weak<Raft>>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

impl Wires {
    fn cut(&self, one: u8, others: impl IntoIterator<Item = u8>) {
        for other in others {
            self.cut.lock().extend([(node(one), node(other)), (node(other), node(one))]);
        }
    }

    fn heal(&self) {
        self.cut.lock().clear();
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.lock().contains(&(from, to))
    }
}

struct Wire {
    from: NodeId,
    wires: Arc<Wires>,
}

#[async_trait]
impl Bus for Wire {
    async fn call(
        &self,
        to: NodeId,
        _: &Address,
        kind: Kind,
        request: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, CallError> {
        assert_eq!(kind, Kind::Consensus);
        let nowhere = || CallError::NotSent("nobody is there".into());
        let late = || CallError::Unknown("no answer".into());
        if self.wires.is_cut(self.from, to) {
            sleep(patience).await;
            return Err(late());
        }
        sleep(Duration::from_millis(1)).await;
        let serving = self.wires.nodes.lock().get(&to).and_then(Weak::upgrade).ok_or_else(nowhere)?;
        let answer = timeout(patience, serving.serve(self.from, request)).await.map_err(|_| late())?;
        if self.wires.is_cut(to, self.from) {
            sleep(patience).await;
            return Err(late());
        }
        answer.ok_or_else(late)
    }
}

/// Some nodes, each with a shelf that outlives it.
#[derive(Default)]
struct Town {
    wires: Arc<Wires>,
    shelves: BTreeMap<u8, Arc<MemoryShelf>>,
    rafts: BTreeMap<u8, Arc<Raft>>,
}

impl Town {
    /// Voters 1 to `count`, founded by the first.
    async fn of(count: u8) -> Town {
        let mut town = Town::default();
        for number in 1..=count {
            town.start(number).await;
        }
        town.rafts[&1].found(addresses(1..=count)).await.expect("its log is empty");
        town
    }

    async fn start(&mut self, number: u8) {
        let shelf = Arc::clone(self.shelves.entry(number).or_default());
        let options = Options {
            node: node(number),
            timing: Timing::default(),
            rest_after_start: REST,
            seed: Some(u64::from(number)),
        };
        let bus = Arc::new(Wire { from: node(number), wires: Arc::clone(&self.wires) });
        let raft = Raft::start(options, shelf, bus, Arc::new(|_| None)).await.expect("the shelf is whole");
        let raft = Arc::new(raft);
        self.wires.nodes.lock().insert(node(number), Arc::downgrade(&raft));
        self.rafts.insert(number, raft);
    }

    async fn stop(&mut self, number: u8) {
        self.wires.nodes.lock().remove(&node(number));
        self.rafts.remove(&number).expect("it runs").stop().await;
    }

    /// The one of these that leads, as soon as it does.
    async fn leader_among(&self, numbers: impl IntoIterator<Item = u8> + Clone) -> (u8, Leading) {
        let found = async {
            loop {
                for number in numbers.clone() {
                    let leading = *self.rafts[&number].leading().borrow();
                    if leading.is_me && self.rafts[&number].confirm().await == Ok(leading.term) {
                        return (number, leading);
                    }
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, found).await.expect("somebody is elected")
    }

    async fn leader(&self) -> (u8, Leading) {
        let all: Vec<u8> = self.rafts.keys().copied().collect();
        self.leader_among(all).await
    }

    /// Until this node has a map of this version.
    async fn reaches(&self, number: u8, version: u64) {
        let mut map = self.rafts[&number].map();
        let reached = map.wait_for(|map| map.version >= version);
        timeout(LONG, reached).await.expect("it arrives").expect("it runs");
    }
}

fn found() -> Command {
    let members = (1..=3).map(|number| (node(number), Member::default())).collect();
    Command::Found { cluster: node(9), partitions: 4, copies: 2, shape: Shape::Together, members }
}

fn copies(count: u16) -> Command {
    Command::SetCopies(count)
}

#[tokio::test(start_paused = true)]
async fn what_is_decided_reaches_all() {
    let town = Town::of(3).await;
    let (leader, leading) = town.leader().await;
    assert_eq!(leading.leader, Some(node(leader)));
    assert_eq!(town.rafts[&leader].propose(found()).await, Ok(Outcome::Done(1)));
    assert!(matches!(town.rafts[&leader].propose(found()).await, Ok(Outcome::Refused(_))));
    assert_eq!(town.rafts[&leader].propose(copies(3)).await, Ok(Outcome::Done(2)));
    for number in 1..=3 {
        town.reaches(number, 2).await;
        let map = town.rafts[&number].map().borrow().clone();
        assert_eq!((map.copies, map.nodes.len(), map.partitions.len()), (3, 3, 4));
        let mut told = town.rafts[&number].leading();
        let told = told.wait_for(|told| told.term == leading.term).await.expect("it runs");
        assert_eq!((told.leader, told.is_me), (Some(node(leader)), number == leader));
    }
    let other = leader % 3 + 1;
    let refused = Err(ControlError::NotLeader(Some(node(leader))));
    assert_eq!(town.rafts[&other].propose(copies(1)).await, refused);
    assert_eq!(town.rafts[&other].confirm().await.map(|_| ()), refused.map(|_: Outcome| ()));
    assert_eq!(town.rafts[&other].voters().0, [node(1), node(2), node(3)]);
}

#[tokio::test(start_paused = true)]
async fn the_leaders_death_elects_another_with_a_higher_number() {
    let mut town = Town::of(3).await;
    let (first, before) = town.leader().await;
    town.rafts[&first].propose(found()).await.expect("a quorum is there");
    town.stop(first).await;
    let (second, after) = town.leader().await;
    assert_ne!(first, second);
    assert!(after.term > before.term, "{after:?} after {before:?}");
    assert_eq!(town.rafts[&second].propose(copies(3)).await, Ok(Outcome::Done(2)));
    town.start(first).await;
    town.reaches(first, 2).await;
    assert_eq!(town.leader().await, (second, after), "who returns disturbs nobody");
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_off_unseats_nobody_when_it_is_back() {
    for from_leader_only in [false, true] {
        let town = Town::of(3).await;
        let (leader, before) = town.leader().await;
        town.rafts[&leader].propose(found()).await.expect("a quorum is there");
        let (away, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        town.wires.cut(away, if from_leader_only { vec![leader] } else { vec![leader, other] });
        sleep(LONG).await;
        assert_eq!(town.rafts[&leader].propose(copies(3)).await, Ok(Outcome::Done(2)));
        assert_eq!(town.leader().await, (leader, before), "who hears nobody is one of three");
        town.wires.heal();
        town.reaches(away, 2).await;
        sleep(LONG).await;
        assert_eq!(town.leader().await, (leader, before), "nobody was unseated");
        assert_eq!(town.rafts[&leader].propose(copies(4)).await, Ok(Outcome::Done(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn asking_first_takes_no_time_from_an_election() {
    for _ in 0..20 {
        let mut town = Town::of(3).await;
        let (first, _) = town.leader().await;
        let Timing { heartbeat, election, .. } = Timing::default();
        sleep(election.1).await; // all hear it
        town.stop(first).await;
        let begin = Instant::now();
        town.leader().await;
        // The lease, the longest wait behind it, the library's tick, and some round trips of 2 ms.
        let longest = election.1 * 2 + heartbeat * 2;
        assert!(begin.elapsed() <= longest, "elected after {:?}", begin.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_about_to_stop_is_not_elected() {
    for leaving in [0, 1] {
        let mut town = Town::of(3).await;
        let (first, _) = town.leader().await;
        town.rafts[&first].propose(found()).await.expect("a quorum is there");
        let others: Vec<u8> = (1..=3).filter(|number| *number != first).collect();
        town.rafts[&others[leaving]].decline();
        town.stop(first).await;
        assert_eq!(town.leader().await.0, others[1 - leaving], "it votes, and does not stand");
    }
}

#[tokio::test(start_paused = true)]
async fn a_minority_decides_nothing() {
    let town = Town::of(3).await;
    let (old, before) = town.leader().await;
    town.rafts[&old].propose(found()).await.expect("a quorum is there");
    let others: Vec<u8> = (1..=3).filter(|number| *number != old).collect();
    town.wires.cut(old, others.clone());
    assert!(matches!(town.rafts[&old].propose(copies(5)).await, Err(ControlError::Unknown(_))));
    assert!(matches!(town.rafts[&old].confirm().await, Err(ControlError::Unknown(_))));
    let (new, after) = town.leader_among(others.clone()).await;
    assert!(after.term > before.term);
    assert_eq!(town.rafts[&new].propose(copies(3)).await, Ok(Outcome::Done(2)));
    town.wires.heal();
    town.reaches(old, 2).await;
    assert_eq!(town.rafts[&old].map().borrow().copies, 3, "what the minority took is gone");
    let (now, _) = town.leader().await;
    assert_eq!(town.rafts[&now].propose(copies(4)).await, Ok(Outcome::Done(3)));
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_all_keeps_vote_log_and_map() {
    let mut town = Town::of(3).await;
    let (leader, before) = town.leader().await;
    town.rafts[&leader].propose(found()).await.expect("a quorum is there");
    // Enough for a snapshot and a log that begins behind it.
    for count in 0..2500 {
        town.rafts[&leader].propose(copies(count % 7 + 1)).await.expect("a quorum is there");
    }
    let map = town.rafts[&leader].map().borrow().clone();
    for number in 1..=3 {
        town.reaches(number, map.version).await;
        town.stop(number).await;
    }
    for shelf in town.shelves.values() {
        let rows = shelf.rows();
        assert!(rows.contains_key(b"snapshot".as_slice()) && rows.contains_key(b"purged".as_slice()));
        assert!(rows.len() < 1500, "{} rows: the log is bounded", rows.len());
    }
    for number in 1..=3 {
        town.start(number).await;
        let version = town.rafts[&number].map().borrow().version;
        assert!(version + 2 >= map.version, "{version}, and it was {}", map.version);
    }
    let (leader, after) = town.leader().await;
    assert!(after.term > before.term);
    assert_eq!(*town.rafts[&leader].map().borrow(), map);
    assert_eq!(town.rafts[&leader].propose(copies(9)).await, Ok(Outcome::Done(map.version + 1)));
}

#[tokio::test(start_paused = true)]
async fn who_starts_again_rests_before_it_elects() {
    let mut town = Town::of(3).await;
    town.leader().await;
    for number in 1..=3 {
        town.stop(number).await;
    }
    let begin = Instant::now();
    for number in 1..=3 {
        town.start(number).await;
    }
    town.leader().await;
    assert!(begin.elapsed() >= REST, "elected after {:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_need_not_rest() {
    let mut town = Town::of(1).await;
    let (_, before) = town.leader().await;
    assert_eq!(town.rafts[&1].propose(found()).await, Ok(Outcome::Done(1)));
    town.stop(1).await;
    let begin = Instant::now();
    town.start(1).await;
    let (_, after) = town.leader().await;
    assert!(begin.elapsed() < REST);
    assert!(after.term > before.term, "{after:?} after {before:?}");
    town.reaches(1, 1).await;
}

#[tokio::test(start_paused = true)]
async fn one_node_grows_into_five_and_shrinks_again() {
    let mut town = Town::of(1).await;
    town.leader().await;
    town.rafts[&1].propose(found()).await.expect("it is a quorum");
    for number in 2..=6 {
        town.start(number).await;
    }
    town.rafts[&1].set_voters(addresses(1..=5), addresses([6])).await.expect("all are there");
    assert_eq!(town.rafts[&1].voters(), ((1..=5).map(node).collect(), vec![node(6)]));
    town.rafts[&1].propose(copies(3)).await.expect("a quorum is there");
    for number in 1..=6 {
        town.reaches(number, 2).await;
    }
    // The leader goes, and a voter goes on as a learner.
    let left = town.rafts[&1].set_voters(addresses([2, 3, 6]), addresses([4])).await;
    let Err(ControlError::NotLeader(Some(_))) = left else { panic!("{left:?}") };
    let (leader, _) = town.leader_among([2, 3, 6]).await;
    town.rafts[&leader].set_voters(addresses([2, 3, 6]), addresses([4])).await.expect("all are there");
    assert_eq!(town.rafts[&leader].voters(), (vec![node(2), node(3), node(6)], vec![node(4)]));
    let done = town.rafts[&leader].propose(copies(4)).await.expect("a quorum is there");
    assert_eq!(done, Outcome::Done(3));
    town.reaches(4, 3).await;
    let too_many = town.rafts[&leader].set_voters(addresses(1..=6), BTreeMap::new()).await;
    assert!(matches!(too_many, Err(ControlError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_for_long_gets_a_snapshot() {
    let mut town = Town::of(3).await;
    let (leader, _) = town.leader().await;
    let away = leader % 3 + 1;
    town.stop(away).await;
    town.rafts[&leader].propose(found()).await.expect("a quorum is there");
    for count in 0..3000 {
        town.rafts[&leader].propose(copies(count % 7 + 1)).await.expect("a quorum is there");
    }
    let version = town.rafts[&leader].map().borrow().version;
    town.start(away).await;
    town.reaches(away, version).await;
    assert!(town.shelves[&away].rows().contains_key(b"snapshot".as_slice()));
    town.stop(away).await;
    town.start(away).await;
    town.reaches(away, version).await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_changed_is_asked_for() {
    struct Noted(Mutex<BTreeSet<u16>>);
    #[async_trait]
    impl Bus for Noted {
        async fn call(
            &self,
            _: NodeId,
            address: &Address,
            _: Kind,
            _: Vec<u8>,
            _: Duration,
        ) -> Result<Vec<u8>, CallError> {
            self.0.lock().insert(address.bus_port);
            Err(CallError::NotSent("it is only noted".into()))
        }
    }
    let bus = Arc::new(Noted(Mutex::default()));
    let options = Options { node: node(1), timing: Timing::default(), rest_after_start: REST, seed: Some(1) };
    let find = Arc::new(|asked| (asked == node(2)).then(|| address(22)));
    let shelf: Arc<dyn Shelf> = Arc::new(MemoryShelf::default());
    let raft = Raft::start(options, shelf, Arc::clone(&bus) as Arc<dyn Bus>, find).await.expect("new");
    raft.found(addresses(1..=3)).await.expect("its log is empty");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        *bus.0.lock(),
        BTreeSet::from([22, 3]),
        "the second by what is known now, the third by the log"
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_that_make_no_sense_are_refused() {
    use super::types::{Entry, LeaderId, LogId, Vote};
    use super::wire::{Answer, Request, to_bytes};
    use openraft::EntryPayload;
    use openraft::raft::{AppendEntriesRequest, VoteRequest};

    let town = Town::of(3).await;
    let (leader, _) = town.leader().await;
    let other = node(leader % 3 + 1);
    let raft = &town.rafts[&leader];
    let vote = Vote::new_committed(7, other);
    let place = |term, index| LogId::new(LeaderId::new(term, other), index);
    let entry = |term, index| Entry { log_id: place(term, index), payload: EntryPayload::Blank };
    let append = |vote, prev_log_id, entries| {
        Request::Append(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit: None })
    };
    let senseless = [
        append(Vote::new_committed(7, node(leader)), None, vec![]), // in another's name
        append(Vote::new(7, other), None, vec![]),                  // not elected
        append(vote, Some(place(7, 5)), vec![entry(7, 7)]),         // a hole
        append(vote, Some(place(7, 5)), vec![entry(8, 6)]),         // of a later leader
        append(vote, Some(place(7, 5)), vec![entry(6, 6)]),         // back in time
        append(Vote::new_committed(u64::MAX, other), None, vec![]),
        append(vote, Some(place(7, u64::MAX)), vec![]),
        Request::Vote(VoteRequest::new(Vote::new(9, node(leader)), None)),
        Request::Vote(VoteRequest::new(Vote::new_committed(9, other), None)),
        Request::Snapshot { vote, bytes: vec![1, 2, 3] },
        Request::Poll { last: Some(place(7, u64::MAX)) },
    ];
    for request in senseless {
        assert_eq!(raft.serve(other, to_bytes(&request)).await, None, "{request:?}");
    }
    let sound = to_bytes(&append(Vote::new_committed(0, other), None, vec![entry(0, 0)]));
    assert!(raft.serve(other, sound.clone()).await.is_some());
    for cut in 0..sound.len() {
        assert_eq!(raft.serve(other, sound[..cut].to_vec()).await, None);
    }
    for at in 0..sound.len() {
        for bit in 0..8 {
            let mut damaged = sound.clone();
            damaged[at] ^= 1 << bit;
            raft.serve(other, damaged).await; // whatever it says, it says it in order
        }
    }
    assert!(raft.serve(other, [&sound[..], &[0]].concat()).await.is_none());
    // A kind of message with another's version, and one of a later program, which is told so and may go on.
    let poll = to_bytes(&Request::Poll { last: None });
    assert_eq!(raft.serve(other, [&[1], &poll[1..]].concat()).await, None);
    assert_eq!(raft.serve(other, [&[3], &poll[1..]].concat()).await, Some(to_bytes(&Answer::Unable)));
    town.leader().await;
}
