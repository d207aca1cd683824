//! Datagrams of the gossip, sealed under the cluster's secret.
//!
//! ```text
//! version (1) · nonce (24) · XChaCha20-Poly1305 of: when it was sent, Unix ms (8, BE) · the gossip's own datagram
//! ```
//!
//! Nonces are drawn at random, which this cipher's are long enough for. What was sent more than [`AGE_MAX`] ago, or as far in the future,
//! is dropped: so clocks of nodes must agree within that. Within it a datagram may be sent again by who has heard it, and nothing comes of
//! it: gossip carries versions, and older ones change nothing; the answer goes out sealed.

use crate::cluster::trust::Trust;
use chacha20poly1305::aead::{Aead, AeadInPlace};
use chacha20poly1305::{Key, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use rand::Rng;
use std::time::Duration;

/// How old a datagram may be, or how far ahead of this node's clock.
pub const AGE_MAX: Duration = Duration::from_mins(1);
/// Bytes that sealing adds.
pub const OVERHEAD: usize = 1 + NONCE_LEN + TIME_LEN + TAG_LEN;

const VERSION: u8 = 1;
const NONCE_LEN: usize = 24;
const TIME_LEN: usize = 8;
const TAG_LEN: usize = 16;
/// Of the key made from the secret.
const LABEL: &str = "larder gossip 1";

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// Whoever sent it does not know the secret, or it is no datagram of the gossip.
    Stranger,
    /// It was sent by a node whose clock is this many milliseconds behind this one's, or ahead if negative; or it is sent again.
    Untimely(i64),
}

/// Seals and opens datagrams.
pub struct Seal {
    /// The first one seals.
    ciphers: Vec<XChaCha20Poly1305>,
}

impl Seal {
    /// Under these secrets; none if there is none.
    pub fn new(trust: &Trust) -> Option<Seal> {
        let keys = trust.keys(LABEL);
        let ciphers: Vec<_> = keys.iter().map(|key| XChaCha20Poly1305::new(Key::from_slice(key))).collect();
        (!ciphers.is_empty()).then_some(Seal { ciphers })
    }

    /// The sealed datagram.
    pub fn seal(&self, datagram: &[u8], now_ms: i64) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut out = Vec::with_capacity(datagram.len() + OVERHEAD);
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&now_ms.to_be_bytes());
        out.extend_from_slice(datagram);
        let (head, body) = out.split_at_mut(1 + NONCE_LEN);
        let cipher = self.ciphers.first().expect("there is a key");
        let tag = cipher.encrypt_in_place_detached(XNonce::from_slice(&nonce), &head[..1], body);
        let tag: Tag = tag.expect("a datagram is shorter than what the cipher can seal");
        out.extend_from_slice(&tag);
        out
    }

    /// What was sealed.
    pub fn open(&self, bytes: &[u8], now_ms: i64) -> Result<Vec<u8>, Unsealed> {
        let opened = self.ciphers.iter().find_map(|cipher| {
            let (version, rest) =
                bytes.split_first_chunk::<1>().filter(|(version, _)| version[0] == VERSION)?;
            let (nonce, message) = rest.split_first_chunk::<NONCE_LEN>()?;
            let payload = chacha20poly1305::aead::Payload { msg: message, aad: version };
            cipher.decrypt(XNonce::from_slice(nonce), payload).ok()
        });
        let mut opened = opened.ok_or(Unsealed::Stranger)?;
        let sent = opened.first_chunk::<TIME_LEN>().map(|time| i64::from_be_bytes(*time));
        let age = now_ms.saturating_sub(sent.ok_or(Unsealed::Stranger)?);
        if u128::from(age.unsigned_abs()) > AGE_MAX.as_millis() {
            return Err(Unsealed::Untimely(age));
        }
        opened.drain(..TIME_LEN);
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secrets: &[&str]) -> Seal {
        Seal::new(&Trust::sealed(secrets.iter().map(|secret| secret.as_bytes()))).expect("there is a secret")
    }

    #[test]
    fn what_is_sealed_is_opened_by_who_knows_the_secret() {
        let bytes = seal(&["s"]).seal(b"datagram", 1000);
        assert_eq!(bytes.len(), b"datagram".len() + OVERHEAD);
        assert_eq!(seal(&["s"]).open(&bytes, 1000), Ok(b"datagram".to_vec()));
        assert_eq!(seal(&["new", "s"]).open(&bytes, 1000), Ok(b"datagram".to_vec()));
        assert_eq!(seal(&["t"]).open(&bytes, 1000), Err(Unsealed::Stranger));
        assert_ne!(seal(&["s"]).seal(b"datagram", 1000), bytes, "the nonce is another one");
        assert!(Seal::new(&Trust::nearby()).is_none());
    }

    #[test]
    fn every_bit_counts() {
        let bytes = seal(&["s"]).seal(b"datagram", 1000);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(seal(&["s"]).open(&changed, 1000), Err(Unsealed::Stranger), "byte {at}");
            assert_eq!(seal(&["s"]).open(&bytes[..at], 1000), Err(Unsealed::Stranger), "cut at {at}");
        }
    }

    #[test]
    fn what_is_too_old_or_from_the_future_is_dropped() {
        let bytes = seal(&["s"]).seal(b"x", 1_000_000);
        for (now, age) in [(1_060_001, 60_001), (939_999, -60_001), (i64::MIN, i64::MIN)] {
            assert_eq!(seal(&["s"]).open(&bytes, now), Err(Unsealed::Untimely(age)));
        }
        assert!(seal(&["s"]).open(&bytes, 1_060_000).is_ok());
        assert!(seal(&["s"]).open(&bytes, 940_000).is_ok());
    }
}
