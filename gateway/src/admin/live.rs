//! `/events`: what goes on now, once a second, as server-sent events to the page.
//!
//! One task makes the picture and all pages get the same bytes; while nobody looks, it only notes the sums of each
//! second, so that a page that is opened shows the last minutes too. A reader that is slow misses pictures, one that
//! is gone is cut, and there is a bound on how many there are. Never touches a request.

mod explain;
mod history;
mod picture;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use self::history::History;
use crate::state::State;

pub(super) const PATH: &str = "events";

/// Pages that are kept up to date at once. Each gets some ten kilobytes a second.
const MAX_READERS: usize = 32;
/// How often there is a new picture.
const INTERVAL: Duration = Duration::from_secs(1);
/// A reader that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pictures, and who looks at them.
#[derive(Debug)]
pub(super) struct Live {
    state: Arc<State>,
    latest: watch::Sender<Bytes>,
    history: Mutex<History>,
    readers: AtomicUsize,
}

/// A place among the readers; free again when dropped.
struct Place<'a>(&'a AtomicUsize);

impl Live {
    pub(super) fn new(state: Arc<State>) -> Self {
        Live {
            state,
            latest: watch::Sender::new(Bytes::new()),
            history: Mutex::default(),
            readers: AtomicUsize::new(0),
        }
    }

    /// Makes pictures for ever.
    pub(super) async fn run(&self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.history.lock().note(&self.state);
            if self.latest.receiver_count() > 0 {
                let picture = picture::picture(&self.state).await;
                self.latest.send_replace(event("now", &picture));
            }
        }
    }

    /// Sends pictures until the reader is gone. False: there are too many readers, and nothing was sent.
    pub(super) async fn serve(&self, session: &mut ServerSession) -> bool {
        let Some(_place) = Place::among(&self.readers) else {
            return false;
        };
        // However it ends, the connection is closed, and the page comes again.
        let _gone = self.send(session).await;
        true
    }

    async fn send(&self, session: &mut ServerSession) -> pingora::Result<()> {
        session.set_keepalive(None);
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        session.write_response_header(Box::new(head()?)).await?;
        let mut pictures = self.latest.subscribe();
        let before = event("history", &self.history.lock().json());
        session.write_response_body(before, false).await?;
        let first = event("now", &picture::picture(&self.state).await);
        session.write_response_body(first, false).await?;
        while pictures.changed().await.is_ok() {
            let picture = pictures.borrow_and_update().clone();
            session.write_response_body(picture, false).await?;
        }
        Ok(())
    }
}

impl<'a> Place<'a> {
    fn among(readers: &'a AtomicUsize) -> Option<Self> {
        let taken = readers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < MAX_READERS).then_some(count + 1)
        });
        taken.ok().map(|_| Place(readers))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn head() -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(4))?;
    head.insert_header(header::CONTENT_TYPE, "text/event-stream")?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    // nginx would hold it back.
    head.insert_header("x-accel-buffering", "no")?;
    Ok(head)
}

/// JSON has no line ends, so it is one line.
fn event(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_readers_and_a_place_is_free_again() {
        let readers = AtomicUsize::new(0);
        let mut places: Vec<_> = (0..MAX_READERS).map(|_| Place::among(&readers)).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(Place::among(&readers).is_none());
        places.pop();
        assert!(Place::among(&readers).is_some());
    }
}
