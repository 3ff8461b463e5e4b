//! Token limits: which apply to a call, what is held for it, and what its caller is told of them.
//!
//! All of a call's limits are taken together, before a backend is asked. What is held becomes what was used,
//! once, when that is known; whatever ends a call before gives it back. Never counts an answer; it is told.

mod amount;
mod budget;
mod told;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use filters::expression::Scope;
use filters::limit::reservation::{Reason, Remaining};
use filters::price::Price;
use filters::refusal::Refusal;
use filters::request::BodyFacts;
use filters::units::Tokens;
use filters::usage::Usage;
use http::{HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;
use sha2::{Digest, Sha256};

use crate::config::plan::{Plan, TokenLimit};
use crate::context::{Admitted, Caller};
use crate::limits;
use crate::reply::Fields;
use crate::scope::{Asked, Public, scope};
use crate::state::State;
use crate::store::{LimitRequest, Refused, Reservation};
pub use amount::{counted_as, subscription};

/// A longer counter key is kept as its digest: a caller may choose it. Bytes.
const KEY_MAX_BYTES: usize = 128;
/// When to come back where the counters can't be had. Seconds.
const UNAVAILABLE_RETRY_S: u64 = 1;

/// Who asks what, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The rules it lives under.
    pub plan: &'a Plan,
    /// Its head.
    pub head: &'a RequestHeader,
    /// Who calls what.
    pub caller: &'a Caller,
    /// What it asked for; absent if it wasn't admitted.
    pub admitted: Option<&'a Admitted>,
}

/// The call that limits are taken for.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The rules it lives under.
    pub plan: &'a Plan,
    /// Its head.
    pub head: &'a RequestHeader,
    /// Who calls what.
    pub caller: &'a Caller,
    /// What it asked for.
    pub admitted: &'a Admitted,
    /// What else its body says.
    pub facts: Option<&'a BodyFacts>,
    /// The body; empty where it isn't read.
    pub body: &'a Bytes,
    /// A WebSocket or a large upload: what it will use can't be known.
    pub carried: bool,
}

/// What is held for one call; dropped unsettled, all of it is given back.
#[derive(Debug, Default)]
pub struct Hold {
    lines: Vec<Line>,
    /// Of the model that was asked for, where a budget counts it.
    price: Option<Price>,
    reservation: Option<Reservation>,
    left: Vec<Remaining>,
    /// Held for the prompt.
    prompt: u64,
    used: Option<u64>,
}

#[derive(Debug)]
struct Line {
    limit: Arc<TokenLimit>,
    key: String,
    amount: Tokens,
}

/// A call that isn't admitted.
#[derive(Debug)]
pub struct Denied {
    /// Why.
    pub refusal: Refusal,
    /// What its caller is told beside it.
    pub fields: Fields,
}

impl Denied {
    fn plainly(refusal: Refusal) -> Box<Self> {
        let fields = Fields::default();
        Box::new(Denied { refusal, fields })
    }
}

impl Hold {
    /// Takes what the call holds of each limit that is for it.
    ///
    /// # Errors
    /// The refusal; nothing is held then.
    pub async fn take(state: &State, call: Call<'_>) -> Result<Self, Box<Denied>> {
        if !call.uses_tokens() {
            return Ok(Hold::standing(state, call.asking()).await);
        }
        let lines = applying(call.asking()).into_iter();
        let lines: Result<Vec<Line>, Refusal> = lines.collect();
        let mut lines = lines.map_err(Denied::plainly)?;
        if lines.is_empty() {
            return Ok(Hold::default());
        }
        let prompt = amount::amounts(state, &call, &mut lines).await;
        let requests: Vec<LimitRequest<'_>> = lines.iter().map(Line::request).collect();
        let taken = state.limits.store().reserve(&requests, limits::now()).await;
        match taken {
            Ok(reservation) => {
                for refused in reservation.would_refuse() {
                    state.metrics.would_refuse(&lines[refused.limit].limit.name);
                }
                let price = budget::price(state, &call, &lines, &reservation);
                Ok(Hold {
                    price,
                    lines,
                    reservation: Some(reservation),
                    left: Vec::new(),
                    prompt,
                    used: None,
                })
            }
            Err(refused) => Err(denied(lines, refused)),
        }
    }

    /// Holds nothing, and knows how the caller's limits stand: for an answer that costs nothing. What can't be known is
    /// left out.
    pub async fn standing(state: &State, asking: Asking<'_>) -> Self {
        let lines = applying(asking).into_iter();
        let lines: Vec<Line> = lines.filter_map(Result::ok).collect();
        if lines.is_empty() {
            return Hold::default();
        }
        let requests: Vec<LimitRequest<'_>> = lines.iter().map(Line::request).collect();
        let left = state.limits.store().left(&requests, limits::now()).await;
        Hold {
            left: left.unwrap_or_default(),
            lines,
            used: Some(0),
            ..Hold::default()
        }
    }

    /// Makes what is held what was used. Only the first time counts.
    pub fn settle(&mut self, usage: Option<Usage>) {
        if let Some(reservation) = self.reservation.take() {
            let tokens = usage.map_or(0, |usage| usage.total);
            let cost = budget::cost(usage, self.price);
            let lines = &self.lines;
            let used = |index: usize| match lines.get(index).and_then(|line| line.limit.budget) {
                Some(budget) => budget.units(cost),
                None => Tokens::new(tokens),
            };
            self.left = reservation.settle_each(&used, limits::now());
            self.used = Some(tokens);
        }
    }

    /// What the caller is told in the answer's head: what is left now.
    pub fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        match &self.reservation {
            Some(reservation) => {
                let left = reservation.remaining(limits::now());
                told::fields(limits(&self.lines), &left, Some(self.prompt))
            }
            None => told::fields(limits(&self.lines), &self.left, self.used),
        }
    }
}

impl Line {
    fn request(&self) -> LimitRequest<'_> {
        LimitRequest {
            policy: &self.limit.counter,
            key: &self.key,
            limit: self.limit.limit,
            amount: self.amount,
            mode: self.limit.mode,
            on_error: self.limit.on_redis_error,
        }
    }
}

impl<'a> Call<'a> {
    /// What only reads (a list of models, a stored answer) uses none.
    fn uses_tokens(&self) -> bool {
        self.carried || self.head.method == Method::POST
    }

    fn asking(&self) -> Asking<'a> {
        Asking {
            plan: self.plan,
            head: self.head,
            caller: self.caller,
            admitted: Some(self.admitted),
        }
    }
}

/// The limits that are for this call, each unless its expressions fail.
fn applying(asking: Asking<'_>) -> Vec<Result<Line, Refusal>> {
    let (plan, admitted) = (asking.plan, asking.admitted);
    if plan.token_limits.is_empty() {
        return Vec::new();
    }
    let public = Public::of(asking.head);
    let asked = Asked {
        model: admitted.map_or("", |admitted| &admitted.model),
        stream: admitted.is_some_and(|admitted| admitted.stream),
        user: admitted.map_or("", |admitted| &admitted.user),
    };
    let scope = scope(&plan.gateway, &public, asking.caller, asked, (None, None));
    let lines = plan.token_limits.iter();
    lines
        .filter_map(|limit| line(limit, &scope).transpose())
        .collect()
}

fn line(limit: &Arc<TokenLimit>, scope: &Scope<'_>) -> Result<Option<Line>, Refusal> {
    let failed = |_| Refusal::PolicyFailed {
        policy: limit.name.clone(),
    };
    let applies = limit.when.as_ref().map(|when| when.truth(scope));
    if !applies.unwrap_or(Ok(true)).map_err(failed)? {
        return Ok(None);
    }
    let key = limit.counter_key.text(scope).map_err(failed)?;
    Ok(Some(Line {
        limit: limit.clone(),
        key: bounded(key),
        amount: Tokens::ZERO,
    }))
}

fn bounded(key: Cow<'_, str>) -> String {
    if key.len() <= KEY_MAX_BYTES {
        return key.into_owned();
    }
    let mut short = String::from("sha256:");
    for byte in Sha256::digest(key.as_bytes()) {
        // Writing to a string can't fail.
        let _ = write!(short, "{byte:02x}");
    }
    short
}

fn denied(lines: Vec<Line>, refused: Refused) -> Box<Denied> {
    let (by, remaining) = match refused {
        Refused::Limit { by, remaining } => (by, remaining),
        Refused::Unavailable { limit } => {
            let name = lines.get(limit).map_or("", |line| &line.limit.name);
            tracing::debug!(policy = name, "its counter can't be had");
            return Denied::plainly(Refusal::Overloaded {
                retry_after_s: UNAVAILABLE_RETRY_S,
            });
        }
    };
    let Some(line) = lines.get(by.limit) else {
        return Denied::plainly(Refusal::Overloaded {
            retry_after_s: UNAVAILABLE_RETRY_S,
        });
    };
    let policy = line.limit.name.clone();
    let wait = by.retry_after.unwrap_or_default();
    let refusal = match by.reason {
        Reason::Rate => Refusal::RateLimitExceeded {
            policy,
            retry_after_ms: told::milliseconds(wait),
        },
        Reason::Quota if line.limit.budget.is_some() => Refusal::BudgetSpent {
            policy,
            retry_after_s: told::milliseconds(wait).div_ceil(1000),
        },
        Reason::Quota => Refusal::QuotaExceeded {
            policy,
            retry_after_s: told::milliseconds(wait).div_ceil(1000),
        },
        Reason::TooLarge { asked, most } => Refusal::RequestExceedsLimit {
            policy,
            requested_tokens: asked.get(),
            limit_tokens: most.get(),
        },
    };
    let fields = Fields {
        retry_after: Some(line.limit.headers.retry_after.clone()),
        others: told::fields(limits(&lines), &remaining, Some(0)),
    };
    Box::new(Denied { refusal, fields })
}

fn limits(lines: &[Line]) -> impl Iterator<Item = &TokenLimit> + Clone {
    lines.iter().map(|line| line.limit.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_kept_as_its_digest() {
        assert_eq!(bounded("team-a".into()), "team-a");
        let long = bounded("x".repeat(129).into());
        assert_eq!(long.len(), "sha256:".len() + 64);
        assert_ne!(long, bounded("y".repeat(129).into()));
    }
}
