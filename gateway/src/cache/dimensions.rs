//! How long the vectors of a store are, for as long as it has any.
//!
//! Vectors of another length were made by another model, and have nothing to say of those that are there. This process
//! remembers what it put in itself; what it never saw, it doesn't judge.

use filters::time::Time;
use parking_lot::Mutex;

/// The length of the vectors that this process put in, until the last of them is over.
#[derive(Debug, Default)]
pub struct Dimensions(Mutex<Option<Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    count: usize,
    until: Time,
}

impl Dimensions {
    /// Whether a vector of so many dimensions can be compared with those that are kept.
    pub fn compare(&self, now: Time, count: usize) -> bool {
        let known = *self.0.lock();
        known.is_none_or(|known| known.until <= now || known.count == count)
    }

    /// One of so many dimensions is kept until then.
    pub fn learn(&self, count: usize, until: Time) {
        *self.0.lock() = Some(Known { count, until });
    }

    /// There is none any more.
    pub fn forget(&self) {
        *self.0.lock() = None;
    }
}
