//! Connections to backends over HTTP/1.1 that wait for their next call.
//!
//! Why not Pingora's pool: it starts a task for each connection that is given back, with a timer and three channels,
//! waits for that task when the connection is taken again, and asks the system whose connection it is. Here a connection
//! is put down, and looked at when it is taken; whoever closed it meanwhile shows in that look, without a system call where
//! nothing has come. What nobody takes is swept once a second. Where each is found: `kept`.
//!
//! Never connects.

mod kept;

use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::AsyncReadExt;

use self::kept::Kept;
use crate::clock::{self, Moment};

/// So many are looked at by the sweep before others may take or give one.
const SWEPT_AT_ONCE: usize = 64;

/// Idle connections, by what tells their peers apart.
pub struct Idle(Mutex<Kept<Waiting>>);

struct Waiting {
    stream: Stream,
    since: Moment,
    at_most: Duration,
}

impl Idle {
    /// None yet; at most so many.
    pub fn new(most: usize) -> Self {
        Idle(Mutex::new(Kept::new(most)))
    }

    /// The connection that was used last, if one is there that can be used again.
    pub fn take(&self, peer: u64) -> Option<Stream> {
        loop {
            // One that has waited for too long is closed by the sweep.
            let mut waiting = self.0.lock().pop(peer)?;
            if is_open(&mut waiting.stream) {
                return Some(waiting.stream);
            }
        }
    }

    /// Keeps a connection for as long as this. Where there are too many, the longest unused one of all goes.
    pub fn give(&self, peer: u64, mut stream: Stream, at_most: Duration) {
        if !is_open(&mut stream) {
            return;
        }
        let waiting = Waiting {
            stream,
            since: clock::now(),
            at_most,
        };
        // Closed when the lock is free again.
        let _closed = self.0.lock().push(peer, waiting);
    }

    /// Closes what waited for long enough, or was closed by its peer.
    pub fn sweep(&self) {
        let now = clock::now();
        let goes = |waiting: &mut Waiting| !waiting.is_fresh(now) || !is_open(&mut waiting.stream);
        let mut from = 0;
        loop {
            let looked = self.0.lock().look(from, SWEPT_AT_ONCE, goes);
            let Some((next, closed)) = looked else {
                return;
            };
            drop(closed);
            from = next;
        }
    }

    /// How many there are.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.0.lock().count()
    }
}

impl Waiting {
    fn is_fresh(&self, now: Moment) -> bool {
        now.since(self.since) < self.at_most
    }
}

/// Whether it is neither closed nor has said something that nobody asked for.
fn is_open(stream: &mut Stream) -> bool {
    let mut byte = [0; 1];
    // Without a budget: else a look could pass for silence because this task has done much already.
    let read = tokio::task::unconstrained(stream.read(&mut byte)).now_or_never();
    read.is_none()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pingora::protocols::l4::stream::Stream as Tcp;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const EAST: u64 = 1;
    const WEST: u64 = 2;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (theirs, _) = listener.accept().await.unwrap();
        (Box::new(Tcp::from(ours.unwrap())), theirs)
    }

    /// Waits until the pool sees what its other end did.
    async fn noticed(idle: &Idle) {
        while idle.count() > 0 {
            idle.sweep();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_peers_connection_used_last_is_taken_first_and_by_it_alone() {
        let idle = Idle::new(8);
        let (first, _first) = pair().await;
        let (second, _second) = pair().await;
        let newest = second.id();
        idle.give(EAST, first, LONG);
        idle.give(EAST, second, LONG);
        assert!(idle.take(WEST).is_none());
        assert_eq!(idle.take(EAST).unwrap().id(), newest);
        assert!(idle.take(EAST).is_some());
        assert!(idle.take(EAST).is_none());
    }

    #[tokio::test]
    async fn one_that_was_closed_or_that_speaks_unasked_is_not_handed_out() {
        let idle = Idle::new(8);
        let (stream, closing) = pair().await;
        idle.give(EAST, stream, LONG);
        drop(closing);
        noticed(&idle).await;
        let (stream, mut speaking) = pair().await;
        idle.give(EAST, stream, LONG);
        speaking.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        noticed(&idle).await;
        assert!(idle.take(EAST).is_none());
    }

    #[tokio::test]
    async fn one_that_waited_for_too_long_is_closed() {
        let idle = Idle::new(8);
        let (stream, _other) = pair().await;
        idle.give(EAST, stream, Duration::ZERO);
        idle.sweep();
        assert_eq!(idle.count(), 0);
    }

    #[tokio::test]
    async fn no_more_are_kept_than_may_be_and_the_sweep_looks_at_all_of_them() {
        let idle = Idle::new(2 * SWEPT_AT_ONCE + 1);
        let mut others = Vec::new();
        for _ in 0..2 * SWEPT_AT_ONCE + 3 {
            let (stream, other) = pair().await;
            idle.give(EAST, stream, LONG);
            others.push(other);
        }
        assert_eq!(idle.count(), 2 * SWEPT_AT_ONCE + 1);
        others.clear();
        noticed(&idle).await;
    }

    #[tokio::test]
    async fn a_full_pool_gives_up_the_longest_unused_connection_for_another_peers() {
        let idle = Idle::new(2);
        let (oldest, mut closed) = pair().await;
        let (newer, _newer) = pair().await;
        let (west, _west) = pair().await;
        let (newer_id, west_id) = (newer.id(), west.id());
        idle.give(EAST, oldest, LONG);
        idle.give(EAST, newer, LONG);
        idle.give(WEST, west, LONG);
        assert_eq!(closed.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(idle.take(WEST).unwrap().id(), west_id);
        assert_eq!(idle.take(EAST).unwrap().id(), newer_id);
        assert!(idle.take(EAST).is_none());
    }
}
