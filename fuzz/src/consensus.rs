//! What voters say to one another: any bytes are a message or none, memory is bounded by what came, what is taken is written again as
//! the same, and commands that arrive change a map without ending the process.
//!
//! Input: a byte that says what it is, then the message.

use super::memory;
use larder::base::ids::NodeId;
use larder::cluster::consensus::wire::{Request, answer, commands, request, snapshot, to_bytes};
use larder::cluster::map::ClusterMap;

/// Who sends: its name is in the messages of the corpus.
const FROM: NodeId = NodeId([1; 20]);

/// See the module's page.
pub fn check(data: &[u8]) {
    let Some((what, data)) = data.split_first() else { return };
    // An entry or a node of a few bytes is a few hundred in memory.
    let limit = 8192 + 512 * data.len();
    match what % 3 {
        0 => {
            if let Some(request) = memory::within(limit, || request(FROM, data)) {
                carry_out(&request);
                let bytes = to_bytes(&request);
                let again = larder::cluster::consensus::wire::request(FROM, &bytes).expect("ours");
                assert_eq!(to_bytes(&again), bytes);
            }
        }
        1 => {
            if let Some(taken) = memory::within(limit, || answer(data)) {
                let bytes = to_bytes(&taken);
                assert_eq!(to_bytes(&answer(&bytes).expect("ours")), bytes);
            }
        }
        _ => {
            if let Some(taken) = memory::within(limit, || snapshot(data)) {
                assert_eq!(snapshot(&taken.to_bytes()), Some(taken));
            }
        }
    }
}

fn carry_out(request: &Request) {
    let mut map = ClusterMap::default();
    for command in commands(request) {
        let before = map.version;
        let _ = map.apply(command.clone()); // refused or done
        assert!(map.version - before <= 1);
    }
}
