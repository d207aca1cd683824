//! What the tests that lose servers, disks and links do with values, in one table a type and one a command: changes by chance, what each
//! makes of a value, and how the whole of it is read. Where a type is in [`TYPES`], its commands in [`CHANGES`], it is in every
//! workload.
//!
//! A key's name begins with its type's. The model is plain collections; a value without elements is no key.

#![allow(dead_code, reason = "several test programs share this, and none needs all of it")]

use super::chance::Chance;
use larder::types::hyperloglog::{REGISTERS, Sketch, place_of};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A word of a command or a reply.
pub type Word = Vec<u8>;

/// What a key holds.
#[derive(Clone, PartialEq)]
pub enum Content {
    Text(Word),
    Fields(BTreeMap<Word, Word>),
    Members(BTreeSet<Word>),
    /// Scores are whole numbers.
    Scores(BTreeMap<Word, i64>),
    Registers(Vec<u8>),
    Elements(VecDeque<Word>),
}

/// A type, for which [`CHANGES`] has commands.
pub struct Type {
    /// What keys of it begin with.
    pub name: &'static str,
    /// What TYPE says.
    pub shown: &'static str,
    empty: fn() -> Content,
    /// The command that reads all of it, with `KEY` for the key.
    read: &'static [&'static str],
    /// What its reply says.
    content: fn(Vec<Word>) -> Content,
    /// The command that counts its elements, if it has any.
    pub count: Option<&'static str>,
}

const KEY: &str = "KEY";

/// The types.
#[rustfmt::skip]
pub const TYPES: &[Type] = &[
    Type { name: "text", shown: "string", empty: text, read: &["GET", KEY], content: as_text, count: None },
    Type { name: "number", shown: "string", empty: text, read: &["GET", KEY], content: as_text, count: None },
    Type { name: "hash", shown: "hash", empty: fields, read: &["HGETALL", KEY], content: as_fields, count: Some("HLEN") },
    Type { name: "set", shown: "set", empty: members, read: &["SMEMBERS", KEY], content: as_members, count: Some("SCARD") },
    Type { name: "zset", shown: "zset", empty: scores, read: &["ZRANGE", KEY, "0", "-1", "WITHSCORES"], content: as_scores, count: Some("ZCARD") },
    Type { name: "sketch", shown: "string", empty: registers, read: &["GET", KEY], content: as_registers, count: None },
    Type { name: "list", shown: "list", empty: elements, read: &["LRANGE", KEY, "0", "-1"], content: as_elements, count: Some("LLEN") },
];

type Arguments = fn(&mut Draw) -> Vec<Word>;
type Apply = fn(&mut Content, &[Word]);

/// Type, command, its words behind the key, what it makes of a value. Each command of a type is as likely as the others; the first makes
/// a key.
#[rustfmt::skip]
const CHANGES: &[(&str, &str, Arguments, Apply)] = &[
    ("text", "SET", |draw| vec![draw.value()], |content, words| *content = Content::Text(words[0].clone())),
    ("text", "APPEND", |draw| vec![draw.value()], |content, words| content.text().extend_from_slice(&words[0])),
    ("text", "SETRANGE", |draw| vec![draw.offset(), draw.value()], |content, words| overwrite(content.text(), words)),
    ("number", "INCRBY", |draw| vec![draw.number(100)], |content, words| add_number(content.text(), &words[0])),
    ("hash", "HSET", |draw| draw.pairs(Draw::item, Draw::value), |content, words| content.fields().extend(pairs(words))),
    ("hash", "HSET", |draw| vec![draw.item(), draw.value()], |content, words| content.fields().extend(pairs(words))),
    // Deadlines of fields, so late that nobody sees one reached.
    ("hash", "HSETEX", |draw| ["PXAT", "4102444800000", "FIELDS", "1"].map(Word::from).into_iter().chain([draw.item(), draw.value()]).collect(), |content, words| content.fields().extend(pairs(&words[4..]))),
    ("hash", "HDEL", |draw| draw.some(Draw::item), |content, words| content.fields().retain(|field, _| !words.contains(field))),
    ("set", "SADD", |draw| draw.some(Draw::member), |content, words| content.members().extend(words.iter().cloned())),
    ("set", "SADD", |draw| vec![draw.member()], |content, words| content.members().extend(words.iter().cloned())),
    ("set", "SREM", |draw| draw.some(Draw::member), |content, words| content.members().retain(|member| !words.contains(member))),
    ("zset", "ZADD", |draw| draw.pairs(|draw| draw.number(20), Draw::item), |content, words| content.scores().extend(scored(words))),
    ("zset", "ZADD", |draw| vec![draw.number(20), draw.item()], |content, words| content.scores().extend(scored(words))),
    ("zset", "ZINCRBY", |draw| vec![draw.number(20), draw.item()], |content, words| *content.scores().entry(words[1].clone()).or_default() += number(&words[0])),
    ("zset", "ZREM", |draw| draw.some(Draw::item), |content, words| content.scores().retain(|member, _| !words.contains(member))),
    ("zset", "ZREMRANGEBYRANK", |draw| vec![draw.number(30), draw.number(30)], |content, words| remove_ranks(content.scores(), words)),
    ("zset", "ZPOPMIN", |draw| vec![draw.count()], |content, words| pop_ranks(content.scores(), &words[0])),
    ("sketch", "PFADD", |draw| draw.some(Draw::item), |content, words| raise(content.registers(), words)),
    ("list", "RPUSH", |draw| draw.some(Draw::value), |content, words| content.elements().extend(words.iter().cloned())),
    ("list", "LPUSH", |draw| draw.some(Draw::item), |content, words| words.iter().for_each(|word| content.elements().push_front(word.clone()))),
    ("list", "LPOP", |draw| vec![draw.count()], |content, words| pop_front(content.elements(), words)),
    ("list", "RPOP", |draw| vec![draw.count()], |content, words| pop_back(content.elements(), words)),
    ("list", "LTRIM", |draw| vec![draw.number(10), draw.number(40)], |content, words| trim(content.elements(), words)),
    ("list", "LREM", |draw| vec![b"0".to_vec(), draw.item()], |content, words| content.elements().retain(|element| *element != words[1])),
    ("list", "LINSERT", |draw| vec![b"BEFORE".to_vec(), draw.item(), draw.value()], |content, words| insert_before(content.elements(), words)),
];

/// How large things get.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Different fields or members of a collection.
    pub items: u64,
    /// The longest value; one in twenty is so long, four are a tenth of that, the others 100 bytes at most.
    pub value: usize,
}

/// Draws words.
pub struct Draw<'a> {
    chance: &'a mut Chance,
    sizes: Sizes,
}

impl Draw<'_> {
    fn value(&mut self) -> Word {
        let most = self.sizes.value;
        let length = match self.chance.below(20) {
            0 => most,
            1..=4 => most / 10,
            _ => self.chance.below(most.min(100) as u64) as usize,
        };
        self.chance.letters(length.max(1))
    }

    fn item(&mut self) -> Word {
        format!("item{}", self.chance.below(self.sizes.items)).into_bytes()
    }

    /// A number mostly, since sets of numbers have a form of their own.
    fn member(&mut self) -> Word {
        if self.chance.below(30) == 0 {
            self.item()
        } else {
            self.chance.below(self.sizes.items).to_string().into()
        }
    }

    fn number(&mut self, most: u64) -> Word {
        (self.chance.below(2 * most + 1) as i64 - most as i64).to_string().into()
    }

    fn offset(&mut self) -> Word {
        self.chance.below(2 * self.sizes.value as u64).to_string().into()
    }

    fn count(&mut self) -> Word {
        (1 + self.chance.below(8)).to_string().into()
    }

    /// A few, and now and then many.
    fn some(&mut self, one: fn(&mut Self) -> Word) -> Vec<Word> {
        let count = if self.chance.below(5) == 0 { 30 } else { 1 + self.chance.below(8) };
        (0..count).map(|_| one(self)).collect()
    }

    fn pairs(&mut self, first: fn(&mut Self) -> Word, second: fn(&mut Self) -> Word) -> Vec<Word> {
        let count = if self.chance.below(5) == 0 { 20 } else { 1 + self.chance.below(4) };
        (0..count).flat_map(|_| [first(self), second(self)]).collect()
    }
}

/// A type by chance.
pub fn any(chance: &mut Chance) -> &'static Type {
    &TYPES[chance.below(TYPES.len() as u64) as usize]
}

/// The type of a key with this name.
pub fn of(key: &[u8]) -> &'static Type {
    let is_it = |of: &&Type| key.starts_with(of.name.as_bytes());
    TYPES.iter().find(is_it).unwrap_or_else(|| panic!("{} has no type", String::from_utf8_lossy(key)))
}

impl Type {
    /// A command that changes `key`, which is of this type.
    pub fn change(&self, key: &[u8], chance: &mut Chance, sizes: Sizes) -> Vec<Word> {
        let mine = || CHANGES.iter().filter(|(of, ..)| *of == self.name);
        let at = chance.below(mine().count() as u64) as usize;
        let (_, command, arguments, _) = mine().nth(at).expect("each type has commands");
        let mut words = vec![command.as_bytes().to_vec(), key.to_vec()];
        words.extend(arguments(&mut Draw { chance, sizes }));
        words
    }

    /// A command that makes `key`, which is of this type.
    pub fn make(&self, key: &[u8], chance: &mut Chance, sizes: Sizes) -> Vec<Word> {
        let (_, command, arguments, _) =
            CHANGES.iter().find(|(of, ..)| *of == self.name).expect("each type has commands");
        let mut words = vec![command.as_bytes().to_vec(), key.to_vec()];
        words.extend(arguments(&mut Draw { chance, sizes }));
        words
    }

    /// The command that reads all of `key`.
    pub fn read(&self, key: &[u8]) -> Vec<Word> {
        self.read
            .iter()
            .map(|word| if *word == KEY { key.to_vec() } else { word.as_bytes().to_vec() })
            .collect()
    }

    /// What a reply to it says.
    pub fn content(&self, words: Vec<Word>) -> Content {
        (self.content)(words)
    }
}

/// What a command of [`Type::change`] makes of a value; `None` is no key.
pub fn after(content: Option<Content>, words: &[Word]) -> Option<Content> {
    let [name, key, words @ ..] = words else { panic!("a command has a name and a key") };
    let of = of(key);
    let row = CHANGES.iter().find(|(kind, command, ..)| *kind == of.name && command.as_bytes() == name);
    let (.., apply) = row.expect("it is one of the table's");
    let mut content = content.unwrap_or_else(of.empty);
    apply(&mut content, words);
    (!content.is_empty()).then_some(content)
}

/// Whether a command of the table ends the deadline of its key.
pub fn ends_deadline(words: &[Word]) -> bool {
    words[0] == b"SET"
}

impl Content {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Content::Text(text) => text.len(),
            Content::Fields(fields) => fields.len(),
            Content::Members(members) => members.len(),
            Content::Scores(scores) => scores.len(),
            Content::Registers(registers) => registers.len(),
            Content::Elements(elements) => elements.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn text(&mut self) -> &mut Word {
        let Content::Text(text) = self else { panic!("{self:?} is no text") };
        text
    }

    fn fields(&mut self) -> &mut BTreeMap<Word, Word> {
        let Content::Fields(fields) = self else { panic!("{self:?} is no hash") };
        fields
    }

    fn members(&mut self) -> &mut BTreeSet<Word> {
        let Content::Members(members) = self else { panic!("{self:?} is no set") };
        members
    }

    fn scores(&mut self) -> &mut BTreeMap<Word, i64> {
        let Content::Scores(scores) = self else { panic!("{self:?} is no sorted set") };
        scores
    }

    fn registers(&mut self) -> &mut Vec<u8> {
        let Content::Registers(registers) = self else { panic!("{self:?} is no sketch") };
        registers
    }

    fn elements(&mut self) -> &mut VecDeque<Word> {
        let Content::Elements(elements) = self else { panic!("{self:?} is no list") };
        elements
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = |word: &Word| String::from_utf8_lossy(&word[..word.len().min(12)]).into_owned();
        match self {
            Content::Text(text) => write!(f, "{} bytes, {}", text.len(), word(text)),
            Content::Fields(fields) => {
                let shown = fields.iter().map(|(field, value)| (word(field), (word(value), value.len())));
                f.debug_map().entries(shown).finish()
            }
            Content::Members(members) => f.debug_set().entries(members.iter().map(word)).finish(),
            Content::Scores(scores) => {
                f.debug_map().entries(scores.iter().map(|(member, score)| (word(member), score))).finish()
            }
            Content::Registers(registers) => {
                let set = registers.iter().enumerate().filter(|(_, value)| **value > 0);
                f.debug_map().entries(set).finish()
            }
            Content::Elements(elements) => f.debug_list().entries(elements.iter().map(word)).finish(),
        }
    }
}

fn text() -> Content {
    Content::Text(Word::new())
}

fn fields() -> Content {
    Content::Fields(BTreeMap::new())
}

fn members() -> Content {
    Content::Members(BTreeSet::new())
}

fn scores() -> Content {
    Content::Scores(BTreeMap::new())
}

fn registers() -> Content {
    Content::Registers(vec![0; REGISTERS])
}

fn elements() -> Content {
    Content::Elements(VecDeque::new())
}

fn as_text(mut reply: Vec<Word>) -> Content {
    Content::Text(reply.pop().expect("a text is one word"))
}

fn as_fields(reply: Vec<Word>) -> Content {
    Content::Fields(pairs(&reply).collect())
}

fn as_members(reply: Vec<Word>) -> Content {
    let count = reply.len();
    let members: BTreeSet<Word> = reply.into_iter().collect();
    assert_eq!(members.len(), count, "a member is there twice");
    Content::Members(members)
}

fn as_scores(reply: Vec<Word>) -> Content {
    let in_order: Vec<(i64, &Word)> = reply.chunks(2).map(|pair| (number(&pair[1]), &pair[0])).collect();
    assert!(in_order.is_sorted(), "members are not in order: {in_order:?}");
    Content::Scores(in_order.into_iter().map(|(score, member)| (member.clone(), score)).collect())
}

fn as_registers(mut reply: Vec<Word>) -> Content {
    let sketch = Sketch::of(reply.pop().expect("a sketch is one word")).expect("the bytes are a sketch's");
    Content::Registers(sketch.all_registers().expect("the sketch is whole"))
}

fn as_elements(reply: Vec<Word>) -> Content {
    Content::Elements(reply.into())
}

fn pairs(words: &[Word]) -> impl Iterator<Item = (Word, Word)> {
    words.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()))
}

fn scored(words: &[Word]) -> impl Iterator<Item = (Word, i64)> {
    words.chunks(2).map(|pair| (pair[1].clone(), number(&pair[0])))
}

fn number(text: &[u8]) -> i64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number was written")
}

fn add_number(text: &mut Word, by: &[u8]) {
    let old = if text.is_empty() { 0 } else { number(text) };
    *text = (old + number(by)).to_string().into_bytes();
}

fn overwrite(text: &mut Word, words: &[Word]) {
    let (offset, bytes) = (number(&words[0]) as usize, &words[1]);
    text.resize(text.len().max(offset + bytes.len()), 0);
    text[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// The members in order.
fn ranked(scores: &BTreeMap<Word, i64>) -> Vec<Word> {
    let mut ranked: Vec<(i64, &Word)> = scores.iter().map(|(member, score)| (*score, member)).collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, member)| member.clone()).collect()
}

/// From the first to the last; those below zero count from the end.
fn range(words: &[Word], len: usize) -> std::ops::RangeInclusive<i64> {
    let len = len as i64;
    let rank = |word| if number(word) < 0 { number(word) + len } else { number(word) };
    rank(&words[0])..=rank(&words[1])
}

fn remove_ranks(scores: &mut BTreeMap<Word, i64>, words: &[Word]) {
    let range = range(words, scores.len());
    let is_gone = |(at, _): &(i64, &Word)| range.contains(at);
    (0..).zip(&ranked(scores)).filter(is_gone).for_each(|(_, member)| _ = scores.remove(member));
}

fn trim(elements: &mut VecDeque<Word>, words: &[Word]) {
    let (range, mut at) = (range(words, elements.len()), 0..);
    elements.retain(|_| at.next().is_some_and(|at| range.contains(&at)));
}

fn pop_front(elements: &mut VecDeque<Word>, words: &[Word]) {
    elements.drain(..elements.len().min(number(&words[0]) as usize));
}

fn pop_back(elements: &mut VecDeque<Word>, words: &[Word]) {
    elements.truncate(elements.len().saturating_sub(number(&words[0]) as usize));
}

fn insert_before(elements: &mut VecDeque<Word>, words: &[Word]) {
    if let Some(at) = elements.iter().position(|element| *element == words[1]) {
        elements.insert(at, words[2].clone());
    }
}

fn pop_ranks(scores: &mut BTreeMap<Word, i64>, count: &[u8]) {
    let first = ranked(scores).into_iter().take(number(count) as usize);
    first.for_each(|member| _ = scores.remove(&member));
}

fn raise(registers: &mut [u8], elements: &[Word]) {
    for (register, value) in elements.iter().map(|element| place_of(element)) {
        registers[register] = registers[register].max(value);
    }
}
