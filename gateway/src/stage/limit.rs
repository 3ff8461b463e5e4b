//! Token limits: which apply to a call, what is held for it, and what its caller is told of them.
//!
//! All of a call's limits are taken together, before a backend is asked. What is held becomes what was used,
//! once, when that is known; whatever ends a call before gives it back. Never counts an answer; it is told.

mod told;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use filters::expression::Scope;
use filters::limit::Hold as Held;
use filters::limit::reservation::{Reason, Remaining};
use filters::refusal::Refusal;
use filters::request::BodyFacts;
use filters::route::Shape;
use filters::tokens;
use filters::units::Tokens;
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

/// A longer prompt is counted on a thread of its own. Bytes.
const INLINE_MAX_BYTES: usize = 64 << 10;
/// A limit has plenty left for a prompt if it has so many times the most that the prompt can cost.
const PLENTY: u64 = 64;
/// A longer counter key is kept as its digest: a caller may choose it. Bytes.
const KEY_MAX_BYTES: usize = 128;
/// When to come back where the counters can't be had. Seconds.
const UNAVAILABLE_RETRY_S: u64 = 1;

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
    reservation: Option<Reservation>,
    left: Vec<Remaining>,
    prompt: Option<u64>,
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
        let mut lines = applying(&call).map_err(Denied::plainly)?;
        if lines.is_empty() {
            return Ok(Hold::default());
        }
        let prompt = amounts(state, &call, &mut lines).await;
        let requests: Vec<LimitRequest<'_>> = lines.iter().map(Line::request).collect();
        let taken = state.limits.store().reserve(&requests, limits::now()).await;
        match taken {
            Ok(reservation) => {
                for refused in reservation.would_refuse() {
                    state.metrics.would_refuse(&lines[refused.limit].limit.name);
                }
                Ok(Hold {
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

    /// Makes what is held what was used. Only the first time counts.
    pub fn settle(&mut self, used: u64) {
        if let Some(reservation) = self.reservation.take() {
            self.left = reservation.settle(Tokens::new(used), limits::now());
            self.used = Some(used);
        }
    }

    /// What the caller is told in the answer's head: what is left now.
    pub fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        match &self.reservation {
            Some(reservation) => {
                let left = reservation.remaining(limits::now());
                told::fields(limits(&self.lines), &left, self.prompt)
            }
            None => told::fields(limits(&self.lines), &self.left, self.used),
        }
    }
}

impl Line {
    fn request(&self) -> LimitRequest<'_> {
        LimitRequest {
            policy: &self.limit.name,
            key: &self.key,
            limit: self.limit.limit,
            amount: self.amount,
            mode: self.limit.mode,
            on_error: self.limit.on_redis_error,
        }
    }
}

/// The limits that are for this call. What only reads (a list of models, a stored answer) uses no tokens.
fn applying(call: &Call<'_>) -> Result<Vec<Line>, Refusal> {
    let plan = call.plan;
    let uses_tokens = call.carried || call.head.method == Method::POST;
    if plan.token_limits.is_empty() || !uses_tokens {
        return Ok(Vec::new());
    }
    let public = Public::of(call.head);
    let asked = Asked {
        model: &call.admitted.model,
        stream: call.admitted.stream,
        user: &call.admitted.user,
    };
    let scope = scope(&plan.gateway, &public, call.caller, asked, (None, None));
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

/// Works out what each limit holds. The prompt's estimate, where one was needed: where all that hold something have
/// plenty left, what the bytes of the body bound is held instead, and nothing is counted before the call.
async fn amounts(state: &State, call: &Call<'_>, lines: &mut [Line]) -> Option<u64> {
    let holds = |line: &&Line| line.limit.limit.hold() != Held::Nothing;
    if call.body.is_empty() || !lines.iter().any(|line| holds(&line)) {
        return None;
    }
    let least = least_left(state, lines.iter().filter(holds));
    let (prompt, estimated) = match bound(call, least / PLENTY) {
        Some(most) => (Tokens::new(most), None),
        None => {
            let prompt = estimate(state, call).await?;
            (prompt, Some(prompt.get()))
        }
    };
    let completion = completion(state, call);
    for line in lines {
        let limit = &line.limit.limit;
        let completion = match completion {
            Completion::Named(tokens) => tokens,
            // A guess never makes a call one that waiting can't help.
            Completion::Learned(tokens) => tokens.min(limit.most().saturating_sub(prompt)),
        };
        line.amount = limit.hold().amount(prompt, completion);
    }
    estimated
}

/// Of what the limits have left, the least.
fn least_left<'l>(state: &State, lines: impl Iterator<Item = &'l Line>) -> u64 {
    let (store, now) = (state.limits.store(), limits::now());
    let left = lines.flat_map(|line| {
        let left = store.peek(&line.request(), now);
        left.tokens.into_iter().chain(left.quota)
    });
    left.min().map_or(0, Tokens::get)
}

/// The most that the prompt can cost, if that is no more than `most`.
fn bound(call: &Call<'_>, most: u64) -> Option<u64> {
    if call.body.len() as u64 > most {
        return None;
    }
    tokens::most(call.caller.shape, call.body).filter(|bound| *bound <= most)
}

/// How long the answers may be, all of them together.
enum Completion {
    /// The caller said so.
    Named(Tokens),
    /// From those before.
    Learned(Tokens),
}

fn completion(state: &State, call: &Call<'_>) -> Completion {
    let choices = call.facts.map_or(1, |facts| facts.choices);
    let named = call.facts.and_then(|facts| facts.max_completion_tokens);
    let all = |tokens: u64| Tokens::new(tokens.saturating_mul(choices));
    match (call.caller.shape, named) {
        (Shape::Embeddings | Shape::Other, _) => Completion::Named(Tokens::ZERO),
        (Shape::Chat | Shape::Completions | Shape::Responses, Some(named)) => {
            Completion::Named(all(named))
        }
        (Shape::Chat | Shape::Completions | Shape::Responses, None) => {
            let subscription = subscription(call.caller);
            let learned = state
                .limits
                .completion(subscription, &call.admitted.model)
                .get();
            Completion::Learned(all(learned))
        }
    }
}

/// Learned by this name.
pub fn subscription(caller: &Caller) -> &str {
    caller
        .subscription
        .as_ref()
        .map_or("", |subscription| &subscription.name)
}

async fn estimate(state: &State, call: &Call<'_>) -> Option<Tokens> {
    let shape = call.caller.shape;
    if shape == Shape::Other {
        return None;
    }
    let model = counted_as(state, call.admitted);
    let body = call.body.clone();
    let counts = state.limits.counts();
    let count = move || tokens::prompt_with(counts.as_ref(), &model, shape, &body);
    let estimate = match call.body.len() > INLINE_MAX_BYTES {
        true => tokio::task::spawn_blocking(count).await.ok().flatten(),
        false => count(),
    };
    estimate.map(|estimate| Tokens::new(estimate.tokens))
}

/// The model whose encoding counts: the one asked for where its name says enough, else what answers called
/// themselves, else a backend's deployment whose name says it.
pub fn counted_as(state: &State, admitted: &Admitted) -> String {
    let asked = &admitted.model;
    if tokens::encoding_of(asked).known {
        return asked.clone();
    }
    if let Some(learned) = state.limits.model_of(asked) {
        return learned.as_ref().clone();
    }
    let members = admitted.pool.members.iter();
    let mut deployments = members.filter_map(|member| member.backend.deployment.as_ref());
    let told = deployments.find(|name| tokens::encoding_of(name).known);
    told.unwrap_or(asked).clone()
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
        others: told::fields(limits(&lines), &remaining, None),
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
