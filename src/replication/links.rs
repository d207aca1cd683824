//! Links as the assignment asks for them: one to each primary that is followed, for all partitions that are followed there,
//! begun again when it ends.

use super::assignment::{Assignment, Part};
use super::replica::{Followed, follow};
use super::{LinkState, Node, Upstream};
use crate::base::ids::PartitionId;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// The longest pause before another attempt to connect.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Carries a link.
pub trait LinkStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> LinkStream for T {}

/// Connects to other nodes.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// A stream on which the other side speaks the link's language.
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn LinkStream>>;
}

/// A link, and what it is for.
struct Link<'a> {
    to: (String, u16),
    followed: watch::Sender<Followed>,
    run: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
}

/// Keeps links as long as it runs. Old snapshots are dropped on the way.
pub async fn keep_links(node: &Node, dial: &dyn Dial) {
    let mut assignments = node.replication.assignments();
    let mut links: Vec<Link> = Vec::new();
    loop {
        let assignment = assignments.borrow_and_update().clone();
        change_links(&mut links, followed(&assignment), node, dial);
        let all = std::future::poll_fn(|context| {
            // None of them ends; each is polled whenever anything wakes this task.
            links.iter_mut().for_each(|link| _ = link.run.as_mut().poll(context));
            std::task::Poll::<()>::Pending
        });
        let forget = async {
            loop {
                tokio::time::sleep(node.snapshots.pause()).await;
                node.snapshots.forget_old(&*node.storage).await;
            }
        };
        tokio::select! {
            biased;
            // First: a node that is to be a primary takes nothing more from whom it followed.
            changed = assignments.changed() => if changed.is_err() { return },
            () = all => {}
            () = forget => {}
        }
    }
}

/// Ends links to where something is not followed any more, and begins links to where none leads. One whose partitions are all followed as
/// before goes on, with those that are new: its primary may be waiting for what is acknowledged over it.
fn change_links<'a>(
    links: &mut Vec<Link<'a>>,
    mut wanted: BTreeMap<(String, u16), Followed>,
    node: &'a Node,
    dial: &'a dyn Dial,
) {
    links.retain(|link| {
        let Some(now) = wanted.get(&link.to) else { return false };
        let before = link.followed.borrow().clone();
        let goes_on = before.iter().all(|partition| now.contains(partition));
        if goes_on {
            let now = wanted.remove(&link.to).unwrap_or_default();
            let has_more = now.len() > before.len();
            link.followed.send_if_modified(|followed| {
                *followed = now;
                has_more
            });
        }
        goes_on
    });
    if links.is_empty() {
        // Nothing is left of links that were; positions are another journal's from here on.
        node.replication.with_upstream(|upstream| *upstream = Upstream::default());
    }
    for (to, partitions) in wanted {
        let (host, port) = to.clone();
        let (followed, receiver) = watch::channel(partitions);
        let run = Box::pin(async move { keep_link(node, dial, &host, port, receiver).await });
        links.push(Link { to, followed, run });
    }
}

/// Who is followed, and for which partitions.
fn followed(assignment: &Assignment) -> BTreeMap<(String, u16), Followed> {
    let mut followed: BTreeMap<(String, u16), Followed> = BTreeMap::new();
    for (id, part) in assignment.parts.iter().enumerate() {
        if let Part::Replica { host, port, epoch } = part {
            followed.entry((host.clone(), *port)).or_default().push((PartitionId(id as u16), *epoch));
        }
    }
    followed
}

/// Follows one primary, for ever.
async fn keep_link(node: &Node, dial: &dyn Dial, host: &str, port: u16, followed: watch::Receiver<Followed>) {
    let mut pause = node.timing.retry;
    loop {
        node.replication.with_upstream(|upstream| upstream.state = LinkState::Connecting);
        let begun = tokio::time::Instant::now();
        let ended = match tokio::time::timeout(node.timing.timeout, dial.dial(host, port)).await {
            Ok(Ok(stream)) => {
                tracing::info!("following {host}:{port}");
                follow(stream, node, followed.clone()).await
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(super::LinkError::Silent),
        };
        let error = ended.err().map(|error| error.to_string());
        let down_since_ms = node.replication.now_ms();
        let is_news = node.replication.with_upstream(|upstream| {
            if upstream.state != LinkState::Down && upstream.state != LinkState::Connecting {
                upstream.down_since_ms = down_since_ms;
            }
            upstream.state = LinkState::Down;
            upstream.snapshot_bytes = (0, 0);
            std::mem::replace(&mut upstream.error, error.clone()) != error
        });
        if is_news {
            tracing::warn!("the link to {host}:{port} has ended: {}", error.unwrap_or_default());
        }
        if begun.elapsed() > PAUSE_MAX {
            pause = node.timing.retry;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
