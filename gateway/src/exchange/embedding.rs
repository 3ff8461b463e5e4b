//! The embedding of a question: by the model in this process, or by a backend, in a call of the gateway's own with its
//! own credential, counted by that backend's breaker. What comes while calls are under way goes together in the next.
//!
//! Never in the way: late, refused or unreadable, it is no embedding, and the request goes on without.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use filters::cache::embedding::{self, Embeddings};
use filters::cache::score::Vector;
use filters::outcome::Outcome;
use filters::route::Schema;
use filters::time::Time;
use filters::units::Tokens;
use pingora::http::RequestHeader;
use tokio::sync::OwnedSemaphorePermit;

use super::attempt::{self, Missed, Reached};
use crate::clock;
use crate::config::plan::Backend;
use crate::config::plan::cache::{Embedder, LocalModel};
use crate::embed::local::Unmade;
use crate::embed::queue::{self, Answered, Call, Queue, Waiting};
use crate::health::Admitted;
use crate::stage::forward::{self, Outgoing};
use crate::stage::respond::{self, Failure};
use crate::state::State;
use crate::trips;
use crate::upstream::connector::Connector;
use crate::upstream::fault::Fault;
use crate::upstream::headers::HeaderView;

/// A call has this long, from the connection to the answer's last byte: longer than a healthy backend takes, and shorter
/// than a model takes to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A question waits this long for its embedding. A little longer than a call, so that the call's end is known.
const PATIENCE: Duration = Duration::from_millis(2_250);
/// Larger answers aren't read: 8,192 numbers are some 200 KB. Bytes for each text.
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// How it went.
#[derive(Debug)]
pub struct Embedded {
    /// The embedding, or why there is none.
    pub vector: Result<Vector, Unmade>,
    /// The call, if there was one that nobody else accounts for.
    pub call: Option<Call>,
    /// How long it took.
    pub duration: Duration,
}

/// What outlives a request, for a call that may outlive it too.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// State.
    pub state: &'a Arc<State>,
    /// Connections.
    pub connector: &'a Arc<Connector>,
    /// How an API calls a backend that doesn't say.
    pub schema: Schema,
}

/// Embeds a text.
pub async fn embed(means: Means<'_>, embedder: &Embedder, text: &str) -> Embedded {
    let begun = clock::now();
    let made = match embedder {
        Embedder::Backend(backend) => {
            let answered = by_backend(means, backend, text);
            let answered = tokio::time::timeout(PATIENCE, answered)
                .await
                .ok()
                .flatten();
            answered.map_or((Err(Unmade::Failed), None), |answered| {
                (answered.vector.ok_or(Unmade::Failed), answered.call)
            })
        }
        Embedder::Local(model) => (here(means.state, model, text).await, None),
    };
    let (vector, call) = made;
    Embedded {
        vector,
        call,
        duration: clock::now().since(begun),
    }
}

async fn here(state: &State, model: &LocalModel, text: &str) -> Result<Vector, Unmade> {
    let local = state.models.find(model).ok_or(Unmade::Failed)?;
    let made = tokio::time::timeout(TIMEOUT, local.embed(text)).await;
    made.unwrap_or(Err(Unmade::Failed))
}

/// Waits for the answer, or for the moment to make the call that brings it.
async fn by_backend(means: Means<'_>, backend: &Arc<Backend>, text: &str) -> Option<Answered> {
    let queue = means.state.embedding_queues.of(backend);
    let mut answered = queue.enter(text, backend)?;
    tokio::select! {
        biased;
        answered = &mut answered => return answered.ok(),
        place = queue.place() => begin(means, &queue, place?),
    }
    answered.await.ok()
}

/// Makes a call for those that wait. On its own: whoever began it may leave before the others have their answer.
fn begin(means: Means<'_>, queue: &Queue, place: OwnedSemaphorePermit) {
    let batch = queue.next();
    let Some(first) = batch.first() else {
        return;
    };
    let schema = first.backend.schema.unwrap_or(means.schema);
    let (state, connector) = (means.state.clone(), means.connector.clone());
    tokio::spawn(async move {
        call(&state, &connector, schema, batch).await;
        drop(place);
    });
}

async fn call(state: &State, connector: &Connector, schema: Schema, mut batch: Vec<Waiting>) {
    let Some(backend) = batch.first().map(|first| first.backend.clone()) else {
        return;
    };
    let now = clock::now().time();
    let Admitted::At(sent_at) = state.health.admit(&backend, Tokens::ZERO, now) else {
        return queue::deliver(batch, None, None);
    };
    let mut verdict = Verdict {
        state,
        backend: &backend,
        sent_at,
        outcome: Outcome::NoVerdict,
    };
    let texts: Vec<String> = batch.iter().map(|waiting| waiting.text.clone()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let asked = ask(state, connector, (&backend, schema), &texts);
    let asked = tokio::select! {
        asked = tokio::time::timeout(TIMEOUT, asked) => asked.unwrap_or(Err(Failure::Timeout)),
        () = queue::nobody_waits(&mut batch) => return,
    };
    let (outcome, embeddings) = match asked {
        Ok(answer) => {
            verdict.outcome = answer.verdict;
            (answer.outcome, answer.embeddings)
        }
        Err(failure) => {
            verdict.outcome = Outcome::Failed(failure.reason());
            (failure.outcome(), None)
        }
    };
    if embeddings.is_none() {
        tracing::warn!(backend = %backend.name, outcome, "no embedding for the semantic cache");
    }
    let usage = embeddings.as_ref().and_then(|embeddings| embeddings.usage);
    let vectors = embeddings.map(|embeddings| embeddings.vectors);
    // Whoever is answered may look at the breaker.
    drop(verdict);
    queue::deliver(batch, vectors, Some(Call { outcome, usage }));
}

/// Tells the breaker how the call went, also when its caller has gone.
struct Verdict<'a> {
    state: &'a State,
    backend: &'a Backend,
    sent_at: Time,
    outcome: Outcome,
}

impl Drop for Verdict<'_> {
    fn drop(&mut self) {
        let now = clock::now().time();
        let times = (self.sent_at, now);
        let (health, metrics) = (&self.state.health, &self.state.metrics);
        let transition = health.record(metrics, self.backend, &self.outcome, times);
        trips::tell(self.state, self.backend, transition, now);
    }
}

struct Answer {
    verdict: Outcome,
    outcome: &'static str,
    embeddings: Option<Embeddings>,
}

async fn ask(
    state: &State,
    connector: &Connector,
    (backend, schema): (&Backend, Schema),
    texts: &[&str],
) -> Result<Answer, Failure> {
    let model = crate::config::plan::cache::embeddings_model(backend);
    // Not the backend's doing: its breaker isn't told.
    let Ok(token) = state.identities.bearer(backend).await else {
        return Ok(Answer {
            verdict: Outcome::NoCredential,
            outcome: "no_credential",
            embeddings: None,
        });
    };
    let (mut head, outgoing) =
        forward::embeddings(backend, schema, (model, texts)).map_err(|error| {
            tracing::error!(error = %Fault(&error), "an embeddings call couldn't be made");
            Failure::Connect
        })?;
    // A name and a value that are ready can't be refused.
    let _ = forward::bearer(&mut head, token.as_ref());
    let mut reached = reach(state, connector, backend, (&head, &outgoing)).await?;
    let answer = reached.upstream.response_header().ok_or(Failure::Reset)?;
    let status = answer.status;
    let verdict = respond::judged(answer, &backend.auth, clock::unix_time());
    let headers = HeaderView(&answer.headers);
    state.health.heard(backend, &headers, clock::now().time());
    if verdict == Outcome::CredentialRefused {
        let status = status.as_u16();
        tracing::error!(backend = %backend.name, status, "the backend refused our credential");
    }
    if respond::doubts_token(status) {
        state.identities.refused(backend);
    }
    let embeddings = match respond::is_success(status.as_u16()) {
        true => {
            let body = read(&mut reached, texts.len() * ANSWER_MAX_BYTES).await?;
            body.and_then(|body| embedding::read(&body, texts.len()))
        }
        false => None,
    };
    // Reads out what a refusal still says, so that its connection can be used again.
    reached.discard(connector).await;
    Ok(Answer {
        verdict,
        outcome: respond::outcome(status),
        embeddings,
    })
}

/// Asks once more over a new connection where a pooled one was stale.
async fn reach(
    state: &State,
    connector: &Connector,
    backend: &Backend,
    request: (&RequestHeader, &Outgoing),
) -> Result<Reached, Failure> {
    let peers = &state.peers;
    match attempt::attempt(connector, peers, backend, request, false).await {
        Err(Missed::Stale) => attempt::attempt(connector, peers, backend, request, true).await,
        reached => reached,
    }
    .map_err(Missed::failure)
}

/// The answer's body, if it isn't larger than any embedding is.
async fn read(reached: &mut Reached, max_bytes: usize) -> Result<Option<BytesMut>, Failure> {
    let mut body = BytesMut::new();
    loop {
        match reached.upstream.read_response_body().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(Some(body)),
            Err(error) => {
                tracing::debug!(error = %Fault(&error), "the backend broke off");
                return Err(attempt::failure_of(&error));
            }
        }
        if body.len() > max_bytes {
            return Ok(None);
        }
    }
}
