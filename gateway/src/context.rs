//! What is known of a request, in finished parts: each stage takes the parts it needs and makes the next.
//!
//! Why parts and not one record with optional fields: a field that means "not yet" can be read too early;
//! a part that doesn't exist can't. Only `proxy` sees that parts are filled over time. Nothing here decides.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use filters::refusal::Refusal;
use filters::route::Shape;
use filters::token::Claims;
use filters::usage::Usage;

use crate::clock::Moment;
use crate::config::plan::{Api, Backend, Plan, Pool, Subscription};
use crate::state::{InFlight, Slot};
use crate::traces::trace::Trace;

/// Made when the request's head was read.
#[derive(Debug)]
pub struct Arrival {
    /// When.
    pub at: Moment,
    /// The rules that it lives under, whatever is reloaded meanwhile.
    pub plan: Arc<Plan>,
    /// Names it in logs and in answers made here.
    pub request_id: u128,
    /// Counts it as in flight until it is dropped.
    pub in_flight: InFlight,
    /// Its trace, if it has one.
    pub trace: Option<Arc<Trace>>,
}

/// Who calls what: known from the head alone.
#[derive(Debug)]
pub struct Caller {
    /// The API at this path.
    pub api: Arc<Api>,
    /// Kebab-case id, `other` if the schema doesn't name it.
    pub operation: &'static str,
    /// What its body means.
    pub shape: Shape,
    /// Whose key it was; `None` where the API needs none and none came.
    pub subscription: Option<Arc<Subscription>>,
    /// What its token claims, where one was checked.
    pub claims: Option<Arc<Claims>>,
    /// The subscription's place among its concurrent requests.
    pub slot: Option<Slot>,
    /// The caller's address, as far as proxies are trusted.
    pub address: IpAddr,
}

/// A caller whose model and pool are known: it may be sent.
#[derive(Debug)]
pub struct Admitted {
    /// Deployment or model asked for; empty for operations without one.
    pub model: String,
    /// Where it may go.
    pub pool: Arc<Pool>,
    /// Asked for a stream.
    pub stream: bool,
    /// `user` or `safety_identifier` of the body; empty if none.
    pub user: String,
}

/// One try at one backend.
#[derive(Debug)]
pub struct Attempt {
    /// Where.
    pub backend: Arc<Backend>,
    /// Counted from 1.
    pub number: u32,
}

/// How a request ended, as the usage records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The answer was passed on whole.
    Complete,
    /// The caller left first.
    ClientGone,
    /// The backend broke off.
    UpstreamCut,
    /// The gateway broke off: it was stopped, and the call's time was over.
    Stopped,
    /// The gateway declined.
    Refused,
    /// A semantic cache answered.
    Cached,
}

/// Where the figures of a usage record come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The backend's own `usage`.
    Upstream,
    /// Our tokenizer.
    Counted,
    /// Our tokenizer, of a model that it doesn't know, or where something that isn't in the request cost tokens.
    Estimated,
    /// There are none.
    None,
}

/// What is accounted, once, when a request is over.
#[derive(Debug)]
pub struct Record {
    /// Who called what; `None` if that was refused already.
    pub caller: Option<Caller>,
    /// Model asked for, if it came that far.
    pub model: String,
    /// The body's `user`.
    pub user: String,
    /// The backend of the last attempt.
    pub backend: Option<Arc<Backend>>,
    /// Sent to the caller; 499 if the caller left before there was one.
    pub status: u16,
    /// Asked for a stream.
    pub stream: bool,
    /// Tokens.
    pub usage: Option<Usage>,
    /// Where `usage` is from.
    pub source: Source,
    /// How it ended.
    pub end: End,
    /// Why, if the gateway declined.
    pub refusal: Option<Refusal>,
    /// Each attempt's backend and outcome.
    pub attempts: Vec<AttemptEnd>,
    /// From arrival to the first event that a user sees.
    pub first_token: Option<Duration>,
    /// Spent waiting for the caller's body or the backend, not in the gateway.
    pub waited: Duration,
    /// What a semantic cache had for it; `None`: none was asked.
    pub cache: Option<CacheLookup>,
    /// What was said, where it is to be written down.
    pub heard: Option<Arc<Heard>>,
    /// The model that the backend named, of a call that is traced.
    pub answered_by: Option<String>,
}

/// A prompt and its answer, for the message log.
#[derive(Debug)]
pub struct Heard {
    /// The body, as the caller sent it.
    pub request: Bytes,
    /// What came back.
    pub answer: Answered,
}

/// What came back.
#[derive(Debug)]
pub enum Answered {
    /// Nothing, or what isn't looked into.
    Nothing,
    /// A body.
    Whole(Bytes),
    /// Events; their texts, by choice and part.
    Streamed(Vec<String>),
}

impl Answered {
    /// The length of all of it.
    pub fn bytes(&self) -> usize {
        match self {
            Answered::Nothing => 0,
            Answered::Whole(body) => body.len(),
            Answered::Streamed(texts) => texts.iter().map(String::len).sum(),
        }
    }
}

/// A look-up in a semantic cache.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheLookup {
    /// The policy's name.
    pub policy: Arc<str>,
    /// What came of it.
    pub result: CacheResult,
    /// How far the question lay from the one that was found, if one was.
    pub distance: Option<f32>,
    /// How far the backend's answer lay from the kept one, where a policy only observes.
    pub apart: Option<f32>,
    /// What a backend would have charged for again.
    pub saved_tokens: u64,
}

/// What came of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// The answer is a kept one.
    Hit,
    /// There was none.
    Miss,
    /// The call isn't one that is looked up.
    Skip,
    /// It couldn't be looked up.
    Error,
    /// There was one, and the policy only observes.
    WouldHit,
}

/// How one attempt ended.
#[derive(Debug, Clone)]
pub struct AttemptEnd {
    /// Where.
    pub backend: Arc<Backend>,
    /// A status class or an error, as `tollgate_backend_attempts_total` labels it.
    pub outcome: &'static str,
}

impl Record {
    /// A request that was answered with `status`, of which nothing else is known yet. It counts as declined until more is.
    pub fn unserved(status: u16) -> Self {
        Record {
            caller: None,
            model: String::new(),
            user: String::new(),
            backend: None,
            status,
            stream: false,
            usage: None,
            source: Source::None,
            end: End::Refused,
            refusal: None,
            attempts: Vec::new(),
            first_token: None,
            waited: Duration::ZERO,
            cache: None,
            heard: None,
            answered_by: None,
        }
    }
}

impl End {
    /// The label of `tollgate_usage_records_total`.
    pub fn label(self) -> &'static str {
        match self {
            End::Complete => "complete",
            End::ClientGone => "client_gone",
            End::UpstreamCut => "upstream_cut",
            End::Stopped => "stopped",
            End::Refused => "refused",
            End::Cached => "cached",
        }
    }
}

impl Source {
    /// The label of `tollgate_usage_records_total`.
    pub fn label(self) -> &'static str {
        match self {
            Source::Upstream => "upstream",
            Source::Counted => "counted",
            Source::Estimated => "estimated",
            Source::None => "none",
        }
    }
}

impl CacheResult {
    /// The label of `tollgate_cache_lookups_total`, and the usage log's `cache`.
    pub fn label(self) -> &'static str {
        match self {
            CacheResult::Hit => "hit",
            CacheResult::Miss => "miss",
            CacheResult::Skip => "skip",
            CacheResult::Error => "error",
            CacheResult::WouldHit => "would_hit",
        }
    }
}

/// A request's id as logs and answers bear it, and as `{:032x}` writes it, without what a formatter costs.
pub fn hexadecimal(id: u128) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |place: u32| char::from(DIGITS[(id >> (place * 4)) as usize & 15]);
    (0..32).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_with_all_its_digits() {
        for id in [0, 0x0123_4567_89ab_cdef_u128 << 64 | 0xf0, u128::MAX] {
            assert_eq!(hexadecimal(id), format!("{id:032x}"));
        }
    }
}
