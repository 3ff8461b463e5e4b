//! Members of one priority, apart from those of others.
//!
//! A worse priority is looked at only when no member of a better one is usable. Levels are cut when the
//! pool is made, so that a choice only intersects sets of bits.

use super::weighted::Shares;
use super::{Choice, Members, Standing};

/// Members of one priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level {
    members: Members,
    shares: Shares,
}

impl Level {
    pub(super) fn members(&self) -> Members {
        self.members
    }

    pub(super) fn choose(&self, among: Members, turn: u64) -> Option<Choice> {
        self.shares.choose(among, turn)
    }
}

/// The members by priority, the best first.
pub(super) fn levels(members: &[Standing]) -> Box<[Level]> {
    let mut priorities: Vec<u32> = members.iter().map(|member| member.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let level = |priority: u32| {
        let of_it = || {
            let numbered = members.iter().enumerate();
            numbered.filter(move |(_, member)| member.priority == priority)
        };
        Level {
            members: of_it().map(|(place, _)| place).collect(),
            shares: Shares::new(of_it().map(|(place, member)| (place, member.weight))),
        }
    };
    priorities.into_iter().map(level).collect()
}
