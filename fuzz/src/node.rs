//! `Node`: everything of a server but its sockets and its disk, in this thread, with one client.

use larder::commands::table;
use larder::config::Parameters;
use larder::protocol::args::{Args, Range};
use larder::protocol::encode::encode;
use larder::server::dispatch::{Turn, Verdict, dispatch};
use larder::session::client::{Client, Peer};
use larder::session::saving::Kind;
use larder::session::service::Service;
use larder::session::session::Session;
use larder::store::Store;
use std::sync::Arc;

/// Wall clock of every command, so that runs are alike.
pub const NOW_MS: i64 = 1_700_000_000_000;
/// Strings stay short, so that a short input cannot cost much.
const SETTINGS: [&str; 4] = [
    "proto-max-bulk-len 1mb",
    "enable-debug-command yes",
    "latency-tracking no",
    "hash-max-listpack-entries 8",
];

/// A server with one client.
pub struct Node {
    /// What sessions share.
    pub service: Service,
    /// The client's.
    pub session: Session,
}

impl Node {
    /// An empty one.
    pub fn new() -> Node {
        let parameters = Parameters::with(&SETTINGS).expect("valid settings");
        let service = Service::new(parameters, Arc::new(Store::in_memory(4, 16)), table::full_names());
        // A save is always under way, so that none starts a thread, which the search for leaks might meet half begun or half ended.
        service.saving.begin(Kind::Save, false);
        let session = Node::connect(&service);
        Node { service, session }
    }

    fn connect(service: &Service) -> Session {
        let peer = Peer { is_loopback: true, ..Peer::default() };
        let client: Arc<Client> = service.clients.register(peer, NOW_MS, 10).expect("a free place");
        Session::new(client, service.settings().requirepass.0.is_empty())
    }

    /// Another client instead of this one.
    pub fn reconnect(&mut self) {
        self.session.watched.clear(&self.service.store, NOW_MS);
        self.service.monitors.remove(self.session.id);
        self.service.clients.remove(&self.session.client);
        self.service.follow(None);
        self.session = Node::connect(&self.service);
    }

    /// Runs a command: the bytes of the reply. What waits is answered as if its time were up, and pauses are over.
    pub fn run(&mut self, args: Args) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let settings = self.service.parameters.snapshot();
            let turn = Turn { service: &self.service, settings: &settings, now_ms: NOW_MS };
            let reply = match dispatch(turn, &mut self.session, args) {
                Verdict::Done(reply) => reply,
                Verdict::Waiting { ticket, .. } => {
                    assert!(ticket.claim(), "nobody serves it");
                    self.service.waiting.remove(&ticket);
                    ticket.on_timeout.clone()
                }
                Verdict::Copies(wanted) => wanted.reply(wanted.count(&self.service)),
                Verdict::Postponed { .. } => {
                    self.service.pause.end();
                    continue;
                }
                Verdict::Away(_) | Verdict::Split(_) | Verdict::Later => {
                    unreachable!("there are no other nodes")
                }
            };
            encode(&reply, self.session.version, &mut out);
            self.session.publish();
            self.session.client.take_mail();
            return out;
        }
    }

    /// The same with the words as they are.
    pub fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let buffer = words.concat();
        let mut end = 0;
        let ranges: Vec<Range> = words
            .iter()
            .map(|word| {
                let start = end;
                end += word.len() as u32;
                (start, end)
            })
            .collect();
        self.run(Args::new(&buffer, &ranges))
    }
}

impl Default for Node {
    fn default() -> Node {
        Node::new()
    }
}
