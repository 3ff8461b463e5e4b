//! Which member of a pool a request goes to, and who is next.
//!
//! The best priority that has a usable member serves (`priority`), by smooth shares within it
//! (`weighted`). Nothing here is live but a few counters: a choice is a function of who is usable and
//! of a turn, so it needs no lock, allocates nothing, and doesn't drift when members come and go.
//!
//! **Turns.** Each set of usable members counts its own turns ([`Turns`]), so shares are exact within
//! each set, also while two sets alternate (some requests are too large for a member's quota, say).
//! **Failover.** A choice carries the turn for the next one: its place among all that went to that
//! member. So the load of a member that fails is spread over the others by weight as smoothly as
//! if it came fresh. It never asks why a member is out: breaker, quota and earlier attempts come in as
//! one set.

pub mod affinity;
pub mod named;
pub mod remaining;

mod priority;
mod turns;
mod weighted;

use std::fmt;

pub use turns::Turns;

use priority::Level;

/// The most members of a pool, as in API Management.
pub const MAX_MEMBERS: usize = 30;

/// Relative numbers: more would be false precision.
pub const MAX_WEIGHT: u32 = 1_000;

/// Some members of one pool, by their place in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Members(u32);

/// A pool's members by priority and weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The best first.
    levels: Box<[Level]>,
    all: Members,
}

/// How a member stands in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Lower first.
    pub priority: u32,
    /// Its share within the priority.
    pub weight: u32,
}

/// A member, and the turn with which the next one is chosen if this one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its place in the pool.
    pub member: usize,
    /// For [`Pool::choose`] among those that are left.
    pub turn: u64,
}

/// Every usable member once, in the order in which one request would try them.
#[derive(Clone, Debug)]
pub struct Candidates<'p> {
    pool: &'p Pool,
    left: Members,
    turn: u64,
}

impl Pool {
    /// Takes the members in the order of the configuration.
    ///
    /// # Errors
    /// [`PoolError`] for none, for more than [`MAX_MEMBERS`], and for a weight out of range.
    pub fn new(members: &[Standing]) -> Result<Self, PoolError> {
        if members.is_empty() || members.len() > MAX_MEMBERS {
            return Err(PoolError::Members(members.len()));
        }
        let is_wrong = |member: &&Standing| !(1..=MAX_WEIGHT).contains(&member.weight);
        if let Some(wrong) = members.iter().find(is_wrong) {
            return Err(PoolError::Weight(wrong.weight));
        }
        Ok(Self {
            levels: priority::levels(members),
            all: (0..members.len()).fold(Members::NONE, Members::with),
        })
    }

    /// Every member.
    pub fn all(&self) -> Members {
        self.all
    }

    /// Those of the best priority in the set: the ones whose turn counts.
    pub fn best(&self, among: Members) -> Members {
        let level = self.level(among);
        level.map_or(Members::NONE, |level| level.members().and(among))
    }

    /// The member for this turn: of the best priority in the set, by weight. None if the set is empty.
    /// Costs at most a few hundred nanoseconds.
    pub fn choose(&self, among: Members, turn: u64) -> Option<Choice> {
        self.level(among)?.choose(among, turn)
    }

    /// The usable members in the order in which one request would try them; each is chosen when asked for.
    pub fn candidates(&self, usable: Members, turn: u64) -> Candidates<'_> {
        Candidates {
            pool: self,
            left: usable.and(self.all),
            turn,
        }
    }

    fn level(&self, among: Members) -> Option<&Level> {
        let is_usable = |level: &&Level| level.members().and(among) != Members::NONE;
        self.levels.iter().find(is_usable)
    }
}

impl Candidates<'_> {
    /// Leaves out those that are no longer usable: a breaker may have opened since.
    pub fn retain(&mut self, usable: Members) {
        self.left = self.left.and(usable);
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let choice = self.pool.choose(self.left, self.turn)?;
        self.left = self.left.without(choice.member);
        self.turn = choice.turn;
        Some(choice.member)
    }
}

impl Members {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// The set and this member; one that no pool can have changes nothing.
    #[must_use]
    pub const fn with(self, member: usize) -> Self {
        Self(self.0 | Self::bit(member))
    }

    /// The set but this member.
    #[must_use]
    pub const fn without(self, member: usize) -> Self {
        Self(self.0 & !Self::bit(member))
    }

    /// Those in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in this one only.
    #[must_use]
    pub const fn but(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True if this member is in it.
    pub const fn contains(self, member: usize) -> bool {
        self.0 & Self::bit(member) != 0
    }

    /// True if nobody is.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The members' places, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_MEMBERS).filter(move |member| self.contains(*member))
    }

    const fn bit(member: usize) -> u32 {
        if member < MAX_MEMBERS { 1 << member } else { 0 }
    }
}

impl FromIterator<usize> for Members {
    fn from_iter<I: IntoIterator<Item = usize>>(members: I) -> Self {
        members.into_iter().fold(Self::NONE, Self::with)
    }
}

/// Why members make no pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// None, or more than [`MAX_MEMBERS`].
    Members(usize),
    /// A weight that isn't from 1 to [`MAX_WEIGHT`].
    Weight(u32),
}

impl fmt::Display for PoolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Members(found) => {
                write!(
                    formatter,
                    "found {found} members, expected 1 to {MAX_MEMBERS}"
                )
            }
            Self::Weight(found) => {
                write!(
                    formatter,
                    "found a weight of {found}, expected 1 to {MAX_WEIGHT}"
                )
            }
        }
    }
}

impl std::error::Error for PoolError {}
