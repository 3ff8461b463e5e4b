//! How long a backend may be silent.
//!
//! A timer for each read would cost more than the read. So one is set when something isn't there at once, and stays
//! when it comes: when the timer is due it is asked how long the silence has lasted, and set again for what is left.
//! Never reads.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock::{self, Moment};

/// A bound on silence, over many reads.
#[derive(Debug, Default)]
pub struct Silence {
    bound: Option<Duration>,
    since: Option<Moment>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// From now on silence lasts at most so long; for ever if `None`.
    pub fn bound(&mut self, bound: Option<Duration>) {
        *self = Silence {
            bound,
            ..Silence::default()
        };
    }

    /// Waits for something; `None` if it lasted too long. A silence goes on when this is dropped while it waits.
    pub async fn broken_by<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = pin!(what);
        poll_fn(|context| {
            if let Poll::Ready(come) = what.as_mut().poll(context) {
                self.since = None;
                return Poll::Ready(Some(come));
            }
            let Some(bound) = self.bound else {
                return Poll::Pending;
            };
            let since = *self.since.get_or_insert_with(clock::now);
            loop {
                let left = bound.saturating_sub(clock::now().since(since));
                let timer = self
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
                match timer.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) if left.is_zero() => return Poll::Ready(None),
                    // It was set for an earlier silence.
                    Poll::Ready(()) => self.timer = None,
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn silence_is_bounded_and_whatever_comes_begins_it_anew() {
        let mut silence = Silence::default();
        silence.bound(Some(BOUND));
        assert_eq!(silence.broken_by(async { 1 }).await, Some(1));
        let soon = tokio::time::sleep(BOUND / 4);
        assert_eq!(silence.broken_by(soon).await, Some(()));
        // The timer of the silence before is still set: it must neither end this one early nor be forgotten.
        assert_eq!(silence.broken_by(std::future::pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn a_silence_goes_on_over_waits_that_were_given_up() {
        let mut silence = Silence::default();
        silence.bound(Some(BOUND));
        loop {
            let short =
                tokio::time::timeout(BOUND / 8, silence.broken_by(std::future::pending::<()>()));
            if let Ok(broken) = short.await {
                assert_eq!(broken, None);
                break;
            }
        }
    }
}
