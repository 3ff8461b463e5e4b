//! Smooth weighted round robin as a function of the turn: no state, so nothing to lock or to go stale.
//!
//! Of members with weights w and their sum W, each is due at the times (s + 1/2) / w of a cycle, for s
//! from 0 to w - 1, and turns go in the order of these times. So any W turns in a row hold each member
//! exactly w times, wherever they begin. Members of equal weight are one group of weight m x w that
//! takes its members in rotation: equal weights are plain round robin, and ties between groups are few.
//!
//! Turn k is found without walking there: after k turns each group has had about k x w / W, rounded; these
//! guesses miss k by a few at most, and each step towards it moves one turn in the order above. The
//! classic form, which adds weights and subtracts their sum at each turn, needs a lock and owes old debts
//! to members after others have come or gone.

use super::{Choice, MAX_MEMBERS, MAX_WEIGHT, Members};

/// Members of one priority by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// The heaviest first.
    groups: Box<[Group]>,
}

/// Members of equal weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Group {
    members: Members,
    weight: u32,
}

/// A group's usable members in one choice, as one. Half words: products of two weights stay below 2^31, as
/// [`WEIGHTS_FIT`] shows, and divisions cost half.
#[derive(Clone, Copy)]
struct Entry {
    members: Members,
    weight: u32,
    /// How many turns of the cycle it has had.
    had: u32,
}

/// The largest product there is: twice a turn of the longest cycle, times the largest weight, and the sum.
const WEIGHTS_FIT: () = {
    let sum = MAX_MEMBERS as u64 * MAX_WEIGHT as u64;
    assert!((2 * sum + 1) * sum + sum < u32::MAX as u64);
};

impl Shares {
    pub(super) fn new(members: impl Iterator<Item = (usize, u32)>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (member, weight) in members {
            match groups.iter_mut().find(|group| group.weight == weight) {
                Some(group) => group.members = group.members.with(member),
                None => groups.push(Group {
                    members: Members::NONE.with(member),
                    weight,
                }),
            }
        }
        groups.sort_unstable_by_key(|group| std::cmp::Reverse(group.weight));
        Self {
            groups: groups.into(),
        }
    }

    pub(super) fn choose(&self, among: Members, turn: u64) -> Option<Choice> {
        let () = WEIGHTS_FIT;
        let mut entries = [Entry::NONE; MAX_MEMBERS];
        let (mut count, mut sum) = (0, 0);
        for group in &self.groups {
            let members = group.members.and(among);
            if members != Members::NONE {
                let weight = members.count() * group.weight;
                entries[count] = Entry {
                    members,
                    weight,
                    had: 0,
                };
                count += 1;
                sum += weight;
            }
        }
        let cycle = turn.checked_div(u64::from(sum))?;
        // Less than the sum, so it fits.
        let turn = (turn % u64::from(sum)) as u32;
        let entry = due(&mut entries[..count], turn, sum)?;
        Some(entry.choice(cycle))
    }
}

impl Entry {
    const NONE: Self = Self {
        members: Members::NONE,
        weight: 0,
        had: 0,
    };

    /// True if its next turn comes before the other's.
    fn is_due_before(&self, other: &Self) -> bool {
        (2 * self.had + 1) * other.weight < (2 * other.had + 1) * self.weight
    }

    /// True if its last turn came after the other's, or at the same time in a later place.
    fn was_due_after(&self, other: &Self) -> bool {
        match (self.had.checked_sub(1), other.had.checked_sub(1)) {
            (Some(had), Some(others)) => {
                (2 * had + 1) * other.weight >= (2 * others + 1) * self.weight
            }
            (Some(_), None) => true,
            (None, Some(_) | None) => false,
        }
    }

    fn choice(&self, cycle: u64) -> Choice {
        let members = u64::from(self.members.count());
        let turn = cycle.wrapping_mul(u64::from(self.weight));
        let turn = turn.wrapping_add(u64::from(self.had));
        Choice {
            member: self.members.nth((turn % members) as usize),
            turn: turn / members,
        }
    }
}

/// Who has this turn of the cycle.
fn due(entries: &mut [Entry], turn: u32, sum: u32) -> Option<Entry> {
    let mut taken = 0;
    for entry in entries.iter_mut() {
        entry.had = (2 * turn * entry.weight + sum - 1) / (2 * sum);
        taken += entry.had;
    }
    while taken < turn {
        entries[next(entries)?].had += 1;
        taken += 1;
    }
    while taken > turn {
        entries[last(entries)?].had -= 1;
        taken -= 1;
    }
    entries.get(next(entries)?).copied()
}

/// The place of the one that is due next.
fn next(entries: &[Entry]) -> Option<usize> {
    let sooner = |best: usize, place: usize| match entries[place].is_due_before(&entries[best]) {
        true => place,
        false => best,
    };
    (0..entries.len()).reduce(sooner)
}

/// The place of the one that had the latest turn.
fn last(entries: &[Entry]) -> Option<usize> {
    let later = |best: usize, place: usize| match entries[place].was_due_after(&entries[best]) {
        true => place,
        false => best,
    };
    (0..entries.len()).reduce(later)
}

impl Members {
    /// The member with so many below it.
    fn nth(self, below: usize) -> usize {
        let mut bits = self.0;
        for _ in 0..below {
            bits &= bits.wrapping_sub(1);
        }
        bits.trailing_zeros() as usize
    }
}
