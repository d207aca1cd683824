//! Whom a node listens to: who knows the cluster's secret or, without one, who is near.
//!
//! Each use of the secret has a key of its own (HKDF-SHA256, the use is the label), so that nothing sealed for one can be taken for
//! something of the other. More than one secret may be known: all are listened to, the first is spoken with. So a secret is
//! changed without a stop: add the new one on each node as the second, then let it be the first, then take the old one away.
//!
//! Who records a datagram can try secrets on it at leisure: a secret is to be long and random, as `openssl rand -hex 32` makes it.

use hkdf::Hkdf;
use sha2::Sha256;
use std::net::{IpAddr, Ipv6Addr};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// See the module.
#[derive(Clone, Default)]
pub struct Trust {
    secrets: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_sealed() { "Trust(secret)" } else { "Trust(nearby)" })
    }
}

impl Trust {
    /// Everybody near: there is no secret.
    pub fn nearby() -> Trust {
        Trust::default()
    }

    /// Who knows one of these; the first is spoken with. None, or empty ones only: everybody near.
    pub fn sealed<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Trust {
        Trust {
            secrets: secrets.into_iter().filter(|secret| !secret.is_empty()).map(<[u8]>::to_vec).collect(),
        }
    }

    /// Whether there is a secret.
    pub fn is_sealed(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Whether somebody at this address is listened to at all.
    pub fn admits(&self, address: IpAddr) -> bool {
        self.is_sealed() || is_near(address)
    }

    /// The keys for one use; the first one seals.
    pub fn keys(&self, label: &str) -> Vec<[u8; KEY_LEN]> {
        let derive = |secret: &Vec<u8>| {
            let mut key = [0; KEY_LEN];
            let made = Hkdf::<Sha256>::new(None, secret).expand(label.as_bytes(), &mut key);
            made.expect("a key is shorter than HKDF's limit");
            key
        };
        self.secrets.iter().map(derive).collect()
    }
}

/// Whether an address is of this machine, of a private network (RFC 1918, RFC 4193) or of this link (RFC 3927, RFC 4291).
pub fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6 == Ipv6Addr::LOCALHOST || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_what_no_router_of_the_internet_forwards() {
        let near = [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.9",
            "169.254.3.4",
            "::1",
            "fd00::1",
            "fe80::1",
        ];
        let far = ["172.32.0.1", "8.8.8.8", "100.64.0.1", "2001:db8::1", "::", "0.0.0.0", "::ffff:1.1.1.1"];
        for (addresses, expect) in [(&near[..], true), (&far[..], false)] {
            for address in addresses {
                assert_eq!(is_near(address.parse().expect("an address")), expect, "{address}");
            }
        }
        assert!(is_near("::ffff:10.0.0.1".parse().expect("an address")), "an IPv4 address in an IPv6 socket");
    }

    #[test]
    fn keys_are_of_one_secret_and_one_use() {
        let keys = |secret: &str, label| Trust::sealed([secret.as_bytes()]).keys(label);
        assert_eq!(keys("a", "bus"), keys("a", "bus"));
        assert_ne!(keys("a", "bus"), keys("a", "gossip"));
        assert_ne!(keys("a", "bus"), keys("b", "bus"));
        assert!(!Trust::sealed([&b""[..]]).is_sealed());
        assert_eq!(format!("{:?}", Trust::sealed([&b"hidden"[..]])), "Trust(secret)");
    }
}
