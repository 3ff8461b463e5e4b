//! Whose turn it is: a counter for each set of usable members.
//!
//! The only live state of balancing, without a lock. A set finds its counter by its bits modulo 37. Two
//! is a primitive root of 37, so a full pool and the same pool without any one member never share
//! a counter; sets that differ by more may, and then alternate less smoothly for as long as both are in use.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Members;

/// A prime above the number of members, of which 2 is a primitive root.
const COUNTERS: usize = 37;

/// A pool's counters of turns.
#[derive(Debug)]
pub struct Turns([AtomicU64; COUNTERS]);

impl Turns {
    /// Begins at this turn: a number of its own for each replica, so that they don't all begin with the same member.
    pub fn beginning_at(turn: u64) -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(turn)))
    }

    /// The next turn of this set. Pass [`super::Pool::best`] of those usable: worse priorities don't matter to it.
    pub fn take(&self, of: Members) -> u64 {
        self.0[of.0 as usize % COUNTERS].fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::MAX_MEMBERS;

    #[test]
    fn a_member_that_leaves_moves_the_rest_to_a_counter_of_their_own() {
        for count in 1..=MAX_MEMBERS {
            let all: Members = (0..count).collect();
            let turns = Turns::beginning_at(7);
            assert_eq!(turns.take(all), 7);
            for member in 0..count {
                assert_eq!(turns.take(all.without(member)), 7, "{count} {member}");
            }
            assert_eq!(turns.take(all), 8);
        }
    }
}
