//! What waits, found by its peer and by its age, each in a number of steps that doesn't grow with how many wait.
//!
//! Two lists run through the same places: one of all, by age, and one of each peer's. So a peer's newest is found by the
//! peer alone, and where there are too many the oldest of all goes, whosever it is: a pool that is full of others'
//! connections would keep none of a new peer, and make one for each of its calls.
//! Knows neither sockets nor clocks.

use ahash::AHashMap;

/// Values of type `T`, at most so many.
pub(super) struct Kept<T> {
    most: usize,
    places: Vec<Option<Entry<T>>>,
    free: Vec<usize>,
    all: Ends,
    by_peer: AHashMap<u64, Ends>,
}

struct Entry<T> {
    value: T,
    peer: u64,
    among_all: Neighbours,
    among_peers: Neighbours,
}

/// The ends of a list.
#[derive(Clone, Copy, Default)]
struct Ends {
    oldest: Option<usize>,
    newest: Option<usize>,
}

/// Who stands beside an entry in a list.
#[derive(Clone, Copy, Default)]
struct Neighbours {
    older: Option<usize>,
    newer: Option<usize>,
}

impl<T> Kept<T> {
    /// Nothing yet.
    pub(super) fn new(most: usize) -> Self {
        Kept {
            most,
            places: Vec::new(),
            free: Vec::new(),
            all: Ends::default(),
            by_peer: AHashMap::new(),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes the peer's newest.
    pub(super) fn pop(&mut self, peer: u64) -> Option<T> {
        let newest = self.by_peer.get(&peer)?.newest?;
        self.remove(newest)
    }

    /// Adds the newest. Which one has to go for it: the oldest of all.
    pub(super) fn push(&mut self, peer: u64, value: T) -> Option<T> {
        if self.most == 0 {
            return Some(value);
        }
        let goes = match self.count() < self.most {
            true => None,
            false => self.all.oldest.and_then(|oldest| self.remove(oldest)),
        };
        let of_peer = self.by_peer.entry(peer).or_default();
        let after = |newest| Neighbours {
            older: newest,
            newer: None,
        };
        let entry = Entry {
            value,
            peer,
            among_all: after(self.all.newest),
            among_peers: after(of_peer.newest),
        };
        let place = self.free.pop().unwrap_or(self.places.len());
        let last_of_peer = of_peer.newest.replace(place);
        of_peer.oldest.get_or_insert(place);
        let last_of_all = self.all.newest.replace(place);
        self.all.oldest.get_or_insert(place);
        if let Some(last) = last_of_peer.and_then(|last| self.places[last].as_mut()) {
            last.among_peers.newer = Some(place);
        }
        if let Some(last) = last_of_all.and_then(|last| self.places[last].as_mut()) {
            last.among_all.newer = Some(place);
        }
        match self.places.get_mut(place) {
            Some(freed) => *freed = Some(entry),
            None => self.places.push(Some(entry)),
        }
        goes
    }

    /// Looks at some places, from this one on, and takes what goes from them: where to go on. `None` after the last.
    pub(super) fn look(
        &mut self,
        from: usize,
        at_once: usize,
        goes: impl Fn(&mut T) -> bool,
    ) -> Option<(usize, Vec<T>)> {
        if from >= self.places.len() {
            self.by_peer.retain(|_, ends| ends.newest.is_some());
            return None;
        }
        let to = self.places.len().min(from + at_once);
        let mut gone = Vec::new();
        for place in from..to {
            let value = self.places[place].as_mut().map(|entry| &mut entry.value);
            if value.is_some_and(&goes) {
                gone.extend(self.remove(place));
            }
        }
        Some((to, gone))
    }

    fn remove(&mut self, place: usize) -> Option<T> {
        let entry = self.places[place].take()?;
        self.free.push(place);
        let Neighbours { older, newer } = entry.among_all;
        match older.and_then(|older| self.places[older].as_mut()) {
            Some(older) => older.among_all.newer = newer,
            None => self.all.oldest = newer,
        }
        match newer.and_then(|newer| self.places[newer].as_mut()) {
            Some(newer) => newer.among_all.older = older,
            None => self.all.newest = older,
        }
        let of_peer = self.by_peer.entry(entry.peer).or_default();
        let Neighbours { older, newer } = entry.among_peers;
        match older.and_then(|older| self.places[older].as_mut()) {
            Some(older) => older.among_peers.newer = newer,
            None => of_peer.oldest = newer,
        }
        match newer.and_then(|newer| self.places[newer].as_mut()) {
            Some(newer) => newer.among_peers.older = older,
            None => of_peer.newest = older,
        }
        Some(entry.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same in one list that is searched from end to end, the oldest first.
    #[derive(Default)]
    struct Searched(Vec<(u64, u32)>);

    impl Searched {
        fn pop(&mut self, peer: u64) -> Option<u32> {
            let place = self.0.iter().rposition(|(of, _)| *of == peer)?;
            Some(self.0.remove(place).1)
        }

        fn push(&mut self, peer: u64, value: u32, most: usize) -> Option<u32> {
            self.0.push((peer, value));
            (self.0.len() > most).then(|| self.0.remove(0).1)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u64),
        Pop(u64),
        /// Takes every value that this divides.
        Sweep(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..5_u64).prop_map(Step::Push),
            3 => (0..5_u64).prop_map(Step::Pop),
            1 => (2..5_u32).prop_map(Step::Sweep),
        ]
    }

    fn swept(kept: &mut Kept<u32>, divisor: u32) -> Vec<u32> {
        let (mut from, mut all) = (0, Vec::new());
        while let Some((next, gone)) = kept.look(from, 3, |value| value.is_multiple_of(divisor)) {
            all.extend(gone);
            from = next;
        }
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn it_hands_out_and_lets_go_what_a_searched_list_would(
            most in 0..9_usize,
            steps in proptest::collection::vec(step(), 0..200),
        ) {
            let (mut kept, mut searched) = (Kept::new(most), Searched::default());
            for (value, step) in (0_u32..).zip(steps) {
                match step {
                    Step::Push(peer) => {
                        prop_assert_eq!(kept.push(peer, value), searched.push(peer, value, most));
                    }
                    Step::Pop(peer) => prop_assert_eq!(kept.pop(peer), searched.pop(peer)),
                    Step::Sweep(divisor) => {
                        let goes = |value: u32| value.is_multiple_of(divisor);
                        let gone: Vec<u32> = searched.0.iter().map(|(_, value)| *value).collect();
                        let gone: Vec<u32> = gone.into_iter().filter(|value| goes(*value)).collect();
                        searched.0.retain(|(_, value)| !goes(*value));
                        prop_assert_eq!(swept(&mut kept, divisor), gone);
                        let mut peers: Vec<u64> = searched.0.iter().map(|(peer, _)| *peer).collect();
                        peers.sort_unstable();
                        peers.dedup();
                        prop_assert_eq!(kept.by_peer.len(), peers.len());
                    }
                }
                prop_assert_eq!(kept.count(), searched.0.len());
                prop_assert!(kept.places.len() <= most);
            }
        }
    }
}
