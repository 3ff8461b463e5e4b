//! Which backend holds what it once made: a response, a file, a thread.
//!
//! Learned from answers, asked by requests that name an id. Two generations of ids: when the younger one is full
//! or old enough, it takes the place of the older one, whose ids are forgotten but for those that were asked for
//! meanwhile. So what is used stays, and the memory is bounded: 16 shards of 2 generations of 14336 ids
//! of 33 bytes are 17 MiB at most, and nothing before the first id. A lock is held for one look-up in a shard.
//! An id that is forgotten is balanced like any other call. Never asks a backend.

use std::array;
use std::collections::HashMap;
use std::sync::Arc;

use filters::balance::affinity::HeldId;
use filters::time::Time;
use parking_lot::Mutex;

/// So that requests seldom wait for each other.
const SHARDS: usize = 16;
/// Ids in one generation of a shard: what a table of 16384 places takes before it grows.
const GENERATION_IDS: usize = 14_336;
/// How long an id is kept at least, if there is room: as long as Azure keeps a response. Nanoseconds.
const LIFETIME_NANOSECONDS: u64 = 30 * 86_400 * 1_000_000_000;

/// Ids, and the names of the backends that hold what they name.
#[derive(Debug)]
pub struct Holders([Mutex<Shard>; SHARDS]);

#[derive(Debug)]
struct Shard {
    young: HashMap<HeldId, Arc<str>>,
    old: HashMap<HeldId, Arc<str>>,
    turned_at: Time,
}

impl Default for Holders {
    fn default() -> Self {
        Holders(array::from_fn(|_| {
            Mutex::new(Shard {
                young: HashMap::new(),
                old: HashMap::new(),
                turned_at: Time::from_nanoseconds(0),
            })
        }))
    }
}

impl Holders {
    /// From now on this backend is known to hold it; whether that is new.
    pub fn learn(&self, id: HeldId, backend: &Arc<str>, now: Time) -> bool {
        let mut shard = self.shard(id).lock();
        shard.turn(now);
        let former = shard.young.insert(id, Arc::clone(backend));
        let former = former.as_ref().or_else(|| shard.old.get(&id));
        former != Some(backend)
    }

    /// The name of the backend that holds it, if that is known.
    pub fn holder(&self, id: HeldId, now: Time) -> Option<Arc<str>> {
        let mut shard = self.shard(id).lock();
        shard.turn(now);
        if let Some(backend) = shard.young.get(&id) {
            return Some(Arc::clone(backend));
        }
        let backend = shard.old.remove(&id)?;
        shard.young.insert(id, Arc::clone(&backend));
        Some(backend)
    }

    fn shard(&self, id: HeldId) -> &Mutex<Shard> {
        let [first, ..] = id.as_bytes();
        &self.0[usize::from(*first) % SHARDS]
    }
}

impl Shard {
    fn turn(&mut self, now: Time) {
        let age = now.nanoseconds_since(self.turned_at);
        if self.young.len() < GENERATION_IDS && age < LIFETIME_NANOSECONDS {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if age >= 2 * LIFETIME_NANOSECONDS {
            self.old = HashMap::new();
        }
        self.turned_at = now;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Time = Time::from_nanoseconds(1);

    fn id(number: usize) -> HeldId {
        HeldId::new("api", &format!("resp_{number}")).unwrap()
    }

    fn holder(holders: &Holders, number: usize, now: Time) -> Option<String> {
        holders.holder(id(number), now).map(|name| name.to_string())
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_bounded() {
        let holders = Holders::default();
        let backend: Arc<str> = "east".into();
        let bound = SHARDS * 2 * GENERATION_IDS;
        for number in 0..2 * bound {
            holders.learn(id(number), &backend, NOW);
            if number % 1_000 == 0 {
                assert_eq!(
                    holder(&holders, 0, NOW).as_deref(),
                    Some("east"),
                    "{number}"
                );
            }
        }
        assert_eq!(holder(&holders, 1, NOW), None);
        let kept: usize = holders.0.iter().map(|shard| shard.lock().ids()).sum();
        assert!(kept <= bound, "{kept}");
        assert_eq!(
            holder(&holders, 2 * bound - 1, NOW).as_deref(),
            Some("east")
        );
    }

    #[test]
    fn the_last_backend_that_was_learned_holds_it_until_nobody_asked_for_two_lifetimes() {
        let holders = Holders::default();
        holders.learn(id(7), &"east".into(), NOW);
        holders.learn(id(7), &"west".into(), NOW);
        let day = |days: u64| NOW.plus_nanoseconds(days * 86_400_000_000_000);
        assert_eq!(holder(&holders, 7, day(29)).as_deref(), Some("west"));
        assert_eq!(holder(&holders, 7, day(31)).as_deref(), Some("west"));
        assert_eq!(holder(&holders, 7, day(60)).as_deref(), Some("west"));
        assert_eq!(holder(&holders, 7, day(130)), None);
    }

    impl Shard {
        fn ids(&self) -> usize {
            self.young.len() + self.old.len()
        }
    }
}
