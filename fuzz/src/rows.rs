//! Rows as a damaged tree could give them: any head, any payload, any rows of the collection. Every command that looks at the
//! key answers with one reply or an error, and takes no more memory than a key of that size may.
//!
//! Input: kind and encoding · options (bit 0 a deadline, bit 1 items, bit 2 their true size) · payload (length in front) · for each
//! item suffix and value (lengths in front).

use super::frame;
use super::input::Input;
use super::memory;
use super::node::{NOW_MS, Node};
use larder::base::blob::{Blob, Head};
use larder::store::row::{decode_value, encode_head};
use larder::store::{Entry, Items, Key, Kind, NewValue, PartitionSet};

/// What looks at the key `k` and what changes it, each after all before.
const COMMANDS: [&str; 128] = [
    "TYPE k",
    "OBJECT ENCODING k",
    "DEBUG OBJECT k",
    "DEBUG DIGEST-VALUE k",
    "MEMORY USAGE k",
    "PTTL k",
    "DUMP k",
    "GET k",
    "STRLEN k",
    "GETRANGE k 0 -1",
    "GETRANGE k -3 100",
    "GETBIT k 9",
    "BITCOUNT k",
    "BITCOUNT k 1 -2 BIT",
    "BITPOS k 0",
    "BITPOS k 1 2 -1",
    "BITFIELD_RO k GET i8 3",
    "LCS k k LEN",
    "MGET k x",
    "SORT x BY k* GET k",
    "HLEN k",
    "HGET k f",
    "HMGET k f g",
    "HGETALL k",
    "HKEYS k",
    "HVALS k",
    "HEXISTS k f",
    "HSTRLEN k f",
    "HRANDFIELD k",
    "HRANDFIELD k 3 WITHVALUES",
    "HRANDFIELD k -5",
    "HSCAN k 0",
    "HSCAN k 77 COUNT 2 MATCH *",
    "SCARD k",
    "SISMEMBER k f",
    "SMISMEMBER k f 7",
    "SMEMBERS k",
    "SRANDMEMBER k",
    "SRANDMEMBER k 3",
    "SRANDMEMBER k -5",
    "SSCAN k 0",
    "SSCAN k 77 COUNT 2 MATCH *",
    "SINTER k k",
    "SINTERCARD 1 k LIMIT 2",
    "SUNION k x",
    "SDIFF k x",
    "SDIFFSTORE other k x",
    "SORT k ALPHA",
    "PFCOUNT k",
    "PFCOUNT k x",
    "PFDEBUG DECODE k",
    "SCAN 0 TYPE hash",
    "LLEN k",
    "LRANGE k 0 -1",
    "LINDEX k -2",
    "LPOS k a COUNT 0",
    "LPOS k a RANK -1",
    "SORT k BY nosort GET # STORE other",
    "COPY k copy REPLACE",
    "LSET k 1 x",
    "LINSERT k AFTER a b",
    "LREM k -1 a",
    "RPUSH k a b",
    "LPUSH k c",
    "LMOVE k k LEFT RIGHT",
    "RPOP k 2",
    "BLMOVE k other LEFT LEFT 0",
    "BLPOP k 0",
    "LTRIM k 1 -2",
    "LPOP k",
    "BITOP NOT other k",
    "BITOP OR other k k",
    "HSET k f v g w",
    "HSETNX k h v",
    "HINCRBY k n 1",
    "HINCRBYFLOAT k n 0.5",
    "HDEL k f g h n",
    "HSCAN k 0",
    "ZCARD k",
    "ZSCORE k f",
    "ZRANK k f",
    "ZREVRANK k g WITHSCORE",
    "ZRANGE k 0 -1 WITHSCORES",
    "ZRANGE k 3 -3 REV",
    "ZRANGEBYSCORE k -inf (7 LIMIT 1 9",
    "ZREVRANGEBYLEX k + [f",
    "ZCOUNT k 1 inf",
    "ZRANDMEMBER k 3 WITHSCORES",
    "ZRANDMEMBER k -5",
    "ZSCAN k 0 COUNT 3",
    "ZUNION 2 k k WITHSCORES",
    "ZINTERCARD 2 k k LIMIT 9",
    "GEOPOS k f",
    "GEOSEARCH k FROMLONLAT 3 4 BYRADIUS 9000 km",
    "ZADD k 5 f 6 g -1 h",
    "ZINCRBY k 2.5 f",
    "ZREM k g",
    "ZREMRANGEBYRANK k 2 5",
    "ZPOPMAX k 2",
    "BZMPOP 0 1 k MIN COUNT 2",
    "BZPOPMIN k 0",
    "ZDIFFSTORE other 2 k x",
    "ZRANGESTORE other k 0 -1",
    "SADD k f 7 8",
    "SMOVE k other f",
    "SREM k 7 g",
    "SPOP k",
    "SPOP k 3",
    "PFADD k a b",
    "PFMERGE other k",
    "APPEND k tail",
    "SETRANGE k 3 middle",
    "SETBIT k 20 1",
    "INCR k",
    "INCRBYFLOAT k 1.5",
    "BITFIELD k SET u4 2 7",
    "GETEX k PERSIST",
    "PEXPIRE k 100000",
    "GET k",
    "HGETALL k",
    "RENAME k moved",
    "RENAME moved k",
    "TOUCH k",
    "MOVE k 1",
    "COPY copy k",
    "GETDEL k",
    "UNLINK k copy other",
    "DEBUG DIGEST",
];

fn head(bytes: &[u8]) {
    let read = decode_value(bytes);
    if let Some((meta, at)) = &read {
        let mut written = Vec::new();
        encode_head(meta, &mut written);
        let (again, again_at) = decode_value(&written).expect("ours");
        assert_eq!((again_at, written.len()), (*at, *at));
        assert_eq!(
            (again.kind, again.encoding, again.expire_at, again.items),
            (meta.kind, meta.encoding, meta.expire_at, meta.items)
        );
    }
    let entry = Entry::decode(Blob::new(Head { hash: 0, key_len: 0, mark: 0 }, bytes));
    assert_eq!(entry.map(|entry| entry.payload().to_vec()), read.map(|(_, at)| bytes[at..].to_vec()));
}

/// The payload with a length that the settings permit or that nothing can have, if it is taken for one: strings may have gaps, so a
/// length in between is taken at its word, and costs what it says.
fn sensible(payload: &[u8]) -> Vec<u8> {
    let Ok(len) = payload.try_into().map(u64::from_be_bytes) else { return payload.to_vec() };
    let is_possible = len <= 4080 << 32;
    (if is_possible { len & 0xF_FFFF } else { len }).to_be_bytes().to_vec()
}

/// Puts the row and its items under the name `k`.
fn put(node: &Node, mut input: Input) {
    let (kind, options) = (input.byte(), input.byte());
    let key = Key::new(0, b"k");
    let mut transaction = node.service.store.transaction(&PartitionSet::All, NOW_MS);
    let payload = sensible(input.string());
    let uid = transaction.new_uid(&key);
    let mut bytes = 0;
    while !input.is_empty() && options & 2 != 0 {
        let (suffix, value) = (input.string(), input.string());
        bytes += transaction.put_item(&key, uid, suffix, &[value]).expect("in memory").grown;
    }
    let bytes = if options & 4 == 0 { bytes as u64 } else { u64::from(options) << (options >> 3) };
    let meta = NewValue {
        kind: Kind::from_bits(kind & 7).unwrap_or(Kind::Hash),
        encoding: kind >> 4,
        expire_at: (options & 1 != 0).then_some(NOW_MS + 1000),
        due_at: None,
        items: (options & 2 != 0).then_some(Items { uid, bytes }),
    };
    transaction.put(&key, meta, &[&payload]).expect("in memory");
    transaction.commit();
}

/// See the module's page.
pub fn check(data: &[u8]) {
    head(data);
    let mut node = Node::new();
    put(&node, Input::new(data));
    for command in COMMANDS {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let reply = memory::within((8 << 20) + 64 * data.len(), || node.ask(&words));
        let len = frame::decode(&reply).map(|(_, len)| len);
        assert_eq!(len, Some(reply.len()), "{} to {command}", String::from_utf8_lossy(&reply));
    }
}
