//! The lines of a file of lost transactions, as types. What they mean stands in the module above.

use crate::store::Kind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// The version of the format that we write.
pub const VERSION: u32 = 1;
/// Bytes of a value that are shown; its state at the end is whole.
const SHOWN_MAX: usize = 1024;

/// What the first line says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`], under a name that tells what the file is.
    pub larder_lost: u32,
    /// Which node wrote it.
    pub node: String,
    /// The partition.
    pub partition: u16,
    /// The epoch of the last transaction.
    pub epoch: u64,
    /// The last transaction that the new primary has too, if that is known.
    pub common_lsn: Option<u64>,
    /// The first transaction that is listed.
    pub first_lsn: u64,
    /// Where the history ends that is no more.
    pub last_lsn: u64,
    /// The chain there, in hexadecimal: names this history.
    pub chain: String,
    /// When the first transaction was committed.
    pub from: String,
    /// When the last one was.
    pub to: String,
    /// How many there are.
    pub transactions: u64,
}

/// What the last line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// [`Word::End`].
    pub operation: Word,
    /// Keys whose state stands before this line.
    pub keys: u64,
    /// What is not in the file, in words; none if all is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// CRC-32C of all lines before this one, in hexadecimal.
    pub crc32c: String,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The key holds this now: a string or a small hash with its value, of what is large the head alone.
    #[default]
    Set,
    /// The key is gone.
    Delete,
    /// A part of a large value is this now.
    ItemSet,
    /// A part of a large value is gone.
    ItemDelete,
    /// What the key held until now, a large value, is gone with all its parts.
    Drop,
    /// All keys of the database are gone.
    EmptyDatabase,
    /// Two databases were exchanged.
    SwapDatabases,
    /// What the key holds at the end.
    Final,
    /// The last line.
    End,
}

impl Word {
    /// As it stands in the file.
    pub fn text(self) -> &'static str {
        match self {
            Word::Set => "set",
            Word::Delete => "delete",
            Word::ItemSet => "item-set",
            Word::ItemDelete => "item-delete",
            Word::Drop => "drop",
            Word::EmptyDatabase => "empty-database",
            Word::SwapDatabases => "swap-databases",
            Word::Final => "final",
            Word::End => "end",
        }
    }
}

/// Bytes as text if they are that, else in base64; cut if they are many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    text: Option<String>,
    base64: Option<String>,
    /// How many there are, if not all are shown.
    bytes: Option<u64>,
}

impl Shown {
    /// All of them.
    pub fn whole(bytes: &[u8]) -> Shown {
        match std::str::from_utf8(bytes) {
            Ok(text) => Shown { text: Some(text.to_owned()), base64: None, bytes: None },
            Err(_) => Shown { text: None, base64: Some(BASE64.encode(bytes)), bytes: None },
        }
    }

    /// The first of them.
    pub fn beginning(bytes: &[u8]) -> Shown {
        if bytes.len() <= SHOWN_MAX {
            return Shown::whole(bytes);
        }
        let cut = &bytes[..SHOWN_MAX];
        let shown = match std::str::from_utf8(cut) {
            // Only the last character is cut: the rest is text.
            Err(error) if error.error_len().is_none() => Shown::whole(&cut[..error.valid_up_to()]),
            _ => Shown::whole(cut),
        };
        Shown { bytes: Some(bytes.len() as u64), ..shown }
    }
}

/// A field of a small hash, or a member of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Field {
    /// Its name, if that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Else in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_base64: Option<String>,
    /// Its value, if that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Else in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// How long the value is, if it is not shown to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_bytes: Option<u64>,
}

impl Field {
    /// A field and the beginning of its value, or a member.
    pub fn of(name: &[u8], value: Option<&[u8]>) -> Field {
        let name = Shown::beginning(name);
        let Some(value) = value.map(Shown::beginning) else {
            return Field { field: name.text, field_base64: name.base64, ..Field::default() };
        };
        Field {
            field: name.text,
            field_base64: name.base64,
            value: value.text,
            value_base64: value.base64,
            value_bytes: value.bytes,
        }
    }
}

/// Any line between the first and the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// The partition.
    pub partition: u16,
    /// The epoch of the transaction; none in a state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The transaction; none in a state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lsn: Option<u64>,
    /// When it was committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// What happened.
    pub operation: Word,
    /// The number of the database; none if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<u16>,
    /// The one it was exchanged with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_database: Option<u16>,
    /// The key, if its name is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Else in base64. Neither: the key is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The type of what the key holds.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The value, or its beginning, if that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Else in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// How long the value is, if it is not shown to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_bytes: Option<u64>,
    /// The field, if its name is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Else in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_base64: Option<String>,
    /// Where in a long string the value stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Fields of a small hash, or members of a small set or of a part of a large one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    /// How many there are, if not all are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_count: Option<u64>,
    /// The key's deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expire_at_ms: Option<i64>,
    /// What DUMP gives of the key, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dump: Option<String>,
    /// The key is not there at the end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl Line {
    /// The same about this key.
    #[must_use]
    pub fn about(self, name: &[u8]) -> Line {
        let shown = Shown::whole(name);
        Line { key: shown.text, key_base64: shown.base64, ..self }
    }

    /// The same with this type.
    #[must_use]
    pub fn of_kind(self, kind: Option<Kind>) -> Line {
        Line { kind: kind.map(|kind| kind.name().to_owned()), ..self }
    }

    /// The same with the beginning of this value.
    #[must_use]
    pub fn with_value(self, value: &[u8]) -> Line {
        let shown = Shown::beginning(value);
        Line { value: shown.text, value_base64: shown.base64, value_bytes: shown.bytes, ..self }
    }

    /// The same with this field.
    #[must_use]
    pub fn with_field(self, name: &[u8]) -> Line {
        let shown = Shown::beginning(name);
        Line { field: shown.text, field_base64: shown.base64, ..self }
    }

    /// The same with as many of these fields as are shown.
    #[must_use]
    pub fn with_fields<'a>(self, all: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Line {
        self.with_parts(all.map(|(name, value)| (name, Some(value))))
    }

    /// The same with as many of these members as are shown.
    #[must_use]
    pub fn with_members<'a>(self, all: impl Iterator<Item = &'a [u8]> + Clone) -> Line {
        self.with_parts(all.map(|member| (member, None)))
    }

    fn with_parts<'a>(self, all: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone) -> Line {
        let mut bytes = 0;
        let few = |(name, value): &(&[u8], Option<&[u8]>)| {
            bytes += name.len() + value.map_or(0, <[u8]>::len);
            bytes <= SHOWN_MAX
        };
        let fields: Vec<Field> =
            all.clone().take_while(few).map(|(name, value)| Field::of(name, value)).collect();
        let count = all.count();
        Line { field_count: (count > fields.len()).then_some(count as u64), fields, ..self }
    }

    /// The key's name, if the line is about one.
    ///
    /// # Errors
    /// Base64 that is none.
    pub fn name(&self) -> Result<Option<Vec<u8>>, base64::DecodeError> {
        match (&self.key, &self.key_base64) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(base64)) => BASE64.decode(base64).map(Some),
            (None, None) => Ok(None),
        }
    }
}
