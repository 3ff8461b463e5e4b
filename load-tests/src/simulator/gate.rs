//! Lets a test release the events of a stream one by one, so that it shows order and not time.
//!
//! Permits are counted and kept, so a test may release before the stream waits. Nothing here looks at a clock.

use tokio::sync::Semaphore;

/// Shared by all gated streams of one simulator.
#[derive(Debug)]
pub struct Gate {
    permits: Semaphore,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            permits: Semaphore::new(0),
        }
    }

    /// Lets so many further events out.
    pub fn release(&self, events: usize) {
        self.permits
            .add_permits(events.min(Semaphore::MAX_PERMITS / 2));
    }

    /// Opens the gate for good.
    pub fn open(&self) {
        self.permits.close();
    }

    pub(crate) async fn pass(&self) {
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
    }
}
