//! The primary's disk is full: what it cannot store it does not acknowledge, and nothing that it did is lost.

use crate::fleet::Fleet;
use crate::fleet::WITHIN;
use crate::support::{Chance, Client, Value, wait_until};
use crate::workload::{Kind, check, read_all, run};
use std::path::Path;

#[test]
fn a_primary_whose_disk_is_full_loses_nothing_and_does_not_stop_the_others() {
    let mut chance = Chance::seeded("full disks");
    let mut fleet = Fleet::prepare(3, &["--write-concern", "majority"]);
    fleet.everybody().into_iter().for_each(|number| fleet.mount(number, "48m"));
    let mut fleet = fleet.started();
    let primary = fleet.await_whole();
    let others = fleet.others(&[primary]);
    let clients: Vec<usize> = others.iter().copied().cycle().take(4).collect();
    let (record, ()) = run(&mut fleet, Kind::Shared, &clients, chance.branch(), |fleet, record| {
        record.await_write(record.now(), &others);
        let ballast = fleet.data(primary).join("ballast");
        fill(&ballast);
        // Whoever is primary then: clients of the others can write again, or at least are told, and are not cut off.
        let mut client = fleet.connect(others[0], std::time::Duration::from_secs(20)).expect("it runs");
        let is_accepted = |client: &mut Client| {
            let value = "x".repeat(100_000);
            matches!(client.try_ask(&["SET", "large", &value]), Ok(Value::Simple(_)))
        };
        wait_until("a write is accepted although the primary had no room", WITHIN, || {
            is_accepted(&mut client)
        });
        std::fs::remove_file(&ballast).expect("it is there");
        fleet.await_whole();
        others.iter().for_each(|node| _ = record.await_write(record.now(), &[*node]));
    });
    read_all(&fleet, &record, others[0]);
    check(&record, "full disk");
}

/// Writes until nothing more can be written.
fn fill(file: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(file).expect("there is room for a name");
    while file.write_all(&vec![0; 1 << 16]).is_ok() {}
    while file.write_all(&[0; 64]).is_ok() {}
}
