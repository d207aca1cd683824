//! Puts a value that came from elsewhere at a key.

use super::rdb_value::{HASH_LISTPACK, SORTED_SET_LISTPACK, Value};
use crate::store::{Interrupt, Key, Transaction};
use crate::types::hash::{self, Field};
use crate::types::{list, set, string, zset};

/// How large small values may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of hashes.
    pub hash: hash::Limits,
    /// Of lists.
    pub list: list::Limits,
    /// Of sets.
    pub set: set::Limits,
    /// Of sorted sets.
    pub zset: zset::Limits,
}

impl Limits {
    /// Those for a value that was written as `kind`: what comes as a listpack stays one, as in Redis, where only its entries are counted.
    #[must_use]
    pub fn of_kind(mut self, kind: Option<&u8>) -> Limits {
        match kind {
            Some(&HASH_LISTPACK) => self.hash.value = usize::MAX,
            Some(&SORTED_SET_LISTPACK) => self.zset.value = usize::MAX,
            _ => {}
        }
        self
    }
}

/// Makes `key` hold `value`, whatever it held before.
pub fn place(
    transaction: &mut Transaction,
    key: &Key,
    value: &Value,
    expire_at: Option<i64>,
    limits: Limits,
) -> Result<(), Interrupt> {
    match value {
        Value::String(bytes) => string::store(transaction, key, bytes, expire_at),
        Value::List(elements) => list::store_all(transaction, key, elements.iter(), expire_at, limits.list),
        Value::Hash(pairs) => {
            let fields = pairs.iter().map(|(field, value)| Field::plain((field, value)));
            hash::store_all(transaction, key, fields, expire_at, limits.hash)
        }
        Value::TimedHash(fields) => {
            let fields =
                fields.iter().map(|(name, value, expire_at)| Field { name, value, expire_at: *expire_at });
            hash::store_all(transaction, key, fields, expire_at, limits.hash)
        }
        Value::SortedSet(members) => {
            let mut members: Vec<_> = members.iter().map(|(score, member)| (*score, &member[..])).collect();
            zset::store_all(transaction, key, &mut members, expire_at, limits.zset).map(drop)
        }
        Value::Set(members) => {
            let members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
            set::store_all(transaction, key, &members, expire_at, set::NewForm::within(limits.set))
        }
    }
}
