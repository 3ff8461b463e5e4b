//! The end of the process, in steps: what runs is told of each, and nothing is cut before it had its time.
//!
//! A request asks two flags, and waits for one bell: whoever rings it wakes every call that waits for its backend or its
//! caller, so that each can end its answer properly and be accounted. Pingora alone would drop what is in flight where it
//! stands: its hooks wouldn't be called, and what was used not be settled. Never ends a call itself.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// How far the end has come. Each step holds for those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It hasn't begun.
    Serving,
    /// `/readyz` says 503, and every answer asks its caller to close the connection.
    Leaving,
    /// No connection is accepted any more.
    Closed,
    /// Connections without a call are closed.
    Idle,
    /// What is still in flight ends now.
    Cut,
}

/// The steps, and who waits for them.
#[derive(Debug)]
pub struct Stop {
    step: watch::Sender<Step>,
    handed_over: watch::Sender<bool>,
    /// As Pingora's services are told: `true` ends their accepting.
    closed: watch::Sender<bool>,
    is_leaving: AtomicBool,
    is_cut: AtomicBool,
    bell: Notify,
    /// Duplicates of the listening sockets, to be handed over. Dropped when nothing is accepted any more: as long as one is
    /// open, the kernel lets callers in.
    sockets: Mutex<Vec<(String, OwnedFd)>>,
}

impl Default for Stop {
    fn default() -> Self {
        Stop {
            step: watch::Sender::new(Step::Serving),
            handed_over: watch::Sender::new(false),
            closed: watch::Sender::new(false),
            is_leaving: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            bell: Notify::new(),
            sockets: Mutex::default(),
        }
    }
}

impl Stop {
    /// Goes on to a step, if it hasn't come further already.
    pub fn go(&self, step: Step) {
        self.step.send_if_modified(|current| {
            let is_later = step > *current;
            if is_later {
                *current = step;
            }
            is_later
        });
        if step >= Step::Leaving {
            self.is_leaving.store(true, Ordering::Release);
        }
        if step >= Step::Closed {
            self.closed.send_replace(true);
            self.sockets.lock().clear();
        }
        if step >= Step::Cut {
            self.is_cut.store(true, Ordering::Release);
            self.bell.notify_waiters();
        }
    }

    /// Waits until the end has come so far.
    pub async fn reached(&self, step: Step) {
        let mut steps = self.step.subscribe();
        // The sender is this value's own: it lives as long as the wait.
        let _ = steps.wait_for(|current| *current >= step).await;
    }

    /// Another process has the listeners and is ready: this one may leave.
    pub fn hand_over(&self) {
        self.handed_over.send_replace(true);
    }

    /// Waits for that.
    pub async fn handed_over(&self) {
        let mut handed_over = self.handed_over.subscribe();
        // As above.
        let _ = handed_over.wait_for(|is_so| *is_so).await;
    }

    /// Whether that is so.
    pub fn is_handed_over(&self) -> bool {
        *self.handed_over.borrow()
    }

    /// How far it has come.
    pub fn step(&self) -> Step {
        *self.step.borrow()
    }

    /// Whether callers are asked to go elsewhere.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Waits until what is in flight has to end. Costs nothing until it is waited for.
    pub async fn cut(&self) {
        // Made before the flag is read: a bell between the two is heard.
        let bell = self.bell.notified();
        if !self.is_cut.load(Ordering::Acquire) {
            bell.await;
        }
    }

    /// What ends Pingora's accepting.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Keeps the listening sockets, by their addresses, for a hand-over.
    pub fn keep(&self, sockets: Vec<(String, OwnedFd)>) {
        *self.sockets.lock() = sockets;
    }

    /// Lets whoever hands them over see the listening sockets.
    pub fn with_sockets<T>(&self, see: impl FnOnce(&[(String, OwnedFd)]) -> T) -> T {
        see(&self.sockets.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_holds_for_those_after_it_and_is_never_taken_back() {
        let stop = Stop::default();
        assert!(!stop.is_leaving());
        stop.go(Step::Closed);
        stop.go(Step::Leaving);
        assert_eq!(stop.step(), Step::Closed);
        assert!(stop.is_leaving() && *stop.closing().borrow());
        stop.reached(Step::Leaving).await;
    }

    #[tokio::test]
    async fn the_bell_is_heard_by_those_who_wait_and_by_those_who_come_later() {
        let stop = Stop::default();
        let waiting = stop.cut();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        stop.go(Step::Cut);
        waiting.await;
        stop.cut().await;
    }
}
