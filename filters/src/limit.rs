//! Token limits: what a policy allows, decided from a rule, a cell and the time.
//!
//! A **rule** is data from the configuration ([`Limit`]). A **cell** is live state: one word for the
//! rate ([`bucket::Bucket`]), one for the quota ([`quota::Used`]). A **decision** is a pure function of
//! both ([`reservation::plan`]), so that one process and a shared store can run the same arithmetic and
//! be held to the same recorded cases. Nothing here keeps state, waits, or knows a store.

pub mod bucket;
pub mod budget;
pub mod learned;
pub mod quota;
pub mod reservation;

use crate::time::{Time, UnixTime};
use crate::units::Tokens;

use bucket::Rate;
use quota::Quota;

/// The moment of a decision, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For the rate.
    pub time: Time,
    /// For the quota's calendar.
    pub unix: UnixTime,
}

/// What one policy allows. At least one of rate and quota is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    rate: Option<Rate>,
    quota: Option<Quota>,
    hold: Hold,
}

/// What is held for a call before its true usage is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: a call is admitted while the limit isn't used up, and counted afterwards. Calls in
    /// flight can pass the limit by what they use.
    Nothing,
    /// The prompt's estimate. Calls in flight can pass the limit by their completions.
    Prompt,
    /// The prompt's estimate and the most that the answer may have. Nothing passes the limit, as far as
    /// the two are true.
    PromptAndCompletion,
}

/// What a limit does while the store that replicas share can't be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRedisError {
    /// This replica's share of the limit, counted here.
    #[default]
    Local,
    /// No call is admitted.
    Refuse,
    /// Every call is admitted.
    Allow,
}

/// Neither a rate nor a quota: nothing to enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NothingToEnforce;

impl Limit {
    /// A rule.
    ///
    /// # Errors
    /// If there is neither a rate nor a quota.
    pub const fn new(
        rate: Option<Rate>,
        quota: Option<Quota>,
        hold: Hold,
    ) -> Result<Self, NothingToEnforce> {
        if rate.is_none() && quota.is_none() {
            return Err(NothingToEnforce);
        }
        Ok(Limit { rate, quota, hold })
    }

    /// The tokens per minute.
    pub const fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// The tokens per period.
    pub const fn quota(&self) -> Option<Quota> {
        self.quota
    }

    /// What is held.
    pub const fn hold(&self) -> Hold {
        self.hold
    }

    /// The most that one call can hold: more is never given at once.
    pub fn most(&self) -> Tokens {
        let rate = self.rate.map(Rate::tokens_per_minute);
        let quota = self.quota.map(Quota::tokens);
        let most = |tokens: Option<Tokens>| tokens.unwrap_or(Tokens::new(u64::MAX));
        most(rate).min(most(quota))
    }

    /// One of `replicas` equal parts, rounded down but never to nothing: what one process may give by
    /// itself while it can't ask the others. So few tokens that there are fewer than replicas are the
    /// one case where the parts are more than the whole.
    pub fn share(&self, replicas: u64) -> Self {
        Limit {
            rate: self.rate.map(|rate| rate.share(replicas)),
            quota: self.quota.map(|quota| quota.share(replicas)),
            hold: self.hold,
        }
    }
}

impl Hold {
    /// How many tokens are held for a call of which these are the estimates.
    pub const fn amount(self, prompt: Tokens, completion: Tokens) -> Tokens {
        match self {
            Hold::Nothing => Tokens::ZERO,
            Hold::Prompt => prompt,
            Hold::PromptAndCompletion => prompt.saturating_add(completion),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_limit_without_rate_and_quota_is_none() {
        assert_eq!(Limit::new(None, None, Hold::Nothing), Err(NothingToEnforce));
    }

    #[test]
    fn what_is_held_follows_the_policy() {
        let (prompt, completion) = (Tokens::new(7), Tokens::new(100));
        let amount = |hold: Hold| hold.amount(prompt, completion).get();
        assert_eq!(amount(Hold::Nothing), 0);
        assert_eq!(amount(Hold::Prompt), 7);
        assert_eq!(amount(Hold::PromptAndCompletion), 107);
    }

    #[test]
    fn a_share_is_rounded_down_but_never_nothing() {
        let rate = Rate::new(10).unwrap();
        assert_eq!(rate.share(3).tokens_per_minute(), Tokens::new(3));
        assert_eq!(rate.share(11).tokens_per_minute(), Tokens::new(1));
        assert_eq!(rate.share(0).tokens_per_minute(), Tokens::new(10));
    }
}
