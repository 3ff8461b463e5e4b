//! How far a background task is that fetches something again and again, for requests that need what it fetches.
//!
//! Requests don't fetch: they look, wait for a fetch that is under way, or ask for one that is due. So however many
//! need it, one call is made, and a service that fails is asked again after a pause and not by every request.

use std::time::Duration;

use filters::time::UnixTime;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::clock;

/// One task's progress, and the bell that wakes it.
#[derive(Debug)]
pub struct Pace {
    progress: watch::Sender<Progress>,
    bell: Notify,
    rung_at: Mutex<UnixTime>,
}

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// A fetch is under way, or will be at once.
    pub is_fetching: bool,
    /// The last one failed.
    pub is_failing: bool,
    /// How many have ended.
    pub fetches_ended: u64,
}

impl Pace {
    /// Of a task whose first fetch is about to begin.
    pub fn begin() -> Self {
        Pace {
            progress: watch::Sender::new(Progress {
                is_fetching: true,
                is_failing: false,
                fetches_ended: 0,
            }),
            bell: Notify::new(),
            rung_at: Mutex::new(UnixTime::from_seconds(0)),
        }
    }

    /// Where it is now.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// A fetch begins.
    pub fn fetching(&self) {
        self.progress
            .send_modify(|progress| progress.is_fetching = true);
    }

    /// A fetch has ended, or will never be made.
    pub fn rest(&self, is_failing: bool) {
        self.progress.send_modify(|progress| {
            progress.is_fetching = false;
            progress.is_failing = is_failing;
            progress.fetches_ended += 1;
        });
    }

    /// Sleeps until the next fetch is due, or somebody asks for it.
    pub async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.bell.notified() => {}
        }
    }

    /// Asks for a fetch now.
    pub fn ring(&self) {
        self.fetching();
        self.bell.notify_one();
    }

    /// Asks for a fetch now, but no more often than every `interval_s` seconds; whether it was asked for.
    pub fn ring_once_in(&self, interval_s: u64) -> bool {
        let now = clock::unix_time();
        let mut last = self.rung_at.lock();
        let is_due = now.seconds_since(*last) >= interval_s;
        if is_due {
            *last = now;
            self.ring();
        }
        is_due
    }

    /// Waits until one more fetch has ended than at `seen`, or for so long.
    pub async fn wait(&self, seen: Progress, at_most: Duration) {
        let mut progress = self.progress.subscribe();
        let ended = progress.wait_for(|now| now.fetches_ended > seen.fetches_ended);
        // Late or not: what counts is what was fetched.
        let _ = tokio::time::timeout(at_most, ended).await;
    }
}
