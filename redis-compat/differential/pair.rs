//! Larder and redis-server side by side: the same requests to both, reply by reply, and then the data they leave.

use crate::compare;
use crate::data;
use crate::rules;
use crate::support::{Client, Server, Value, request};
use crate::transcript::{CONNECTIONS, Step, line, protocol};
use std::fmt;
use std::time::Duration;

/// Requests sent before their replies are read, and their bytes: less than what sockets hold, so that nobody waits for
/// the other in a circle.
const PIPELINE_STEPS: usize = 100;
const PIPELINE_BYTES: usize = 150_000;

/// Data that both servers have at the start of an episode, and that is set again for the next.
const SETTINGS: &[&str] =
    &["hash-max-listpack-entries", "16", "hash-max-listpack-value", "64", "zset-max-listpack-entries", "16"];

/// One server with its connections.
pub struct Side {
    server: Server,
    /// For what is no part of the episode.
    pub control: Client,
    clients: Vec<Client>,
    /// Parameters as they were at the start.
    settings: Vec<Vec<u8>>,
}

/// The first thing that differs.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The step after which it was seen.
    pub step: usize,
    /// What was compared.
    pub what: String,
    /// Larder's answer.
    pub ours: String,
    /// redis-server's.
    pub theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}\n  ours:   {}\n  theirs: {}", self.what, self.ours, self.theirs)
    }
}

/// Both servers, and what is open on their connections.
pub struct Pair {
    /// Larder.
    pub ours: Side,
    /// redis-server.
    pub theirs: Side,
    /// Requests queued by MULTI, by connection.
    queued: Vec<Vec<Vec<Vec<u8>>>>,
    /// Requests sent since the start.
    pub sent: u64,
    /// Number of entries in the command table → requests sent, and those that were no error.
    pub answered: Vec<(u64, u64)>,
}

impl Side {
    fn new(server: Server) -> Side {
        let mut control = server.connect();
        let mut settings: Vec<Vec<u8>> = SETTINGS.iter().map(|word| word.as_bytes().to_vec()).collect();
        // Old names of the same parameters are left out: none may be set twice in one go.
        for name in
            rules::SETTINGS.iter().filter(|name| !name.contains("ziplist") && !SETTINGS.contains(name))
        {
            let answer = control.ask(&["CONFIG", "GET", name]);
            settings.extend(answer.items().iter().map(|item| item.text().into_bytes()));
        }
        Side { server, control, clients: Vec::new(), settings }
    }

    /// Empty data, settings as at the start, new connections.
    fn clean(&mut self) {
        if !self.server.is_running() {
            self.server.start_again();
        }
        self.clients.clear();
        self.control = self.server.connect();
        self.control.expect(&["CLIENT", "UNPAUSE"], "OK");
        self.control.expect(&["FLUSHALL"], "OK");
        self.control.expect(&["CONFIG", "RESETSTAT"], "OK");
        let settings = self.settings.iter().map(Vec::as_slice);
        let words: Vec<&[u8]> = [b"CONFIG".as_slice(), b"SET"].into_iter().chain(settings).collect();
        self.control.expect(&words, "OK");
        self.clients = (0..CONNECTIONS).map(|index| self.connect(index)).collect();
    }

    fn connect(&self, index: usize) -> Client {
        let mut client = self.server.connect();
        if protocol(index) == "3" {
            client.ask(&["HELLO", "3"]);
        }
        client
    }
}

impl Pair {
    /// Starts both.
    pub fn start() -> Pair {
        let ours = Server::start(&[
            "--enable-debug-command",
            "yes",
            "--appendfsync",
            "no",
            "--slowlog-log-slower-than",
            "-1",
        ]);
        let theirs = Server::start_reference(&[
            "--enable-debug-command",
            "yes",
            "--slowlog-log-slower-than",
            "-1",
            "--maxmemory",
            "1gb",
        ]);
        let answered = vec![(0, 0); larder::commands::table::full_names().len()];
        Pair { ours: Side::new(ours), theirs: Side::new(theirs), queued: Vec::new(), sent: 0, answered }
    }

    /// Both empty, with new connections.
    pub fn clean(&mut self) {
        self.ours.clean();
        self.theirs.clean();
        self.queued = vec![Vec::new(); CONNECTIONS];
    }

    /// Plays steps from `from` on and compares replies, then data (payloads too, if `whole`).
    pub fn play(&mut self, steps: &[Step], from: usize, whole: bool) -> Option<Difference> {
        let mut at = from;
        while at < steps.len() {
            let end = pipeline_end(steps, at);
            if let Some(difference) = self.pipeline(steps, at, end) {
                return Some(difference);
            }
            if steps[end - 1].pause {
                std::thread::sleep(Duration::from_millis(8));
                data::await_expiry(self);
            }
            at = end;
        }
        let (what, ours, theirs) = data::difference(self, whole)?;
        Some(Difference { step: steps.len().saturating_sub(1), what, ours, theirs })
    }

    /// From empty servers on. What differs, if anything does.
    pub fn replay(&mut self, steps: &[Step]) -> Option<Difference> {
        self.clean();
        self.play(steps, 0, true)
    }

    fn pipeline(&mut self, steps: &[Step], at: usize, end: usize) -> Option<Difference> {
        let connection = steps[at].connection;
        let bytes: Vec<u8> = steps[at..end].iter().flat_map(|step| request(&step.words)).collect();
        self.sent += (end - at) as u64;
        // A connection that was closed meanwhile shows when the replies are read.
        let _ = self.ours.clients[connection].send(&bytes);
        let _ = self.theirs.clients[connection].send(&bytes);
        for (step, at) in steps[at..end].iter().zip(at..) {
            let ours = self.ours.clients[connection].read();
            let theirs = self.theirs.clients[connection].read();
            let (ours, theirs) = match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => (ours, theirs),
                (Err(_), Err(_)) => {
                    self.ours.clients[connection] = self.ours.connect(connection);
                    self.theirs.clients[connection] = self.theirs.connect(connection);
                    self.queued[connection].clear();
                    return None;
                }
                (ours, theirs) => {
                    let shown = |answer: std::io::Result<Value>| match answer {
                        Ok(value) => cut(&value.to_string()),
                        Err(error) => format!("no reply: {error}"),
                    };
                    return Some(Difference {
                        step: at,
                        what: line(&step.words, true),
                        ours: shown(ours),
                        theirs: shown(theirs),
                    });
                }
            };
            self.note(step, &theirs);
            let queued = &mut self.queued[connection];
            if !compare::same(&step.words, queued, &ours, &theirs) {
                let (ours, theirs) = compare::shown(&step.words, &ours, &theirs);
                let (ours, theirs) = (cut(&ours), cut(&theirs));
                return Some(Difference { step: at, what: line(&step.words, true), ours, theirs });
            }
            follow_transaction(queued, step, &theirs);
        }
        None
    }

    fn note(&mut self, step: &Step, reply: &Value) {
        if let Some(entry) = rules::entry_of(&step.words) {
            let (sent, fine) = &mut self.answered[entry.number];
            *sent += 1;
            *fine += u64::from(!matches!(reply, Value::Error(_)) && !compare::is_queued(reply));
        }
    }
}

fn cut(text: &str) -> String {
    let cut: String = text.chars().take(1500).collect();
    if cut.len() < text.len() { format!("{cut}… ({} bytes)", text.len()) } else { cut }
}

/// Keeps the list of what the next EXEC answers.
fn follow_transaction(queued: &mut Vec<Vec<Vec<u8>>>, step: &Step, reply: &Value) {
    let is = |name: &str| step.words[0].eq_ignore_ascii_case(name.as_bytes());
    match reply {
        Value::Simple(text) if text == "QUEUED" => queued.push(step.words.clone()),
        Value::Error(_) if !is("exec") => {}
        _ if is("exec") || is("discard") || is("reset") => queued.clear(),
        _ => {}
    }
}

/// Where the pipeline that begins at `at` ends: with another connection, a pause, a request that may close, or enough bytes.
fn pipeline_end(steps: &[Step], at: usize) -> usize {
    let mut bytes = 0;
    let mut end = at;
    while end < steps.len() && end - at < PIPELINE_STEPS && steps[end].connection == steps[at].connection {
        let length: usize = steps[end].words.iter().map(|word| word.len() + 16).sum();
        if end > at && bytes + length > PIPELINE_BYTES {
            break;
        }
        bytes += length;
        end += 1;
        if steps[end - 1].pause || rules::is_last(&steps[end - 1].words) {
            break;
        }
    }
    end
}
