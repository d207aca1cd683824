//! Whether two replies are the same, under the rule of the command that was answered.

use crate::rules::{self, Rule};
use crate::support::Value;
use crate::values;

/// Whether the replies are the same as far as the command's rule wants it. `queued` are the requests that EXEC answers.
pub fn same(words: &[Vec<u8>], queued: &[Vec<Vec<u8>>], ours: &Value, theirs: &Value) -> bool {
    if ours == theirs {
        return true;
    }
    let is_exec = words[0].eq_ignore_ascii_case(b"exec");
    if let (true, Value::Array(ours), Value::Array(theirs)) = (is_exec, ours, theirs)
        && ours.len() == theirs.len()
        && ours.len() == queued.len()
    {
        let both = ours.iter().zip(theirs);
        return queued.iter().zip(both).all(|(words, (ours, theirs))| same(words, &[], ours, theirs));
    }
    follows(rules::comparison(rules::entry_of(words)), words, ours, theirs)
}

fn follows(rule: Rule, words: &[Vec<u8>], ours: &Value, theirs: &Value) -> bool {
    let is_error = |value: &Value| matches!(value, Value::Error(_));
    if is_error(ours) || is_error(theirs) || is_queued(ours) || is_queued(theirs) {
        return ours == theirs;
    }
    match rule {
        Rule::Success => true,
        Rule::Kind => kind(ours) == kind(theirs),
        Rule::AnyOrder => sorted(ours, 1) == sorted(theirs, 1),
        Rule::PairsInAnyOrder => sorted(ours, 2) == sorted(theirs, 2),
        Rule::Within(distance) => match (ours, theirs) {
            (Value::Integer(ours), Value::Integer(theirs)) => {
                (*ours < 0) == (*theirs < 0) && ours.abs_diff(*theirs) <= distance.unsigned_abs()
            }
            _ => false,
        },
        Rule::Count => elements(ours) == elements(theirs) && kind_of_first(ours) == kind_of_first(theirs),
        Rule::Walk => walks_agree(words, ours, theirs),
        Rule::Payload => payloads_agree(ours, theirs),
        Rule::Except(names) => without(ours, names) == without(theirs, names),
        Rule::Parameters(names) => parameters(ours, names) == parameters(theirs, names),
        Rule::Fields(names) => match (text(ours), text(theirs)) {
            (Some(ours), Some(theirs)) => fields_apart(ours, theirs, names) == Default::default(),
            _ => false,
        },
        _ => false,
    }
}

/// Whether this is the reply to a request inside MULTI.
pub fn is_queued(value: &Value) -> bool {
    matches!(value, Value::Simple(text) if text == "QUEUED")
}

/// The kind of a reply and of all elements.
fn kind(value: &Value) -> String {
    match value {
        Value::Array(items) | Value::Map(items) | Value::Set(items) | Value::Push(items) => {
            format!(
                "{:?}[{}]",
                std::mem::discriminant(value),
                items.iter().map(kind).collect::<Vec<_>>().join(" ")
            )
        }
        _ => format!("{:?}", std::mem::discriminant(value)),
    }
}

fn elements(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) | Value::Map(items) | Value::Set(items) | Value::Push(items) => Some(items.len()),
        _ => None,
    }
}

fn kind_of_first(value: &Value) -> String {
    match value {
        Value::Array(items) | Value::Map(items) | Value::Set(items) | Value::Push(items) => {
            items.first().map(kind).unwrap_or_default()
        }
        other => kind(other),
    }
}

/// The elements, `together` at a time, sorted; a reply without elements alone.
fn sorted(value: &Value, together: usize) -> Vec<Vec<String>> {
    let (items, together) = match value {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => (items.as_slice(), together),
        Value::Map(items) => (items.as_slice(), 2),
        other => (std::slice::from_ref(other), 1),
    };
    let mut groups: Vec<Vec<String>> =
        items.chunks(together).map(|group| group.iter().map(ToString::to_string).collect()).collect();
    groups.sort();
    // The kind of the list counts too: an array is no map.
    groups.push(vec![format!("{:?}", std::mem::discriminant(value))]);
    groups
}

/// Whole walks (from cursor 0 to cursor 0) have the same elements; of parts of one only the form can be compared.
fn walks_agree(words: &[Vec<u8>], ours: &Value, theirs: &Value) -> bool {
    let (Value::Array(ours), Value::Array(theirs)) = (ours, theirs) else { return false };
    let [Value::Bulk(our_cursor), Value::Array(our_items)] = ours.as_slice() else { return false };
    let [Value::Bulk(their_cursor), Value::Array(their_items)] = theirs.as_slice() else { return false };
    let position = if words[0].eq_ignore_ascii_case(b"scan") { 1 } else { 2 };
    let begins = words.get(position).is_some_and(|word| word == b"0");
    let is_whole = begins && our_cursor == b"0" && their_cursor == b"0";
    let together = if position == 2
        && [&b"hscan"[..], b"zscan"].iter().any(|name| words[0].eq_ignore_ascii_case(name))
    {
        2
    } else {
        1
    };
    let list = |items: &[Value]| sorted(&Value::Array(items.to_vec()), together);
    !is_whole || list(our_items) == list(their_items)
}

/// The type bytes of a large set and a large hash in Redis's format, whose elements have no order.
const UNORDERED: [u8; 2] = [2, 4];

/// Whether the same value could have been dumped in another order.
pub fn has_no_order(payload: &[u8]) -> bool {
    payload.first().is_some_and(|kind| UNORDERED.contains(kind))
}

/// The type byte of a list. What of it stands in one node and what in the next follows from how it came to be.
const LIST: u8 = 18;

/// What opens a compressed string: the same text can be compressed in several ways.
const COMPRESSED: u8 = 0xc3;

/// Payloads are the same bytes, but for compression, for order where there is none, and for the nodes of lists.
fn payloads_agree(ours: &Value, theirs: &Value) -> bool {
    let (Value::Bulk(ours), Value::Bulk(theirs)) = (ours, theirs) else { return false };
    let sorted = |bytes: &[u8]| {
        // Without the checksum, which depends on the order.
        let mut bytes = bytes[..bytes.len().saturating_sub(8)].to_vec();
        bytes.sort_unstable();
        bytes
    };
    let is_compressed = ours.contains(&COMPRESSED) || theirs.contains(&COMPRESSED);
    let is_list = ours.first() == Some(&LIST);
    ours.first() == theirs.first()
        && (is_compressed || is_list || has_no_order(ours) && sorted(ours) == sorted(theirs))
}

/// The pairs of a map or a list, sorted, but for those with these names.
fn without(value: &Value, names: &[&str]) -> Vec<Vec<String>> {
    let mut pairs = sorted(value, 2);
    pairs.retain(|pair| !names.contains(&pair[0].trim_matches('"')));
    pairs
}

/// What redis-server has too of CONFIG GET, without these.
fn parameters(value: &Value, names: &[&str]) -> Vec<Vec<String>> {
    let mut pairs = without(value, names);
    pairs.retain(|pair| values::PARAMETERS.contains(&pair[0].trim_matches('"')));
    pairs
}

fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bulk(bytes) => Some(bytes),
        Value::Verbatim(bytes) => Some(bytes.get(4..).unwrap_or(bytes)),
        _ => None,
    }
}

/// The names in a text with their values: of lines, or of words if it has but one line.
fn fields(text: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(text);
    let separators: &[char] = if text.starts_with('#') { &['\r', '\n'] } else { &[' ', '\n'] };
    let words = text.split(separators).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let (name, value) = word.split_once([':', '=']).unwrap_or((word, ""));
            // The mean time to live of a database is taken of a sample; microseconds are never the same.
            let parts =
                value.split(',').filter(|part| !part.starts_with("avg_ttl") && !part.starts_with("usec"));
            (name.to_owned(), parts.collect::<Vec<_>>().join(","))
        })
        .collect()
}

fn is_compared(name: &str, names: &[&str]) -> bool {
    let is_named =
        |wanted: &str| wanted.strip_suffix('*').map_or(name == wanted, |start| name.starts_with(start));
    let is_left_out = |wanted: &&str| wanted.strip_prefix('-').is_some_and(is_named);
    !names.iter().any(is_left_out) && names.iter().any(|wanted| is_named(wanted))
}

/// Fields of each side that the other lacks or has with another value. Ours may have more names.
fn fields_apart(ours: &[u8], theirs: &[u8], names: &[&str]) -> (Vec<String>, Vec<String>) {
    let (ours, theirs) = (fields(ours), fields(theirs));
    let is_missing = |field: &(String, String)| !ours.iter().any(|(name, _)| *name == field.0);
    let only =
        |these: &[(String, String)], others: &[(String, String)], or: &dyn Fn(&(String, String)) -> bool| {
            let differs = |field: &&(String, String)| {
                (is_compared(&field.0, names) && !others.contains(field)) || or(field)
            };
            these.iter().filter(differs).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
    (only(&ours, &theirs, &|_| false), only(&theirs, &ours, &is_missing))
}

/// Both replies as text; of those that are compared field by field, the fields that differ.
pub fn shown(words: &[Vec<u8>], ours: &Value, theirs: &Value) -> (String, String) {
    match (rules::comparison(rules::entry_of(words)), text(ours), text(theirs)) {
        (Rule::Fields(names), Some(ours), Some(theirs)) => {
            let (ours, theirs) = fields_apart(ours, theirs, names);
            (ours.join(" "), theirs.join(" "))
        }
        // Absent values of RESP2 and RESP3 look alike in the short form.
        _ if ours.to_string() == theirs.to_string() => (format!("{ours:?}"), format!("{theirs:?}")),
        _ => (ours.to_string(), theirs.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    fn list(words: &str) -> Value {
        Value::Array(words.split(' ').map(bulk).collect())
    }

    fn agree(request: &str, ours: &Value, theirs: &Value) -> bool {
        same(&crate::support::words(request), &[], ours, theirs)
    }

    #[test]
    fn only_what_a_rule_allows_may_differ() {
        assert!(!agree("GET a", &bulk("1"), &bulk("2")));
        assert!(
            agree("HKEYS a", &list("1 2"), &list("2 1")) && !agree("HKEYS a", &list("1 1"), &list("2 1"))
        );
        assert!(agree("HGETALL a", &list("f 1 g 2"), &list("g 2 f 1")));
        assert!(!agree("HGETALL a", &list("f 1 g 2"), &list("g 1 f 2")));
        assert!(agree("TTL a", &Value::Integer(100), &Value::Integer(99)));
        assert!(!agree("TTL a", &Value::Integer(-1), &Value::Integer(0)));
        let error = |text: &str| Value::Error(text.to_owned());
        assert!(
            !agree("TIME x", &error("ERR a"), &error("ERR b"))
                && !agree("TIME", &error("ERR a"), &list("1 2"))
        );
        assert!(agree("INFO", &bulk("# A\r\nx:1\r\nlarder_y:2\r\n"), &bulk("# A\r\nx:2\r\n")));
        assert!(!agree("INFO", &bulk("# A\r\nrole:1\r\n"), &bulk("# A\r\nrole:2\r\n")));
    }

    #[test]
    fn replies_of_a_transaction_follow_the_rules_of_its_requests() {
        let queued = [crate::support::words("TTL a"), crate::support::words("GET a")];
        let reply = |ttl, text| Value::Array(vec![Value::Integer(ttl), bulk(text)]);
        let exec = crate::support::words("EXEC");
        assert!(same(&exec, &queued, &reply(5, "x"), &reply(6, "x")));
        assert!(!same(&exec, &queued, &reply(5, "x"), &reply(5, "y")));
    }
}
