//! Integers of any width within strings: BITFIELD.

use super::bitmaps::bit_offset;
use super::{Command, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, RO, RW, UPDATE, VARIABLE_FLAGS};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{block, integer, key, one_of, string, token};
use crate::protocol::spec::{Group, KeySpec};
use crate::store::{Transaction, View};
use crate::types::bitmap::{self, Action, FieldOperation, Overflow};
use crate::types::string as strings;

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("bitfield", bitfield)
        .arity(-2)
        .flags(DENYOOM)
        .group(Group::Bitmap)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE).and(VARIABLE_FLAGS))
            .notes("Only read unless an option or operation writes.")])
        .since("3.2.0")
        .complexity("O(1) for each operation.")
        .summary("Reads, writes and adds to integers of any width within a string.")
        .arguments(&[
            key("key", 0),
            one_of(
                "operation",
                &[
                    block("encoding_offset", &[string("encoding"), integer("offset")]).token("GET"),
                    block(
                        "write",
                        &[
                            one_of(
                                "wrap_sat_fail",
                                &[token("wrap", "WRAP"), token("sat", "SAT"), token("fail", "FAIL")],
                            )
                            .token("OVERFLOW")
                            .optional(),
                            one_of(
                                "write_operation",
                                &[
                                    block(
                                        "encoding_offset_value",
                                        &[string("encoding"), integer("offset"), integer("value")],
                                    )
                                    .token("SET"),
                                    block(
                                        "encoding_offset_increment",
                                        &[string("encoding"), integer("offset"), integer("increment")],
                                    )
                                    .token("INCRBY"),
                                ],
                            ),
                        ],
                    ),
                ],
            )
            .optional()
            .multiple(),
        ]),
    read("bitfield_ro", bitfield_ro)
        .arity(-2)
        .flags(FAST)
        .group(Group::Bitmap)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("6.0.0")
        .complexity("O(1) for each operation.")
        .summary("Reads integers of any width within a string.")
        .arguments(&[
            key("key", 0),
            block("encoding_offset", &[string("encoding"), integer("offset")])
                .token("GET")
                .optional()
                .multiple_token(),
        ]),
];

/// Reads the operations from the second word on.
fn operations(request: &Request) -> Result<Vec<FieldOperation>, ErrorReply> {
    let mut cursor = request.args.cursor(2);
    let mut overflow = Overflow::Wrap;
    let mut operations = Vec::new();
    while !cursor.is_done() {
        let left = cursor.left() - 1;
        if left >= 1 && cursor.eat("OVERFLOW") {
            overflow = match cursor.word()?.to_ascii_lowercase().as_slice() {
                b"wrap" => Overflow::Wrap,
                b"sat" => Overflow::Saturate,
                b"fail" => Overflow::Fail,
                _ => return Err(ErrorReply::fixed("ERR Invalid OVERFLOW type specified")),
            };
            continue;
        }
        let action = if left >= 2 && cursor.eat("GET") {
            Action::Get
        } else if left >= 3 && cursor.eat("SET") {
            Action::Set(0)
        } else if left >= 3 && cursor.eat("INCRBY") {
            Action::Add(0)
        } else {
            return Err(error::SYNTAX);
        };
        let (signed, bits) = integer_type(cursor.word()?)?;
        let offset = bit_offset(request, cursor.word()?, Some(bits))?;
        let action = match action {
            Action::Get => Action::Get,
            Action::Set(_) => Action::Set(cursor.int()?),
            Action::Add(_) => Action::Add(cursor.int()?),
        };
        operations.push(FieldOperation { signed, bits, offset, action, overflow });
    }
    Ok(operations)
}

/// `i16`, `u8`: whether it is signed, and its width.
fn integer_type(word: &[u8]) -> Result<(bool, u32), ErrorReply> {
    const BAD: ErrorReply = ErrorReply::fixed(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    );
    let (signed, bits_max) = match word.first() {
        Some(b'i') => (true, 64),
        Some(b'u') => (false, 63),
        _ => return Err(BAD),
    };
    match number::parse_i64(&word[1..]) {
        Some(bits) if (1..=bits_max).contains(&bits) => Ok((signed, bits as u32)),
        _ => Err(BAD),
    }
}

fn bitfield(request: &Request, transaction: &mut Transaction) -> Outcome {
    let operations = operations(request)?;
    if operations.iter().all(|operation| operation.action == Action::Get) {
        return transaction.as_reader(|view| read_all(request, view, &operations));
    }
    let answers = bitmap::run_fields(transaction, &request.key(1), &operations)?;
    Ok(Reply::Array(answers.into_iter().map(|answer| answer.map_or(Reply::Null, Reply::Int)).collect()))
}

fn bitfield_ro(request: &Request, view: &mut View) -> Outcome {
    let operations = operations(request)?;
    if operations.iter().any(|operation| operation.action != Action::Get) {
        return Err(ErrorReply::fixed("ERR BITFIELD_RO only supports the GET subcommand").into());
    }
    read_all(request, view, &operations)
}

fn read_all(request: &Request, view: &mut View, operations: &[FieldOperation]) -> Outcome {
    let key = request.key(1);
    let entry = strings::find(view, &key)?;
    let mut replies = Vec::with_capacity(operations.len());
    for operation in operations {
        replies.push(Reply::Int(bitmap::read_field(view, &key, entry.as_ref(), operation)?));
    }
    Ok(Reply::Array(replies))
}
