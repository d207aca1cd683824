//! `Served`: changes that other nodes have asked for and that are under way here, or were asked for more than once.
//!
//! A request may be sent again while it is still being carried out, or while the first one lies in a buffer: of all that have the same
//! id one is carried out, the others wait for it and get its answer.

use super::message::{Answer, RequestId};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// How many that are done are remembered.
const KEPT_MAX: usize = 8192;

enum State {
    /// The other end is dropped when it is over.
    UnderWay(watch::Receiver<()>),
    Done(Answer),
}

#[derive(Default)]
struct All {
    by_id: HashMap<RequestId, State>,
    /// Those that are done, oldest first.
    done: VecDeque<RequestId>,
}

/// See the module.
#[derive(Default)]
pub struct Served(Arc<Mutex<All>>);

/// What is to be done with a request.
pub enum Begun {
    /// It is carried out by whoever holds this.
    Now(UnderWay),
    /// It is being carried out: to be looked at again when this ends.
    Already(watch::Receiver<()>),
    /// It was carried out.
    Done(Answer),
}

/// The right to carry out a request. Dropped, it is over.
pub struct UnderWay {
    all: Arc<Mutex<All>>,
    id: RequestId,
    _over: watch::Sender<()>,
}

impl Served {
    /// Begins to carry out this request, unless somebody has.
    pub fn begin(&self, id: RequestId) -> Begun {
        let mut all = self.0.lock();
        match all.by_id.get(&id) {
            Some(State::UnderWay(over)) => Begun::Already(over.clone()),
            Some(State::Done(answer)) => Begun::Done(answer.clone()),
            None => {
                let (over, receiver) = watch::channel(());
                all.by_id.insert(id, State::UnderWay(receiver));
                Begun::Now(UnderWay { all: Arc::clone(&self.0), id, _over: over })
            }
        }
    }

    /// How many are under way or remembered.
    pub fn len(&self) -> usize {
        self.0.lock().by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl UnderWay {
    /// It is done, and is not done again.
    pub fn done(self, answer: Answer) {
        let mut all = self.all.lock();
        all.by_id.insert(self.id, State::Done(answer));
        all.done.push_back(self.id);
        if all.done.len() > KEPT_MAX
            && let Some(oldest) = all.done.pop_front()
        {
            all.by_id.remove(&oldest);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(State::UnderWay(_)) = all.by_id.get(&self.id) {
            all.by_id.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Outcome;
    use super::*;

    #[test]
    fn one_of_the_same_is_carried_out() {
        let served = Served::default();
        let Begun::Now(first) = served.begin(RequestId(1)) else { panic!("nobody has it") };
        let Begun::Already(over) = served.begin(RequestId(1)) else { panic!("it is under way") };
        drop(first);
        assert!(over.has_changed().is_err(), "it is over");
        let Begun::Now(again) = served.begin(RequestId(1)) else { panic!("it was not done") };
        again.done(Answer::without_reply(Outcome::Done));
        assert!(matches!(served.begin(RequestId(1)), Begun::Done(_)));
        for id in 2..KEPT_MAX as u128 + 2 {
            let Begun::Now(another) = served.begin(RequestId(id)) else { panic!("nobody has it") };
            another.done(Answer::without_reply(Outcome::Done));
        }
        assert_eq!(served.len(), KEPT_MAX);
        assert!(matches!(served.begin(RequestId(1)), Begun::Now(_)));
    }
}
