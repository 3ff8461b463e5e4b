//! How long a backend may be silent.
//!
//! A timer for each read would cost more than the read. So one is set when something isn't there at once, and stays
//! when it comes: when the timer is due it is asked how long the silence has lasted, and set again for what is left.
//! Until then it isn't even looked at, as long as it wakes whoever waits.
//! Never reads.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock::{self, Moment};

/// A bound on silence, over many reads.
#[derive(Debug, Default)]
pub struct Silence {
    bound: Option<Duration>,
    since: Option<Moment>,
    timer: Option<Timer>,
}

#[derive(Debug)]
struct Timer {
    due: Moment,
    sleep: Pin<Box<Sleep>>,
    wakes: Waker,
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
                self.broken();
                return Poll::Ready(Some(come));
            }
            self.poll_over(context).map(|()| None)
        })
        .await
    }

    /// Something has come.
    pub fn broken(&mut self) {
        self.since = None;
    }

    /// Nothing has come; ends when the silence has lasted too long.
    pub fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(bound) = self.bound else {
            return Poll::Pending;
        };
        let now = clock::now();
        let since = *self.since.get_or_insert(now);
        loop {
            let left = bound.saturating_sub(now.since(since));
            let timer = self.timer.get_or_insert_with(|| Timer {
                due: now.after(left),
                sleep: Box::pin(tokio::time::sleep(left)),
                wakes: Waker::noop().clone(),
            });
            if now < timer.due && timer.wakes.will_wake(context.waker()) {
                return Poll::Pending;
            }
            if timer.sleep.as_mut().poll(context).is_pending() {
                timer.wakes.clone_from(context.waker());
                return Poll::Pending;
            }
            if left.is_zero() {
                return Poll::Ready(());
            }
            // It was set for an earlier silence.
            self.timer = None;
        }
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
