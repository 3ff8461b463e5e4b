//! The refusals of late, those alike as one: who was refused what, why, how often and when last.
//!
//! Why groups and not a list of the last hundred: a caller that is over its limit is refused a thousand times a second,
//! and would push out the one refusal that somebody asks about. Bounded; the group that was quiet longest goes.

use std::mem::discriminant;
use std::net::IpAddr;
use std::sync::Arc;

use filters::refusal::Refusal;

use crate::clock::Moment;

/// Groups that are kept. A page of them is read by a person.
pub const MAX_GROUPS: usize = 40;
/// A model's name as it is kept: a caller may send any. Characters.
const MAX_MODEL_CHARACTERS: usize = 64;

/// One refusal.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Why.
    pub refusal: &'a Refusal,
    /// Where; `None`: no API has the path.
    pub api: Option<&'a Arc<str>>,
    /// What was called.
    pub operation: &'static str,
    /// Whose key it was, where one was known.
    pub subscription: Option<&'a Arc<str>>,
    /// From where, where that is known.
    pub address: Option<IpAddr>,
    /// What was asked for; may be empty.
    pub model: &'a str,
    /// The request's id.
    pub request_id: u128,
    /// When.
    pub at: Moment,
}

/// Refusals that differ in time alone.
#[derive(Debug, Clone)]
pub struct Group {
    /// Why, in the figures of the last one.
    pub refusal: Refusal,
    /// Where.
    pub api: Option<Arc<str>>,
    /// What was called.
    pub operation: &'static str,
    /// Whose key it was.
    pub subscription: Option<Arc<str>>,
    /// From where the last one came.
    pub address: Option<IpAddr>,
    /// What the last one asked for.
    pub model: String,
    /// The id of the last one.
    pub request_id: u128,
    /// When the first of them was.
    pub first: Moment,
    /// When the last of them was.
    pub last: Moment,
    /// How many there were.
    pub count: u64,
}

/// The groups.
#[derive(Debug, Default)]
pub struct Refusals(Vec<Group>);

impl Refusals {
    /// Adds one to its group.
    pub fn add(&mut self, refused: Refused<'_>) {
        if let Some(group) = self.0.iter_mut().find(|group| group.takes(&refused)) {
            group.add(&refused);
            return;
        }
        if self.0.len() >= MAX_GROUPS {
            self.forget_the_quietest();
        }
        self.0.push(Group::of(&refused));
    }

    /// All groups, the one that was refused last first.
    pub fn newest_first(&self) -> Vec<Group> {
        let mut groups = self.0.clone();
        groups.sort_by_key(|group| std::cmp::Reverse(group.last));
        groups
    }

    fn forget_the_quietest(&mut self) {
        let groups = self.0.iter().enumerate();
        let quietest = groups.min_by_key(|(_, group)| group.last);
        if let Some((place, _)) = quietest {
            self.0.swap_remove(place);
        }
    }
}

impl Group {
    fn of(refused: &Refused<'_>) -> Self {
        Group {
            refusal: refused.refusal.clone(),
            api: refused.api.cloned(),
            operation: refused.operation,
            subscription: refused.subscription.cloned(),
            address: refused.address,
            model: cut(refused.model),
            request_id: refused.request_id,
            first: refused.at,
            last: refused.at,
            count: 1,
        }
    }

    fn takes(&self, refused: &Refused<'_>) -> bool {
        // A name that a caller made up makes no group of its own, or one caller could push out all others.
        let made_up = refused.refusal.model().is_some();
        // Not by the code: a suspended key's is that of an unknown one.
        discriminant(&self.refusal) == discriminant(refused.refusal)
            && self.subscription.as_ref() == refused.subscription
            && self.refusal.policy() == refused.refusal.policy()
            && self.api.as_ref() == refused.api
            && self.operation == refused.operation
            && (made_up || self.model == refused.model)
    }

    fn add(&mut self, refused: &Refused<'_>) {
        self.count += 1;
        self.last = refused.at;
        self.request_id = refused.request_id;
        self.address = refused.address;
        if self.model != refused.model {
            self.model = cut(refused.model);
        }
        self.refusal.clone_from(refused.refusal);
    }
}

fn cut(model: &str) -> String {
    let shown = model.chars().filter(|character| !character.is_control());
    shown.take(MAX_MODEL_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn refused<'a>(
        refusal: &'a Refusal,
        subscription: Option<&'a Arc<str>>,
        model: &'a str,
    ) -> Refused<'a> {
        Refused {
            refusal,
            api: None,
            operation: "chat-completions",
            subscription,
            address: None,
            model,
            request_id: 7,
            at: clock::now(),
        }
    }

    fn over(policy: &str, retry_after_ms: u64) -> Refusal {
        Refusal::RateLimitExceeded {
            policy: policy.to_owned(),
            retry_after_ms,
        }
    }

    #[test]
    fn refusals_alike_are_one_group_with_the_figures_of_the_last() {
        let (team, mut refusals) = (Arc::from("team-a"), Refusals::default());
        for wait_ms in [900, 500] {
            let refusal = over("slow", wait_ms);
            refusals.add(refused(&refusal, Some(&team), "gpt-4o"));
        }
        refusals.add(refused(&over("fast", 1), Some(&team), "gpt-4o"));
        refusals.add(refused(&over("slow", 1), None, "gpt-4o"));
        let alike = refusals.newest_first().len();
        assert_eq!(alike, 3);
        refusals.add(refused(&Refusal::InvalidKey, None, ""));
        refusals.add(refused(&Refusal::SuspendedKey, None, ""));
        assert_eq!(refusals.newest_first().len(), alike + 2);
        let first = refusals.newest_first().pop().unwrap();
        assert_eq!((first.count, first.refusal), (2, over("slow", 500)));
    }

    #[test]
    fn however_many_names_a_caller_makes_up_they_are_one_group() {
        let mut refusals = Refusals::default();
        let names = (0..1000).map(|number| format!("model-{number}"));
        for model in names.chain(["x".repeat(10_000)]) {
            let refusal = Refusal::UnknownModel {
                model: model.clone(),
            };
            refusals.add(refused(&refusal, None, &model));
        }
        let groups = refusals.newest_first();
        assert_eq!((groups.len(), groups[0].count), (1, 1001));
        assert_eq!(groups[0].model.len(), MAX_MODEL_CHARACTERS);
    }

    #[test]
    fn the_group_that_was_quiet_longest_goes() {
        let mut refusals = Refusals::default();
        let policies: Vec<String> = (0..=MAX_GROUPS)
            .map(|number| format!("p{number}"))
            .collect();
        for policy in &policies[..MAX_GROUPS] {
            refusals.add(refused(&over(policy, 1), None, "m"));
        }
        refusals.add(refused(&over("p0", 1), None, "m"));
        refusals.add(refused(&over(&policies[MAX_GROUPS], 1), None, "m"));
        let groups = refusals.newest_first();
        let is_kept = |policy| {
            groups
                .iter()
                .any(|group| group.refusal.policy() == Some(policy))
        };
        assert_eq!(groups.len(), MAX_GROUPS);
        assert!(is_kept("p0") && !is_kept("p1") && is_kept("p2"));
    }
}
