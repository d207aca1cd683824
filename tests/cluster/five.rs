//! Five nodes lose any two at once, the primary among them or not, and go on.

use crate::fleet::Fleet;
use crate::rounds;
use crate::support::Chance;
use crate::workload::{Kind, check, read_all, run};

#[test]
fn five_nodes_lose_two_at_once_and_nothing_else() {
    let mut chance = Chance::seeded("two of five");
    let mut fleet = Fleet::start(5, &["--write-concern", "majority"]);
    for round in 0..rounds(2) {
        let primary = fleet.await_whole();
        let mut victims = vec![primary];
        while victims.len() < 2 {
            let other = 1 + chance.below(5) as usize;
            if other != primary {
                victims.push(other);
            }
        }
        let others = fleet.others(&victims);
        let clients: Vec<usize> = others.iter().copied().cycle().take(6).collect();
        let (record, ()) = run(&mut fleet, Kind::Shared, &clients, chance.branch(), |fleet, record| {
            record.await_write(record.now(), &others);
            let from = record.now();
            if round % 2 == 0 {
                victims.iter().for_each(|victim| fleet.kill(*victim));
            } else {
                for victim in &victims {
                    others.iter().for_each(|other| fleet.lab.cut(*victim, *other));
                }
            }
            for node in &others {
                record.await_write(record.now(), &[*node]);
            }
            eprintln!("two of five: {} ms without a write", record.longest_pause_ms(from, record.now()));
            if round % 2 == 0 {
                victims.iter().for_each(|victim| fleet.start_node(*victim));
            } else {
                fleet.lab.heal();
            }
            fleet.await_whole();
            record.await_write(record.now(), &others);
        });
        read_all(&fleet, &record, victims[0]);
        check(&record, "two of five");
    }
}
