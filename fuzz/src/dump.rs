//! DUMP payloads: what is taken is a value that survives our own DUMP and RESTORE; memory is bounded by what came.
//!
//! Input: options (bit 0: the bytes are a whole payload, footer included; else it is added) · type and value.

use super::frame::{Frame, decode};
use super::memory;
use super::node::Node;
use larder::interop::dump::{open, seal};
use larder::interop::rdb_value::{self, Form, Value};

/// Bytes that a payload of so many bytes may need while it is read: a compressed text grows to 88 times its size, and each
/// element of a list needs some tens of bytes for the two or more that it takes in there.
fn memory_max(len: usize) -> usize {
    (64 << 10) + 1024 * len
}

/// The payload of a value.
fn written(value: &Value, form: Form) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::String(bytes) => rdb_value::write_string_value(bytes, &mut out),
        Value::List(elements) => rdb_value::write_list(elements.iter(), &mut out),
        Value::Hash(pairs) => {
            rdb_value::write_hash(
                pairs.iter().map(|(field, value)| (&field[..], &value[..])),
                form,
                &mut out,
            );
        }
        Value::TimedHash(fields) => rdb_value::write_timed_hash(fields, &mut out),
        Value::SortedSet(members) => rdb_value::write_sorted_set(members, form, &mut out),
        Value::Set(members) => rdb_value::write_set(members.iter().map(Vec::as_slice), &mut out),
    }
    seal(out)
}

/// Fields of a hash and members of a set have no order, and members of a sorted set may be written from either end.
fn sorted(value: Value) -> Value {
    match value {
        Value::Hash(mut pairs) => {
            pairs.sort();
            Value::Hash(pairs)
        }
        Value::TimedHash(mut fields) => {
            fields.sort();
            Value::TimedHash(fields)
        }
        Value::SortedSet(mut members) => {
            members.sort_by(|(_, member), (_, other)| member.cmp(other));
            Value::SortedSet(members)
        }
        Value::Set(mut members) => {
            members.sort();
            Value::Set(members)
        }
        ordered @ (Value::String(_) | Value::List(_)) => ordered,
    }
}

fn survives_the_store(payload: &[u8], value: Value) {
    let mut node = Node::new();
    assert_eq!(node.ask(&[b"RESTORE", b"k", b"0", payload]), b"+OK\r\n");
    if matches!(value, Value::TimedHash(_)) {
        return; // some of its fields, or all, may be over by now
    }
    let Some((Frame::Bulk(b'$', dumped), _)) = decode(&node.ask(&[b"DUMP", b"k"])) else {
        panic!("no payload")
    };
    assert_eq!(open(&dumped).map(sorted), Ok(sorted(value)));
    assert_eq!(node.ask(&[b"RESTORE", b"k2", b"0", &dumped]), b"+OK\r\n");
    let digests = node.ask(&[b"DEBUG", b"DIGEST-VALUE", b"k", b"k2"]);
    let Some((Frame::Aggregate(b'*', digests), _)) = decode(&digests) else { panic!("no digests") };
    assert_eq!(digests[0], digests[1]);
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let Some((options, value)) = data.split_first() else { return };
    let payload = if options & 1 == 1 { value.to_vec() } else { seal(value.to_vec()) };
    let opened = memory::within(memory_max(payload.len()), || open(&payload));
    let Ok(value) = opened else { return };
    for form in [Form::Packed, Form::Plain] {
        assert_eq!(open(&written(&value, form)).map(sorted), Ok(sorted(value.clone())));
    }
    survives_the_store(&payload, value);
}
