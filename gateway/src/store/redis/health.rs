//! Whether Redis can be asked, and how that is known.
//!
//! A call that fails costs its whole timeout, so after a few in a row no request tries any more: only the
//! heartbeat does, until it gets an answer. One log line for each change.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::watch;

/// Failures in a row after which Redis is taken for gone. One alone may be a slow moment.
const MAX_FAILURES: u32 = 3;

/// What Redis is asked to do; also the label of its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Take from limits.
    Reserve,
    /// Correct to what was used.
    Settle,
    /// Say that this replica lives.
    Heartbeat,
    /// Tell and read trips.
    Trips,
    /// Tell and ask who holds what.
    Holders,
}

/// What is known of Redis.
#[derive(Debug)]
pub struct Health {
    up: watch::Sender<bool>,
    failures: AtomicU32,
    replicas: AtomicU64,
    errors: [AtomicU64; 5],
}

impl Default for Health {
    fn default() -> Self {
        Health {
            up: watch::Sender::new(false),
            failures: AtomicU32::new(0),
            replicas: AtomicU64::new(1),
            errors: Default::default(),
        }
    }
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Reserve,
        Self::Settle,
        Self::Heartbeat,
        Self::Trips,
        Self::Holders,
    ];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Operation::Reserve => "reserve",
            Operation::Settle => "settle",
            Operation::Heartbeat => "heartbeat",
            Operation::Trips => "trips",
            Operation::Holders => "holders",
        }
    }
}

impl Health {
    /// Whether Redis is asked.
    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Ends when Redis is up, or at once if it is.
    pub async fn wait_until_up(&self) {
        // The sender is `self`: it can't be gone.
        let _ = self.up.subscribe().wait_for(|up| *up).await;
    }

    /// Tells each change of it; the end of the store too, by being closed.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Live replicas as last known, this one among them.
    pub fn replicas(&self) -> u64 {
        self.replicas.load(Ordering::Relaxed)
    }

    /// Errors since the start.
    pub fn errors(&self, operation: Operation) -> u64 {
        self.errors[operation as usize].load(Ordering::Relaxed)
    }

    /// A call was answered.
    pub fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A call failed.
    pub fn failed(&self, operation: Operation, why: &str) {
        self.errors[operation as usize].fetch_add(1, Ordering::Relaxed);
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_FAILURES {
            self.down(why);
        }
    }

    /// A call failed that nothing hangs on: it says nothing of the others.
    pub fn missed(&self, operation: Operation) {
        self.errors[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// No request tries any more.
    pub fn down(&self, why: &str) {
        if self.up.send_if_modified(|up| std::mem::replace(up, false)) {
            tracing::warn!(
                reason = why,
                "redis: gone; each limit acts by its on-redis-error"
            );
        }
    }

    /// Redis answers again.
    pub fn up(&self) {
        self.answered();
        if self.up.send_if_modified(|up| !std::mem::replace(up, true)) {
            tracing::info!(replicas = self.replicas(), "redis: answering");
        }
    }

    /// So many replicas live.
    pub fn counted(&self, replicas: u64) {
        self.replicas.store(replicas.max(1), Ordering::Relaxed);
    }
}
