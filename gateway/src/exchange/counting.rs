//! Tokens of a call whose backend told none: counted from what was asked and what was streamed.
//!
//! Runs after the answer, and off the event loop where there is much to count. An estimate: text is exact,
//! what a backend adds unseen (reasoning, tools of its own) is missing.

use bytes::Bytes;
use filters::route::Shape;
use filters::tokens;
use filters::usage::Usage;

use super::Understood;
use super::relay::Relayed;
use crate::config::plan::Plan;
use crate::context::Source;

/// More text than this is counted on a thread of its own. Bytes.
const INLINE_MAX_BYTES: usize = 16 << 10;

/// Of a longer body only what counting needs is kept once it can't be sent again. Bytes.
const KEPT_MAX_BYTES: usize = 64 << 10;

impl Understood<'_> {
    /// The body won't be sent again: what nobody needs of it is let go, since the answer may take minutes.
    pub(super) fn let_go(&mut self, plan: &Plan) {
        let body = &mut self.body;
        if body.bytes.len() <= KEPT_MAX_BYTES || plan.message_log.is_some() {
            return;
        }
        let kept = match self.caller.shape {
            Shape::Other => Some(Vec::new()),
            Shape::Chat | Shape::Completions | Shape::Embeddings | Shape::Responses => {
                tokens::abridged(&body.bytes)
            }
        };
        if let Some(kept) = kept {
            body.shorten(kept);
        }
    }
}

/// Prompt and completion tokens by the tokenizer, and how far they are to be believed; `None` for calls that aren't
/// understood.
pub async fn usage(
    shape: Shape,
    model: String,
    body: Bytes,
    relayed: Option<Relayed>,
) -> Option<(Usage, Source)> {
    match shape {
        Shape::Other => return None,
        Shape::Chat | Shape::Completions | Shape::Embeddings | Shape::Responses => {}
    }
    let streamed = relayed.as_ref().and_then(|relayed| relayed.meter.as_ref());
    let streamed_bytes: usize = streamed.map_or(0, |meter| meter.texts().map(str::len).sum());
    let much = body.len() + streamed_bytes > INLINE_MAX_BYTES;
    let count = move || counted(shape, &model, &body, relayed.as_ref());
    match much {
        true => tokio::task::spawn_blocking(count).await.ok(),
        false => Some(count()),
    }
}

fn counted(shape: Shape, model: &str, body: &[u8], relayed: Option<&Relayed>) -> (Usage, Source) {
    let named = relayed.and_then(|relayed| relayed.model.as_deref());
    let model = named.filter(|name| !name.is_empty()).unwrap_or(model);
    let estimate = tokens::prompt(model, shape, body);
    let prompt = estimate.map_or(0, |estimate| estimate.tokens);
    let meter = relayed.and_then(|relayed| relayed.meter.as_ref());
    let completion = meter.map_or(0, |meter| {
        tokens::completion(model, shape, meter.texts()) + meter.uncounted_bytes() / BYTES_PER_TOKEN
    });
    let usage = Usage {
        prompt,
        completion,
        total: prompt + completion,
        cached: 0,
        reasoning: 0,
    };
    match estimate.is_some_and(|estimate| estimate.certain) {
        true => (usage, Source::Counted),
        false => (usage, Source::Estimated),
    }
}

/// English text has about four bytes a token; used only beyond the bound up to which text is kept.
const BYTES_PER_TOKEN: u64 = 4;
