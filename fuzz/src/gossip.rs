//! Datagrams of the gossip and what is in them: any bytes are opened or dropped, and only what was sealed is opened; any keys and values are a
//! profile or none, whose texts can stand in a line of words.

use larder::base::ids::NodeId;
use larder::cluster::membership::profile::{from_keys, is_name, to_keys};
use larder::cluster::membership::sealed::{OVERHEAD, Seal, Unsealed};
use larder::cluster::trust::Trust;
use std::collections::HashMap;

/// See the module's page.
pub fn check(data: &[u8]) {
    let seal = Seal::new(&Trust::sealed([&b"secret"[..]])).expect("there is a secret");
    assert_eq!(seal.open(data, 0), Err(Unsealed::Stranger), "nobody finds a seal by chance");
    let sealed = seal.seal(data, 1_000_000);
    assert_eq!(sealed.len(), data.len() + OVERHEAD);
    assert_eq!(seal.open(&sealed, 1_000_000).as_deref(), Ok(data));

    // A line for each key: its name, a space, its value.
    let text = String::from_utf8_lossy(data);
    let keys: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let Some(profile) = from_keys(NodeId::default(), |key| keys.get(key).copied()) else { return };
    for name in [&profile.address.host, &profile.zone, &profile.version] {
        assert!(is_name(name, 253) && !name.contains(|c: char| c.is_whitespace() || c.is_control()));
    }
    let again: HashMap<&str, String> = to_keys(&profile).into_iter().collect();
    let read = from_keys(NodeId::default(), |key| again.get(key).map(String::as_str));
    assert_eq!(read, Some(profile), "what is taken is told again as the same");
}
