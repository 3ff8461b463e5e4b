//! How much of its limits a call holds: what its prompt costs, and how long its answers may be.
//!
//! A prompt is counted only where that decides. Never takes anything.

use filters::limit::Hold as Held;
use filters::route::Shape;
use filters::tokens;
use filters::units::Tokens;

use super::{Call, Line};
use crate::context::{Admitted, Caller};
use crate::limits;
use crate::state::State;

/// A longer prompt is counted on a thread of its own. Bytes.
const INLINE_MAX_BYTES: usize = 64 << 10;
/// A limit has plenty left for a prompt if it has so many times the most that the prompt can cost.
const PLENTY: u64 = 64;

/// Works out what each limit holds, and tells what of it is for the prompt: its estimate, where one was needed; where all
/// that hold something have plenty left, what the bytes of the body bound, and nothing is counted before the call.
pub(super) async fn amounts(state: &State, call: &Call<'_>, lines: &mut [Line]) -> u64 {
    let holds = |line: &&Line| line.limit.limit.hold() != Held::Nothing;
    if call.body.is_empty() || !lines.iter().any(|line| holds(&line)) {
        return 0;
    }
    let least = least_left(state, lines.iter().filter(holds));
    let prompt = match bound(call, least / PLENTY) {
        Some(most) => Tokens::new(most),
        None => estimate(state, call).await,
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
    prompt.get()
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

/// The prompt's estimate. A body that can't be counted, where the operation is understood, is as long as its bytes.
async fn estimate(state: &State, call: &Call<'_>) -> Tokens {
    let shape = call.caller.shape;
    if shape == Shape::Other {
        return Tokens::ZERO;
    }
    let model = counted_as(state, call.admitted);
    if !tokens::encoding_of(&model).known {
        state.limits.counted_as_another(&model);
    }
    let body = call.body.clone();
    let counts = state.limits.counts();
    let count = move || tokens::prompt_with(counts.as_ref(), &model, shape, &body);
    let estimate = match call.body.len() > INLINE_MAX_BYTES {
        true => tokio::task::spawn_blocking(count).await.ok().flatten(),
        false => count(),
    };
    let tokens = estimate.map(|estimate| estimate.tokens);
    Tokens::new(tokens.unwrap_or(call.body.len() as u64))
}

/// The model whose encoding counts: what answers called themselves, before there was one the name asked for where
/// that says enough, else a backend's deployment whose name says it.
pub fn counted_as(state: &State, admitted: &Admitted) -> String {
    let asked = &admitted.model;
    if let Some(learned) = state.limits.model_of(&admitted.pool.name, asked) {
        return learned.as_ref().clone();
    }
    if tokens::encoding_of(asked).known {
        return asked.clone();
    }
    let members = admitted.pool.members.iter();
    let mut deployments = members.filter_map(|member| member.backend.deployment.as_ref());
    let told = deployments.find(|name| tokens::encoding_of(name).known);
    told.unwrap_or(asked).clone()
}
