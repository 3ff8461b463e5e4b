//! A call's way past the semantic cache: answered there, or on to a backend with what its answer will be kept by.
//!
//! An exact repeat is found first. Then calls with the same prompt wait for the first of them, and only that one asks for
//! an embedding. Each wait is bounded and ends when the caller leaves; whatever fails, the call goes on as if there were
//! no cache. The stage decides; this file only waits.

use std::sync::Arc;
use std::time::Duration;

use super::attempts::Attempts;
use super::embedding::{self, Embedded, Means};
use super::{Exchange, Served, Understood, gone, verdict};
use crate::cache::flights::{Flight, Place};
use crate::cache::kept::{Found, Sought, StoreError};
use crate::clock;
use crate::config::plan::cache::{Embedder, Mode, SemanticCache};
use crate::context::{Answered, CacheLookup, CacheResult, End, Record};
use crate::embed::local::Unmade;
use crate::reply;
use crate::stage::account::{self, Spent};
use crate::stage::cache::{self, Asked, Keeping, Question};
use crate::state::State;
use crate::traces::trace::What;

/// Calls wait so long for one with the same prompt; then they go on by themselves.
const FLIGHT_WAIT: Duration = Duration::from_secs(10);

/// What a call that a cache didn't answer takes along.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// What came of the look-up, if there was one.
    pub lookup: Option<CacheLookup>,
    /// By what its answer is kept.
    pub keeping: Option<Keeping>,
}

/// What came of a look-up.
struct Looked {
    policy: Arc<SemanticCache>,
    result: CacheResult,
    found: Option<Found>,
    keeping: Option<Keeping>,
    embedded: Option<Embedded>,
}

impl<'e> Exchange<'e> {
    /// Answers from the cache, or by a backend.
    pub(super) async fn answer(self, understood: Box<Understood<'_>>) -> Served {
        let missed = match cache::ask(self.state, self.asked(&understood)).await {
            Asked::Nothing => Missed::default(),
            Asked::Not(lookup) => Missed::only(lookup),
            // Most calls have no cache to ask.
            Asked::Question(question) => return Box::pin(self.seek(understood, question)).await,
        };
        match self.begin(understood, missed).await {
            Ok(attempts) => attempts.run().await,
            Err(denied) => denied,
        }
    }

    async fn seek(
        mut self,
        mut understood: Box<Understood<'_>>,
        question: Box<Question>,
    ) -> Served {
        let begun = clock::now();
        let means = Means {
            state: self.state,
            connector: self.connector,
            schema: understood.caller.api.schema,
        };
        let looked = tokio::select! {
            biased;
            looked = look_up(means, question) => Some(looked),
            _ = self.session.leaves() => None,
            () = self.state.stop.cut() => return Box::pin(self.decline(verdict::stopped(), Some(understood.caller))).await,
        };
        understood.body_wait += clock::now().since(begun);
        if let Some(trace) = &self.arrival.trace {
            trace.did(What::Cache, begun);
        }
        let Some(looked) = looked else {
            return gone(understood.caller);
        };
        self.meter(&understood, &looked);
        match looked {
            Looked {
                policy,
                result: CacheResult::Hit,
                found: Some(found),
                ..
            } => self.replay(understood, &policy, &found).await,
            Looked {
                policy,
                result,
                found,
                keeping,
                ..
            } => {
                let lookup = match &found {
                    Some(found) => cache::lookup_of(&policy, result, found),
                    None => cache::lookup(&policy, result),
                };
                let lookup = Some(lookup);
                match self.begin(understood, Missed { lookup, keeping }).await {
                    Ok(attempts) => attempts.run().await,
                    Err(denied) => denied,
                }
            }
        }
    }

    fn asked<'c>(&'c self, understood: &'c Understood<'_>) -> cache::Call<'c> {
        cache::Call {
            plan: &self.arrival.plan,
            head: self.session.request(),
            caller: &understood.caller,
            admitted: &understood.admitted,
            facts: understood.facts.as_ref(),
            body: &understood.body.bytes,
            request_id: self.arrival.request_id,
        }
    }

    /// Takes what the call holds of its limits; what it is told where one says no.
    async fn begin<'u>(
        mut self,
        understood: Box<Understood<'u>>,
        missed: Missed,
    ) -> Result<Box<Attempts<'e, 'u>>, Served> {
        let begun = clock::now();
        let held = understood.hold(&self).await;
        if let Some(trace) = &self.arrival.trace {
            let refused = held.is_err();
            trace.did(What::Limit { refused }, begun);
        }
        match held {
            Ok(hold) => Ok(Attempts::new(self, understood, hold, missed)),
            Err(denied) => Err(Box::pin(self.deny(*denied, understood, missed.lookup)).await),
        }
    }

    /// Accounts for the call that an embedding took, if there was one.
    fn meter(&self, understood: &Understood<'_>, looked: &Looked) {
        let Some(embedded) = &looked.embedded else {
            return;
        };
        let (Some(call), Embedder::Backend(backend)) = (embedded.call, &looked.policy.embeddings)
        else {
            return;
        };
        let spent = Spent {
            caller: &understood.caller,
            backend,
            model: looked.policy.embeddings.model(),
            outcome: call.outcome,
            usage: call.usage,
            duration: embedded.duration,
        };
        account::embedded(self.state, self.arrival, self.session.request(), spent);
    }

    async fn replay(
        mut self,
        understood: Box<Understood<'_>>,
        policy: &SemanticCache,
        found: &Found,
    ) -> Served {
        let Some(mut kept) = cache::answer(found, understood.facts.as_ref()) else {
            let lookup = cache::lookup(policy, CacheResult::Error);
            return match self.begin(understood, Missed::only(lookup)).await {
                Ok(attempts) => Box::pin(attempts.run()).await,
                Err(denied) => denied,
            };
        };
        let hold = self.standing(&understood.caller, Some(&understood.admitted));
        kept.fields.extend(hold.await.fields());
        let body = kept.body.clone();
        let heard = understood.hear(&self, || Answered::Whole(body));
        let sent = reply::kept(&mut self.session, kept, self.arrival.request_id).await;
        let abort = sent.is_err();
        let end = match abort {
            false => End::Cached,
            true => End::ClientGone,
        };
        let record = Record {
            caller: Some(understood.caller),
            model: understood.admitted.model,
            user: understood.admitted.user,
            stream: understood.admitted.stream,
            waited: understood.body_wait,
            end,
            cache: Some(cache::lookup_of(policy, CacheResult::Hit, found)),
            heard,
            ..Record::unserved(sent.unwrap_or(reply::CLIENT_GONE))
        };
        Served::Answered {
            record: Box::new(record),
            abort,
        }
    }
}

impl Missed {
    fn only(lookup: CacheLookup) -> Self {
        Missed {
            lookup: Some(lookup),
            keeping: None,
        }
    }
}

async fn look_up(means: Means<'_>, question: Box<Question>) -> Looked {
    let mut looked = Looked {
        policy: question.policy.clone(),
        result: CacheResult::Miss,
        found: None,
        keeping: None,
        embedded: None,
    };
    let mut is_there = looked.exact(&question).await;
    let mut flight = None;
    if looked.found.is_none() && question.policy.mode == Mode::Serve {
        flight = enter(means.state, &question).await;
        if is_there {
            is_there = looked.exact(&question).await;
        }
    }
    // Where answers can't be found, an embedding would be made for nothing.
    if looked.found.is_none() && is_there {
        near(means, &question, &mut looked).await;
    }
    match (&looked.found, question.policy.mode) {
        (Some(_), Mode::Serve) => looked.result = CacheResult::Hit,
        (Some(found), Mode::Observe) => {
            looked.result = CacheResult::WouldHit;
            looked.keeping = Some(Keeping::beside(&question, found.kept.clone()));
        }
        (None, Mode::Serve | Mode::Observe) => {
            let embedded = looked.embedded.as_ref();
            let vector = embedded.and_then(|embedded| embedded.vector.clone().ok());
            looked.keeping = Some(Keeping::new(question, vector, flight));
        }
    }
    looked
}

impl Looked {
    /// Looks for an exact repeat. Whether it is worth looking on.
    async fn exact(&mut self, question: &Question) -> bool {
        match question.store.find_exact(&question.prompt).await {
            Ok(found) => {
                self.found = found;
                true
            }
            Err(error) => {
                self.result = CacheResult::Error;
                error == StoreError::Poisoned
            }
        }
    }
}

/// The first place among those with the same prompt, or, when the first is over or late, none.
async fn enter(state: &State, question: &Question) -> Option<Flight> {
    match state.caches.flights().enter(question.prompt.exact) {
        Place::First(flight) => Some(flight),
        Place::Behind(wait) => {
            let _late = tokio::time::timeout(FLIGHT_WAIT, wait.over()).await;
            None
        }
    }
}

/// Looks for another wording. Without a text, or with one that can't be read, there is none.
async fn near(means: Means<'_>, question: &Question, looked: &mut Looked) {
    let Some(text) = &question.prompt.question else {
        return;
    };
    let policy = &question.policy;
    let embedded = Box::pin(embedding::embed(means, &policy.embeddings, text)).await;
    let vector = embedded.vector.clone();
    looked.embedded = Some(embedded);
    let vector = match vector {
        Ok(vector) if question.store.compares(vector.values().len()) => vector,
        Err(Unmade::Unreadable) => return,
        Ok(_) | Err(Unmade::Failed) => {
            looked.result = CacheResult::Error;
            return;
        }
    };
    let sought = Sought {
        partition: question.prompt.partition,
        vector,
        threshold: policy.threshold,
        question: text.clone(),
    };
    match question.store.find_near(sought).await {
        Ok(found) => looked.found = found,
        Err(_) => looked.result = CacheResult::Error,
    }
}
