//! What nodes say to each other about forwarded commands.
//!
//! ```text
//! message   version (1) · length of the head (4, LE) · head, as postcard writes it · bytes
//! ```
//!
//! Of a request the bytes are the words of all its commands, one after the other, whose lengths stand in the head; of an answer the
//! replies. Whoever gets what this version does not write, or what does not add up, says so and does nothing. A run of commands that
//! a client sent in one go travels as one request: its units are run in order, and once one was not, none behind it is.

use crate::base::concern::WriteConcern;
use crate::protocol::encode::Version;
use crate::session::multi::Queued;
use serde::{Deserialize, Serialize};

/// The version this program speaks.
const VERSION: u8 = 1;
/// Units of a request at most.
pub const UNITS_MAX: usize = 256;
/// Commands of a unit, words of a command, and watches of a message: what is more is no request of ours.
const COUNT_MAX: usize = 1 << 24;
/// Bytes of a reply that is remembered with its change.
const REMEMBERED_MAX: usize = 1024;
/// Bytes in front of the head.
const PREFIX: usize = 5;

/// Names one unit for ever: random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u128);

impl RequestId {
    /// A new one.
    pub fn random() -> RequestId {
        RequestId(rand::random())
    }
}

/// Names the keys that a connection watches at another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WatchId(pub u128);

impl WatchId {
    /// A new one.
    pub fn random() -> WatchId {
        WatchId(rand::random())
    }
}

/// Who asks: what the primary must know of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Its number at the node it is connected to.
    pub id: u64,
    /// Name given by CLIENT SETNAME.
    pub name: Vec<u8>,
    /// Its end of its connection, as MONITOR and SLOWLOG show it.
    pub address: String,
    /// The user it acts as, which was allowed to run these commands.
    pub user: String,
    /// Whether it speaks RESP3.
    pub is_resp3: bool,
}

impl Caller {
    /// The version of the protocol that replies are to be in.
    pub fn version(&self) -> Version {
        if self.is_resp3 { Version::Resp3 } else { Version::Resp2 }
    }
}

/// On how many nodes a change is to be stored before it is acknowledged, as far as the node knows that the client is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concern {
    /// On how many.
    pub level: WriteConcern,
    /// Whether the connection has chosen it. Else it is that node's setting, and the stronger one of both nodes counts.
    pub is_chosen: bool,
}

/// What is to be done with the commands of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// It is one command.
    Command,
    /// They are queued behind MULTI, for EXEC: all or none, and none if a key of this watch has changed.
    Transaction(Option<WatchId>),
    /// It is WATCH: its keys are to be watched under this name.
    Watch {
        /// The name.
        id: WatchId,
        /// Whether nothing is watched under it yet.
        is_first: bool,
    },
    /// It is WAIT or WAITAOF, of a connection whose last change at that node ended at this position of its journal.
    Copies(u64),
}

/// What one node knows of another's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The process that said it; another one knows nothing of it.
    pub process: u64,
    /// When it said so, in microseconds since its machine started.
    pub at_us: u64,
}

/// Whether a change was sent before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Again {
    /// No.
    #[default]
    No,
    /// Yes, with an unknown outcome: is it known there? It is not to be carried out.
    Ask,
    /// Yes, and it was not known there. It is to be carried out if that means that nobody has.
    Since {
        /// When that was said.
        moment: Moment,
        /// How many microseconds before that was heard it was sent first.
        age_us: u64,
    },
}

/// What is run at once: a command, or a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Names it, however often it is sent.
    pub id: RequestId,
    /// What is to be done.
    pub task: Task,
    /// The database selected.
    pub database: u16,
    /// Of its changes.
    pub concern: Concern,
    /// For how long it has waited already where it was sent before.
    pub waited_ms: u64,
    /// Whether it was sent before and may have been carried out.
    pub again: Again,
    /// The commands.
    pub commands: Vec<Queued>,
    /// The partitions that a command on all keys is limited to, as others run it on theirs; none is no limit.
    pub only: Vec<u16>,
}

/// What one node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// These are to be run.
    Run(Request),
    /// What is watched under these names is of no interest any more.
    Forget(Vec<WatchId>),
    /// A unit that waits there is to end.
    End(RequestId, End),
}

/// How a unit that waits is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Nobody wants its reply any more.
    Gone,
    /// As if its time were up, or with an error: CLIENT UNBLOCK.
    Unblock {
        /// With an error.
        with_error: bool,
    },
}

/// A request to run units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For so long, from when it is received, may a unit of it begin.
    pub deadline_ms: u64,
    /// Who asks.
    pub caller: Caller,
    /// What is to be run, in this order.
    pub units: Vec<Unit>,
}

/// What became of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It has run; this is its reply.
    Done,
    /// The transaction has run; the reply is an array of items of these lengths. Those of commands that concern the connection and not
    /// the data are empty: they are for the node that the client is connected to.
    Items(Vec<u32>),
    /// It has not run: that node is not the primary of what it needs.
    NotHere,
    /// It has not run: its time was up.
    Late,
    /// Its reply is more than the client may have waiting.
    TooLong,
    /// Whether its change will last is not known: why, in words.
    Unknown(String),
    /// It was asked whether it has run: nothing is known of it, at this moment.
    NotKnown(Moment),
    /// Whether it has run cannot be known here any more.
    Uncertain,
    /// It has run, and its reply was too long to be remembered.
    Forgotten,
}

/// The answer to a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What became of it.
    pub outcome: Outcome,
    /// The reply, in the client's protocol.
    pub reply: Vec<u8>,
    /// Where that node's journal stood after its change; 0 if it changed nothing.
    pub position: u64,
}

impl Answer {
    /// Without a reply.
    pub fn without_reply(outcome: Outcome) -> Answer {
        Answer { outcome, reply: Vec::new(), position: 0 }
    }
}

#[derive(Serialize, Deserialize)]
enum Head {
    Run(RequestHead),
    Forget(Vec<WatchId>),
    End(RequestId, End),
}

#[derive(Serialize, Deserialize)]
struct RequestHead {
    /// One less with each node on the way, which is none: a request that may go on is refused.
    hops: u8,
    deadline_ms: u64,
    caller: Caller,
    units: Vec<UnitHead>,
}

#[derive(Serialize, Deserialize)]
struct UnitHead {
    id: RequestId,
    task: Task,
    database: u16,
    concern: (u8, bool),
    waited_ms: u64,
    again: Again,
    /// Lengths of words.
    commands: Vec<Vec<u32>>,
    only: Vec<u16>,
}

#[derive(Serialize, Deserialize)]
struct AnswerHead {
    outcome: Outcome,
    reply_len: u64,
    position: u64,
}

/// Why bytes are no message, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The bytes of a request to run these units.
pub fn encode_request<'a>(
    deadline_ms: u64,
    caller: &Caller,
    units: impl Iterator<Item = &'a Unit> + Clone,
) -> Vec<u8> {
    let lens = |queued: &Queued| queued.args().from(0).map(|word| word.len() as u32).collect();
    let heads = units.clone().map(|unit| UnitHead {
        id: unit.id,
        task: unit.task.clone(),
        database: unit.database,
        concern: (unit.concern.level as u8, unit.concern.is_chosen),
        waited_ms: unit.waited_ms,
        again: unit.again,
        commands: unit.commands.iter().map(lens).collect(),
        only: unit.only.clone(),
    });
    let head = RequestHead { hops: 1, deadline_ms, caller: caller.clone(), units: heads.collect() };
    let queued = || units.clone().flat_map(|unit| &unit.commands);
    let mut out = begin(&Head::Run(head), queued().map(Queued::size).sum());
    for queued in queued() {
        queued.args().from(0).for_each(|word| out.extend_from_slice(word));
    }
    out
}

impl Message {
    /// Its bytes. Those of a request to run units are written by [`encode_request`].
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Message::Run(request) => {
                encode_request(request.deadline_ms, &request.caller, request.units.iter())
            }
            Message::Forget(watches) => begin(&Head::Forget(watches.clone()), 0),
            Message::End(request, end) => begin(&Head::End(*request, *end), 0),
        }
    }

    /// Reads what [`Message::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
        let (head, mut words): (Head, _) = open(bytes)?;
        let message = match head {
            Head::Run(head) => Message::Run(request_of(head, &mut words)?),
            Head::Forget(watches) => Message::Forget(watches),
            Head::End(request, end) => Message::End(request, end),
        };
        if words.is_empty() { Ok(message) } else { Err(Malformed("more words than it says")) }
    }
}

fn request_of(head: RequestHead, words: &mut &[u8]) -> Result<Request, Malformed> {
    if head.hops != 1 {
        return Err(Malformed("a request that came by another node"));
    }
    if head.units.is_empty() || head.units.len() > UNITS_MAX {
        return Err(Malformed("a request of too many units, or of none"));
    }
    let units = head.units.into_iter().map(|unit| unit_of(unit, words)).collect::<Result<_, _>>()?;
    Ok(Request { deadline_ms: head.deadline_ms, caller: head.caller, units })
}

fn unit_of(head: UnitHead, words: &mut &[u8]) -> Result<Unit, Malformed> {
    let levels = [WriteConcern::Local, WriteConcern::One, WriteConcern::Majority, WriteConcern::All];
    let level =
        levels.get(usize::from(head.concern.0)).ok_or(Malformed("a write concern of another version"))?;
    let is_count_right = match head.task {
        Task::Transaction(_) => head.commands.len() <= COUNT_MAX,
        Task::Command | Task::Watch { .. } | Task::Copies(_) => head.commands.len() == 1,
    };
    if !is_count_right {
        return Err(Malformed("a unit of too many commands, or of none"));
    }
    let commands = head.commands.iter().map(|lens| {
        let len = lens.iter().map(|len| u64::from(*len)).sum::<u64>();
        let fits = !lens.is_empty() && lens.len() <= COUNT_MAX && u32::try_from(len).is_ok();
        let taken = words.split_at_checked(len as usize).filter(|_| fits);
        let (taken, rest) = taken.ok_or(Malformed("fewer words than it says"))?;
        *words = rest;
        Ok(Queued::of_words(taken, lens))
    });
    Ok(Unit {
        id: head.id,
        task: head.task,
        database: head.database,
        concern: Concern { level: *level, is_chosen: head.concern.1 },
        waited_ms: head.waited_ms,
        again: head.again,
        commands: commands.collect::<Result<_, _>>()?,
        only: head.only,
    })
}

/// What is remembered of an answer wherever its change gets.
pub fn remembered(outcome: Outcome, reply: Vec<u8>) -> Vec<u8> {
    let answer = if reply.len() > REMEMBERED_MAX {
        Answer::without_reply(Outcome::Forgotten)
    } else {
        Answer { outcome, reply, position: 0 }
    };
    encode_answers(&[answer])
}

/// The bytes of answers to the units of a request, in their order.
pub fn encode_answers(answers: &[Answer]) -> Vec<u8> {
    let heads: Vec<AnswerHead> = answers
        .iter()
        .map(|answer| AnswerHead {
            outcome: answer.outcome.clone(),
            reply_len: answer.reply.len() as u64,
            position: answer.position,
        })
        .collect();
    let mut out = begin(&heads, answers.iter().map(|answer| answer.reply.len()).sum());
    answers.iter().for_each(|answer| out.extend_from_slice(&answer.reply));
    out
}

/// Reads what [`encode_answers`] writes.
pub fn decode_answers(bytes: &[u8]) -> Result<Vec<Answer>, Malformed> {
    let (heads, mut replies): (Vec<AnswerHead>, _) = open(bytes)?;
    if heads.len() > UNITS_MAX {
        return Err(Malformed("too many answers"));
    }
    let mut answers = Vec::with_capacity(heads.len());
    for head in heads {
        let len = usize::try_from(head.reply_len).unwrap_or(usize::MAX);
        let (reply, rest) = replies.split_at_checked(len).ok_or(Malformed("replies shorter than it says"))?;
        replies = rest;
        if let Outcome::Items(lens) = &head.outcome
            && lens.iter().map(|len| u64::from(*len)).sum::<u64>() != head.reply_len
        {
            return Err(Malformed("items that are not the reply"));
        }
        answers.push(Answer { outcome: head.outcome, reply: reply.to_vec(), position: head.position });
    }
    if replies.is_empty() { Ok(answers) } else { Err(Malformed("replies longer than it says")) }
}

fn begin<T: Serialize>(head: &T, bytes: usize) -> Vec<u8> {
    let mut out = vec![VERSION, 0, 0, 0, 0];
    out = postcard::to_extend(head, out).expect("a vector takes all, and every type here can be written");
    let len = (out.len() - PREFIX) as u32;
    out[1..PREFIX].copy_from_slice(&len.to_le_bytes());
    out.reserve(bytes);
    out
}

fn open<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), Malformed> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX>().ok_or(Malformed("too few bytes"))?;
    if prefix[0] != VERSION {
        return Err(Malformed("another version"));
    }
    let len = u32::from_le_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    let (head, rest) = rest.split_at_checked(len).ok_or(Malformed("a head shorter than it says"))?;
    match postcard::take_from_bytes(head) {
        Ok((head, [])) => Ok((head, rest)),
        _ => Err(Malformed("a head of another form")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::args::Args;

    fn queued(words: &[&[u8]]) -> Queued {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for word in words {
            ranges.push((bytes.len() as u32, (bytes.len() + word.len()) as u32));
            bytes.extend_from_slice(word);
        }
        Queued::copy_from(Args::new(&bytes, &ranges))
    }

    fn request() -> Message {
        let unit = |task, commands| Unit {
            id: RequestId(1 << 100),
            task,
            database: 3,
            concern: Concern { level: WriteConcern::Majority, is_chosen: true },
            waited_ms: 7,
            again: Again::Since { moment: Moment { process: 3, at_us: 1 << 40 }, age_us: 2_000_000 },
            commands,
            only: vec![7, 3],
        };
        Message::Run(Request {
            deadline_ms: 10_000,
            caller: Caller { id: 5, name: b"app".to_vec(), is_resp3: true, ..Caller::default() },
            units: vec![
                unit(Task::Command, vec![queued(&[b"SET", b"key", b"", &[0; 300]])]),
                unit(Task::Transaction(Some(WatchId(9))), vec![queued(&[b"GET", b"a"]), queued(&[b"PING"])]),
                unit(Task::Transaction(None), vec![]),
                unit(Task::Copies(77), vec![queued(&[b"WAIT", b"1", b"0"])]),
                unit(Task::Watch { id: WatchId(3), is_first: true }, vec![queued(&[b"WATCH", b"k"])]),
            ],
        })
    }

    #[test]
    fn a_request_survives_the_round_trip_and_no_cut_or_flip_panics() {
        let request = request();
        let bytes = request.encode();
        assert_eq!(Message::decode(&bytes), Ok(request));
        for cut in 0..bytes.len() {
            assert!(Message::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let _ = Message::decode(&damaged);
            }
        }
        for other in [Message::Forget(vec![WatchId(5)]), Message::End(RequestId(7), End::Gone)] {
            assert_eq!(Message::decode(&other.encode()), Ok(other));
        }
        assert_eq!(
            Message::decode(&[bytes.as_slice(), b"x"].concat()),
            Err(Malformed("more words than it says"))
        );
    }

    /// These bytes are what this version writes: nodes of two versions meet while a cluster is upgraded.
    #[test]
    fn stored_messages_are_read() {
        macro_rules! stored {
            ($name:literal) => {
                include_bytes!(concat!("../../../fuzz/corpus/forwarded/", $name)).as_slice()
            };
        }
        for bytes in [stored!("run"), stored!("parts"), stored!("forget"), stored!("end"), stored!("unblock")]
        {
            assert_eq!(Message::decode(bytes).map(|message| message.encode()), Ok(bytes.to_vec()));
        }
        for bytes in [stored!("answers"), stored!("unknown")] {
            assert_eq!(decode_answers(bytes).map(|answers| encode_answers(&answers)), Ok(bytes.to_vec()));
        }
        for bytes in [stored!("cut"), stored!("many")] {
            assert!(Message::decode(bytes).is_err());
        }
    }

    #[test]
    fn answers_survive_the_round_trip_and_no_cut_or_flip_panics() {
        let answers = vec![
            Answer { outcome: Outcome::Done, reply: b"+OK\r\n".to_vec(), position: 1 << 40 },
            Answer { outcome: Outcome::Items(vec![5, 0, 4]), reply: b"+OK\r\n:1\r\n".to_vec(), position: 0 },
            Answer::without_reply(Outcome::NotHere),
            Answer::without_reply(Outcome::Unknown("why".to_owned())),
        ];
        let bytes = encode_answers(&answers);
        assert_eq!(decode_answers(&bytes), Ok(answers));
        for cut in 0..bytes.len() {
            assert!(decode_answers(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let _ = decode_answers(&damaged);
            }
        }
    }
}
