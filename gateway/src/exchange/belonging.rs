//! What of an understood request decides where it goes, and what of its answer keeps later ones there.
//!
//! Only gathers: `affinity` says where a request belongs, `stage/select.rs` follows it.

use filters::balance::{named, remaining};
use filters::route::Shape;
use filters::units::Tokens;
use http::HeaderValue;
use pingora::http::ResponseHeader;

use super::{Exchange, Understood};
use crate::affinity::{self, Clues, Holder};
use crate::clock;
use crate::config::plan::Backend;
use crate::stage::respond;
use crate::stage::select::Asks;
use crate::state::State;

impl Understood<'_> {
    /// What it names that only one backend may hold. Asks the other replicas who does, if this one doesn't know. Of the
    /// ids that its body holds, the first whose holder is known.
    pub(super) async fn named(&self, state: &State) -> Option<String> {
        let (pool, api) = (&self.admitted.pool, &self.caller.api.name);
        if pool.members.len() == 1 {
            return None;
        }
        if let Some(id) = affinity::named_id(&self.call, self.facts.as_ref()) {
            affinity::recall(state, pool, api, id).await;
            return Some(id.to_owned());
        }
        // What is made may be made from such things.
        if !affinity::makes(&self.call) {
            return None;
        }
        for id in named::ids_in_body(&self.body.bytes) {
            if affinity::recall(state, pool, api, &id).await {
                return Some(id);
            }
        }
        None
    }

    /// Where it belongs, and what it will be charged for.
    pub(super) fn asks(&self, exchange: &Exchange<'_>, named: Option<&str>) -> Asks {
        let clues = Clues {
            api: &self.caller.api.name,
            id: named,
            headers: &exchange.session.request().headers,
        };
        let (plan, pool) = (&exchange.arrival.plan, &self.admitted.pool);
        let holders = &exchange.state.holders;
        Asks {
            belongs: affinity::belongs(holders, plan, pool, &clues, clock::now().time()),
            estimate: self.estimate(),
        }
    }

    /// Sets the session's cookie, and learns that the backend knew what the request named. What learns the id of the
    /// answer itself, where that is to be asked for again.
    pub(super) fn keep<'k>(
        &'k self,
        answer: &mut ResponseHeader,
        named: Option<&str>,
        (state, backend, cookie): (&'k State, &'k Backend, Option<HeaderValue>),
    ) -> Option<Holder<'k>> {
        let pool = &self.admitted.pool;
        let is_served = respond::is_success(answer.status.as_u16());
        affinity::mark(pool, answer, cookie.filter(|_| is_served));
        if !is_served || pool.members.len() == 1 {
            return None;
        }
        let holder = Holder {
            state,
            api: &self.caller.api.name,
            backend: &backend.name,
        };
        if let Some(id) = named {
            holder.knew(id);
        }
        let names_more = named.is_some() && self.caller.shape == Shape::Other;
        (names_more || affinity::makes(&self.call)).then_some(holder)
    }

    /// What backends will count for it, as far as its size tells.
    fn estimate(&self) -> Tokens {
        match (self.caller.shape, &self.facts) {
            (Shape::Other, _) | (_, None) => Tokens::ZERO,
            (
                Shape::Chat | Shape::Completions | Shape::Embeddings | Shape::Responses,
                Some(facts),
            ) => remaining::estimate(
                self.body.bytes.len(),
                facts.max_completion_tokens,
                facts.choices,
            ),
        }
    }
}
