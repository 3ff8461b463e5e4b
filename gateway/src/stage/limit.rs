//! Token limits: which apply to a call, what is held for it, and what its caller is told of them.
//!
//! All of a call's limits are taken together, before a backend is asked. What is held becomes what was used,
//! once, when that is known; whatever ends a call before gives it back. Never counts an answer; it is told.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

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
                fields(&self.lines, &left, self.prompt)
            }
            None => fields(&self.lines, &self.left, self.used),
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

/// Works out what each limit holds. The prompt's estimate, where one was needed.
async fn amounts(state: &State, call: &Call<'_>, lines: &mut [Line]) -> Option<u64> {
    let holds = |line: &Line| line.limit.limit.hold() != Held::Nothing;
    if call.body.is_empty() || !lines.iter().any(holds) {
        return None;
    }
    let prompt = estimate(state, call).await?;
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
    Some(prompt.get())
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
    let count = move || tokens::prompt(&model, shape, &body);
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
            retry_after_ms: milliseconds(wait),
        },
        Reason::Quota => Refusal::QuotaExceeded {
            policy,
            retry_after_s: milliseconds(wait).div_ceil(1000),
        },
        Reason::TooLarge { asked, most } => Refusal::RequestExceedsLimit {
            policy,
            requested_tokens: asked.get(),
            limit_tokens: most.get(),
        },
    };
    let fields = Fields {
        retry_after: Some(line.limit.headers.retry_after.clone()),
        others: fields(&lines, &remaining, None),
    };
    Box::new(Denied { refusal, fields })
}

/// Rounded up: who comes back then, gets through.
fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The configured names and the usual ones. Where two limits say the same, the one with less left is told.
fn fields(
    lines: &[Line],
    left: &[Remaining],
    consumed: Option<u64>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut told = Told(Vec::new());
    for (line, left) in lines.iter().zip(left) {
        let names = &line.limit.headers;
        let tokens = left.tokens.map(Tokens::get);
        told.least(names.remaining_tokens.as_ref(), tokens);
        told.least(names.remaining_quota.as_ref(), left.quota.map(Tokens::get));
        told.least(names.consumed.as_ref(), consumed);
    }
    let standard = lines.iter().zip(left).filter_map(|(line, left)| {
        let rate = line.limit.limit.rate()?;
        let wanted = line.limit.headers.standard;
        wanted.then_some((left.tokens?, rate.tokens_per_minute(), left.reset))
    });
    if let Some((tokens, limit, reset)) = standard.min_by_key(|(tokens, ..)| *tokens) {
        told.least(Some(&LIMIT_TOKENS), Some(limit.get()));
        told.least(Some(&REMAINING_TOKENS), Some(tokens.get()));
        if let Ok(value) = HeaderValue::try_from(reset_text(reset)) {
            told.0.push((RESET_TOKENS, value));
        }
    }
    told.0
}

const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");

struct Told(Vec<(HeaderName, HeaderValue)>);

impl Told {
    fn least(&mut self, name: Option<&HeaderName>, value: Option<u64>) {
        let (Some(name), Some(value)) = (name, value) else {
            return;
        };
        match self.0.iter_mut().find(|(told, _)| told == name) {
            None => self.0.push((name.clone(), HeaderValue::from(value))),
            Some((_, told)) => {
                let before: Option<u64> = told.to_str().ok().and_then(|text| text.parse().ok());
                if before.is_none_or(|before| value < before) {
                    *told = HeaderValue::from(value);
                }
            }
        }
    }
}

/// As OpenAI writes it: `20ms`, `1.5s`, `6m0s`.
fn reset_text(reset: Duration) -> String {
    let all = milliseconds(reset);
    let (minutes, rest) = (all / 60_000, all % 60_000);
    match (minutes, rest) {
        (0, rest) if rest > 0 && rest < 1_000 => format!("{rest}ms"),
        (0, rest) => format!("{}s", seconds(rest)),
        (minutes, rest) => format!("{minutes}m{}s", seconds(rest)),
    }
}

fn seconds(milliseconds: u64) -> String {
    match milliseconds % 1_000 {
        0 => format!("{}", milliseconds / 1_000),
        part => {
            let text = format!("{}.{part:03}", milliseconds / 1_000);
            text.trim_end_matches('0').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_written_as_openai_writes_it() {
        let text = |milliseconds| reset_text(Duration::from_millis(milliseconds));
        assert_eq!(text(0), "0s");
        assert_eq!(text(20), "20ms");
        assert_eq!(text(1_500), "1.5s");
        assert_eq!(text(59_999), "59.999s");
        assert_eq!(text(360_000), "6m0s");
        assert_eq!(text(61_050), "1m1.05s");
    }

    #[test]
    fn a_long_key_is_kept_as_its_digest() {
        assert_eq!(bounded("team-a".into()), "team-a");
        let long = bounded("x".repeat(129).into());
        assert_eq!(long.len(), "sha256:".len() + 64);
        assert_ne!(long, bounded("y".repeat(129).into()));
    }

    #[test]
    fn of_two_limits_under_one_name_the_tighter_is_told() {
        let mut told = Told(Vec::new());
        let name = HeaderName::from_static("x-left");
        told.least(Some(&name), Some(7));
        told.least(Some(&name), Some(3));
        told.least(Some(&name), Some(5));
        assert_eq!(told.0, [(name, HeaderValue::from(3))]);
    }
}
