//! Semantic caches: which is for a call, what is looked up in it, and how an answer comes into it.
//!
//! The first policy whose `when` holds is the call's. Only chat, completions and responses are looked up. Never makes an
//! embedding, never waits for another call, never judges whether two questions mean the same.

mod keeping;

use std::sync::Arc;

use bytes::Bytes;
use filters::cache::entry::{ToolCalls, UsageChunk, events};
use filters::cache::prompt::{self, Prompt, Scope, Skip};
use filters::expression::{self, EvaluationError, Expression};
use filters::request::{BodyFacts, IncludeUsage};
use filters::route::Shape;
use http::{HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;

pub use self::keeping::{Keeping, Made};

use crate::cache::kept::Found;
use crate::cache::store::Store;
use crate::config::plan::Plan;
use crate::config::plan::cache::{SemanticCache, VaryBy};
use crate::context::{Admitted, CacheLookup, CacheResult, Caller};
use crate::reply;
use crate::scope::{Asked as AskedOf, Public, scope};
use crate::state::State;

/// A longer body is read on a thread of its own. Bytes.
const INLINE_MAX_BYTES: usize = 64 << 10;

const RESULT: HeaderName = HeaderName::from_static("x-tollgate-cache");
const DISTANCE: HeaderName = HeaderName::from_static("x-tollgate-cache-distance");
const ID: HeaderName = HeaderName::from_static("x-tollgate-cache-id");

/// The call that is looked up.
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
    /// The body.
    pub body: &'a Bytes,
    /// Names the call, and what is kept of it.
    pub request_id: u128,
}

/// What a call has to do with semantic caches.
#[derive(Debug)]
pub enum Asked {
    /// None is for calls such as this.
    Nothing,
    /// This call isn't looked up.
    Not(CacheLookup),
    /// It is.
    Question(Box<Question>),
}

/// What is looked up.
#[derive(Debug)]
pub struct Question {
    /// In which policy's answers.
    pub policy: Arc<SemanticCache>,
    /// Those.
    pub store: Store,
    /// By what.
    pub prompt: Prompt,
    /// The operation's shape.
    pub shape: Shape,
    /// Whose call it is; empty if nobody's.
    pub subscription: String,
    /// The call's id.
    pub id: u128,
}

/// Finds the policy, and reads the question.
pub async fn ask(state: &State, call: Call<'_>) -> Asked {
    let is_cacheable = match call.caller.shape {
        Shape::Chat | Shape::Completions | Shape::Responses => call.head.method == Method::POST,
        Shape::Embeddings | Shape::Other => false,
    };
    let Some(first) = call.plan.semantic_caches.first().filter(|_| is_cacheable) else {
        return Asked::Nothing;
    };
    let found = {
        let public = Public::of(call.head);
        let asked = AskedOf {
            model: &call.admitted.model,
            stream: call.admitted.stream,
            user: &call.admitted.user,
        };
        let scope = scope(
            &call.plan.gateway,
            &public,
            call.caller,
            asked,
            (None, None),
        );
        applying(call.plan, &scope).map(|policy| {
            (
                policy,
                policy.and_then(|policy| values(policy, &call, &scope).ok()),
            )
        })
    };
    match found {
        Ok((Some(policy), Some(values))) => question(state, policy, call, values).await,
        Ok((None, _)) => Asked::Not(lookup(first, CacheResult::Skip)),
        Ok((Some(policy), None)) | Err(policy) => {
            tracing::debug!(policy = %policy.name, "an expression of the semantic cache failed");
            Asked::Not(lookup(policy, CacheResult::Error))
        }
    }
}

/// A look-up that found nothing.
pub fn lookup(policy: &SemanticCache, result: CacheResult) -> CacheLookup {
    CacheLookup {
        policy: policy.name.clone(),
        result,
        distance: None,
        apart: None,
        saved_tokens: 0,
    }
}

/// A look-up that found this.
pub fn lookup_of(policy: &SemanticCache, result: CacheResult, found: &Found) -> CacheLookup {
    let saved_tokens = match result {
        CacheResult::Hit => found.kept.tokens,
        CacheResult::Miss | CacheResult::Skip | CacheResult::Error | CacheResult::WouldHit => 0,
    };
    CacheLookup {
        distance: Some(found.distance),
        saved_tokens,
        ..lookup(policy, result)
    }
}

/// The first whose condition holds; the one whose condition failed before.
fn applying<'p>(
    plan: &'p Plan,
    scope: &expression::Scope<'_>,
) -> Result<Option<&'p Arc<SemanticCache>>, &'p Arc<SemanticCache>> {
    for policy in &plan.semantic_caches {
        match policy.when.as_ref().map(|when| when.truth(scope)) {
            None | Some(Ok(true)) => return Ok(Some(policy)),
            Some(Ok(false)) => {}
            Some(Err(_)) => return Err(policy),
        }
    }
    Ok(None)
}

/// Header fields of a caller's that go upstream and make another answer of the same body.
const TELLING_FIELDS: [&str; 4] = [
    "anthropic-beta",
    "azureml-model-deployment",
    "extra-parameters",
    "openai-beta",
];

/// What must be equal beside the body. The query names the version of the interface; the embeddings model is among
/// them because vectors of two models have nothing to say of each other.
fn values(
    policy: &SemanticCache,
    call: &Call<'_>,
    scope: &expression::Scope<'_>,
) -> Result<Vec<String>, EvaluationError> {
    let query = call.head.uri.query().unwrap_or("");
    let query = crate::upstream::headers::public_query(query);
    let mut values = vec![
        policy.embeddings.maker().to_owned(),
        policy.embeddings.model().to_owned(),
        query.into_owned(),
        telling_fields(call.head),
        // Who no longer allows them gets none that were kept before.
        match policy.tool_calls {
            ToolCalls::Allowed => "with tool calls".to_owned(),
            ToolCalls::Refused => "without tool calls".to_owned(),
        },
    ];
    match &policy.vary_by {
        VaryBy::Subscription => values.push(subscription(call.caller).to_owned()),
        VaryBy::Values(expressions) => {
            for expression in expressions {
                values.push(expression.text(scope)?.into_owned());
            }
            // Whoever has no product shares with those of no other subscription who have none.
            let is_by_product = |expression: &Expression| expression.names("product");
            if scope.product.is_none() && expressions.iter().any(is_by_product) {
                values.push(subscription(call.caller).to_owned());
            }
        }
    }
    Ok(values)
}

/// A line each: no value has a line's end in it.
fn telling_fields(head: &RequestHeader) -> String {
    let fields = TELLING_FIELDS.iter().flat_map(|name| {
        let values = head.headers.get_all(*name).iter();
        values.map(move |value| format!("{name}: {}\n", value.as_bytes().escape_ascii()))
    });
    fields.collect()
}

fn subscription(caller: &Caller) -> &str {
    let subscription = caller.subscription.as_ref();
    subscription.map_or("", |subscription| &subscription.name)
}

async fn question(
    state: &State,
    policy: &Arc<SemanticCache>,
    call: Call<'_>,
    values: Vec<String>,
) -> Asked {
    if call.facts.is_some_and(|facts| facts.choices > 1) {
        return Asked::Not(lookup(policy, CacheResult::Skip));
    }
    let Some(store) = state.caches.store(policy) else {
        return Asked::Not(lookup(policy, CacheResult::Error));
    };
    match read(policy, call, values).await {
        Some(Ok(prompt)) if prompt.message_count <= policy.max_message_count => {
            Asked::Question(Box::new(Question {
                policy: policy.clone(),
                store,
                prompt,
                shape: call.caller.shape,
                subscription: subscription(call.caller).to_owned(),
                id: call.request_id,
            }))
        }
        Some(Ok(_) | Err(_)) => Asked::Not(lookup(policy, CacheResult::Skip)),
        None => Asked::Not(lookup(policy, CacheResult::Error)),
    }
}

async fn read(
    policy: &Arc<SemanticCache>,
    call: Call<'_>,
    values: Vec<String>,
) -> Option<Result<Prompt, Skip>> {
    let (shape, operation) = (call.caller.shape, call.caller.operation);
    let (policy, api) = (policy.clone(), call.caller.api.clone());
    let (model, body) = (call.admitted.model.clone(), call.body.clone());
    let is_long = body.len() > INLINE_MAX_BYTES;
    let read = move || {
        let scope = Scope {
            policy: &policy.name,
            api: &api.name,
            operation,
            model: &model,
            vary_by: &values,
        };
        prompt::read(shape, &body, scope, policy.system)
    };
    match is_long {
        true => tokio::task::spawn_blocking(read).await.ok(),
        false => Some(read()),
    }
}

/// A kept answer in the form that a caller asked for.
pub fn answer(found: &Found, facts: Option<&BodyFacts>) -> Option<reply::Kept> {
    let entry = &found.kept.entry;
    let usage = match facts.map(|facts| facts.include_usage) {
        Some(IncludeUsage::Asked) => UsageChunk::Asked,
        Some(IncludeUsage::Absent | IncludeUsage::Declined) | None => UsageChunk::NotAsked,
    };
    let (content_type, body) = match facts.is_some_and(|facts| facts.stream) {
        true => {
            let events = events(entry.shape, &entry.body, usage)?;
            ("text/event-stream; charset=utf-8", Bytes::from(events))
        }
        false => ("application/json", entry.body.clone()),
    };
    let id = format!("{:032x}", found.kept.id);
    let mut fields = vec![(RESULT, HeaderValue::from_static("hit"))];
    fields.extend(distance(found.distance));
    fields.extend(HeaderValue::try_from(id).ok().map(|value| (ID, value)));
    Some(reply::Kept {
        content_type,
        body,
        fields,
    })
}

/// What an answer of a backend says of the look-up before it.
pub fn fields(lookup: &CacheLookup) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
    let result = match lookup.result {
        CacheResult::Skip => "skip",
        CacheResult::Hit | CacheResult::Miss | CacheResult::Error | CacheResult::WouldHit => "miss",
    };
    let result = (RESULT, HeaderValue::from_static(result));
    std::iter::once(result).chain(lookup.distance.and_then(distance))
}

fn distance(distance: f32) -> Option<(HeaderName, HeaderValue)> {
    let value = HeaderValue::try_from(format!("{distance:.4}")).ok()?;
    Some((DISTANCE, value))
}
