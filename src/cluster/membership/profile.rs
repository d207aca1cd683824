//! A profile as the gossip carries it: keys and values, both text. What comes from others has limits and is never trusted to be what
//! it says: a value that is not as it should be counts as not said.

use super::Profile;
use crate::base::ids::{Epoch, Lsn, NodeId};
use crate::cluster::map::Address;
use std::fmt::Write;

/// A host's name at most, as in DNS.
const HOST_MAX: usize = 253;
/// A zone's or a version's name at most.
const NAME_MAX: usize = 64;

/// Keys and values of what a node says of itself. The same profile gives the same ones, so that what did not change is not sent.
pub fn to_keys(profile: &Profile) -> Vec<(&'static str, String)> {
    let mut place = String::new();
    let address = &profile.address;
    write!(place, "{} {}", address.port, address.bus_port).expect("a string takes all");
    vec![
        ("ports", place),
        ("host", address.host.clone()),
        ("zone", profile.zone.clone()),
        ("version", profile.version.clone()),
        ("witness", u8::from(profile.is_witness).to_string()),
        ("serves", u8::from(profile.can_serve).to_string()),
        ("cluster", profile.cluster.map(|cluster| cluster.to_string()).unwrap_or_default()),
        ("expects", profile.expects.to_string()),
        ("partitions", profile.partitions.to_string()),
        ("position", format!("{} {}", profile.position.0.0, profile.position.1.0)),
    ]
}

/// What a node says of itself. None if it does not say where it is reached: it has only just come.
pub fn from_keys<'a>(node: NodeId, get: impl Fn(&str) -> Option<&'a str>) -> Option<Profile> {
    let (port, bus_port) = pair(get("ports")?)?;
    let (epoch, lsn) = get("position").and_then(pair).unwrap_or_default();
    let number = |key| get(key).and_then(|value| value.parse().ok()).unwrap_or_default();
    let is = |key| get(key) == Some("1");
    let name =
        |key, length_max| get(key).filter(|name| is_name(name, length_max)).unwrap_or_default().to_owned();
    Some(Profile {
        node,
        address: Address { host: name("host", HOST_MAX), port, bus_port },
        zone: name("zone", NAME_MAX),
        version: name("version", NAME_MAX),
        is_witness: is("witness"),
        can_serve: is("serves"),
        cluster: get("cluster").and_then(|cluster| cluster.parse().ok()),
        expects: number("expects"),
        partitions: number("partitions"),
        position: (Epoch(epoch), Lsn(lsn)),
    })
}

/// Two numbers with a space between.
fn pair<A: std::str::FromStr, B: std::str::FromStr>(text: &str) -> Option<(A, B)> {
    let (first, second) = text.split_once(' ')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

/// Whether a text can stand in a line of words, such as one of CLUSTER NODES.
pub fn is_name(text: &str, length_max: usize) -> bool {
    text.len() <= length_max
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:%+~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn profile() -> Profile {
        Profile {
            node: NodeId([1; 20]),
            address: Address { host: "db-1.example".into(), port: 6379, bus_port: 16379 },
            zone: "eu-1a".into(),
            version: "0.1.0".into(),
            is_witness: true,
            can_serve: true,
            cluster: Some(NodeId([2; 20])),
            expects: 3,
            partitions: 16,
            position: (Epoch(4), Lsn(u64::MAX)),
        }
    }

    fn read(keys: &HashMap<&str, String>) -> Option<Profile> {
        from_keys(NodeId([1; 20]), |key| keys.get(key).map(String::as_str))
    }

    #[test]
    fn profiles_come_back() {
        for profile in [profile(), Profile { node: NodeId([1; 20]), ..Profile::default() }] {
            assert_eq!(read(&to_keys(&profile).into_iter().collect()), Some(profile));
        }
    }

    #[test]
    fn what_makes_no_sense_counts_as_not_said() {
        let mut keys: HashMap<_, _> = to_keys(&profile()).into_iter().collect();
        for key in ["zone", "host", "version", "cluster", "expects", "position"] {
            keys.insert(key, "a b\r\n".repeat(100));
        }
        let read_again = read(&keys).expect("its ports are known");
        assert_eq!(
            (&read_again.zone[..], &read_again.address.host[..], &read_again.version[..]),
            ("", "", "")
        );
        assert_eq!((read_again.cluster, read_again.expects, read_again.position.1), (None, 0, Lsn(0)));
        for wrong in ["", "1", "1 65536", "-1 1", "1  2"] {
            keys.insert("ports", wrong.to_owned());
            assert_eq!(read(&keys), None, "{wrong:?}");
        }
        keys.clear();
        assert_eq!(read(&keys), None);
    }
}
