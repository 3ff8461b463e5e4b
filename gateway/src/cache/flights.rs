//! Calls that others with the same prompt wait for, so that many at once make one.
//!
//! The first one flies; whoever asks the same meanwhile waits until it is over, however it ends: answered, failed, its
//! caller gone. Then each looks again. Bounded by the requests in flight, since each entry is one of them.
//! Never knows what a call brought.

use std::collections::HashMap;
use std::sync::Arc;

use filters::cache::exact::Digest;
use parking_lot::Mutex;
use tokio::sync::watch;

/// All that are under way.
#[derive(Debug, Default)]
pub struct Flights(Mutex<HashMap<Digest, watch::Receiver<()>>>);

/// A call that others may wait for; over when dropped.
#[derive(Debug)]
pub struct Flight {
    flights: Arc<Flights>,
    prompt: Digest,
    /// Dropped after the entry is gone: who wakes finds none.
    _over: watch::Sender<()>,
}

/// What a call is to those with the same prompt.
#[derive(Debug)]
pub enum Place {
    /// The first.
    First(Flight),
    /// One flies already.
    Behind(Wait),
}

/// For the end of another's call.
#[derive(Debug)]
pub struct Wait(watch::Receiver<()>);

impl Flights {
    /// Takes the first place for a prompt, or one behind it.
    pub fn enter(self: &Arc<Self>, prompt: Digest) -> Place {
        let mut flights = self.0.lock();
        if let Some(first) = flights.get(&prompt) {
            return Place::Behind(Wait(first.clone()));
        }
        let (over, waiting) = watch::channel(());
        flights.insert(prompt, waiting);
        Place::First(Flight {
            flights: self.clone(),
            prompt,
            _over: over,
        })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.0.lock().remove(&self.prompt);
    }
}

impl Wait {
    /// Until it is over.
    pub async fn over(mut self) {
        // Nothing is ever sent: the only news is that the sender is gone.
        let _gone = self.0.changed().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use filters::cache::prompt::{Scope, SystemMessages, read};
    use filters::route::Shape;
    use futures_util::FutureExt;

    use super::*;

    fn prompt(text: &str) -> Digest {
        let scope = Scope {
            policy: "p",
            api: "a",
            operation: "completions",
            model: "m",
            vary_by: &[],
        };
        let body = format!("{{\"prompt\":\"{text}\"}}");
        let read = read(
            Shape::Completions,
            body.as_bytes(),
            scope,
            SystemMessages::Embedded,
        );
        read.unwrap().exact
    }

    #[test]
    fn those_behind_wait_until_the_first_is_over_and_then_there_is_none() {
        let flights = Arc::new(Flights::default());
        let Place::First(first) = flights.enter(prompt("a")) else {
            panic!("nobody flew before");
        };
        assert!(matches!(flights.enter(prompt("b")), Place::First(_)));
        let Place::Behind(wait) = flights.enter(prompt("a")) else {
            panic!("the first flies");
        };
        let mut over = Box::pin(wait.over());
        assert_eq!(over.as_mut().now_or_never(), None);
        drop(first);
        assert_eq!(over.now_or_never(), Some(()));
        assert!(matches!(flights.enter(prompt("a")), Place::First(_)));
    }
}
