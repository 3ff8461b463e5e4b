//! The embedding of a question, by a backend: a call of the gateway's own, with its own credential, counted by that
//! backend's breaker.
//!
//! Never in the way: late, refused or unreadable, it is no embedding, and the request goes on without.

use std::time::Duration;

use bytes::BytesMut;
use filters::cache::embedding::{self, Embedding};
use filters::outcome::Outcome;
use filters::route::Schema;
use filters::time::Time;
use filters::units::Tokens;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;

use super::attempt::{self, Missed, Reached};
use crate::clock;
use crate::config::plan::Backend;
use crate::config::plan::cache::SemanticCache;
use crate::health::Admitted;
use crate::stage::forward::{self, Outgoing};
use crate::stage::respond::{self, Failure};
use crate::state::State;
use crate::trips;
use crate::upstream::fault::Fault;
use crate::upstream::headers::HeaderView;

/// A question waits this long for its embedding, from the connection to the answer's last byte: longer than a healthy
/// backend takes, and shorter than a model takes to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Larger answers aren't read: 8,192 numbers are some 200 KB. Bytes.
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// How the call went.
#[derive(Debug)]
pub struct Embedded {
    /// The embedding, if there is one.
    pub embedding: Option<Embedding>,
    /// A status class or an error; absent if the backend wasn't asked.
    pub outcome: Option<&'static str>,
    /// How long it took.
    pub duration: Duration,
}

/// Embeds a text.
pub async fn embed(
    state: &State,
    connector: &Connector,
    schema: Schema,
    policy: &SemanticCache,
    text: &str,
) -> Embedded {
    let begun = clock::now();
    let backend = &policy.embeddings;
    let Admitted::At(sent_at) = state.health.admit(backend, Tokens::ZERO, begun.time()) else {
        return Embedded {
            embedding: None,
            outcome: None,
            duration: Duration::ZERO,
        };
    };
    let mut verdict = Verdict {
        state,
        backend,
        sent_at,
        outcome: Outcome::NoVerdict,
    };
    let asked = ask(state, connector, schema, policy, text);
    let asked = tokio::time::timeout(TIMEOUT, asked).await;
    let asked = asked.unwrap_or(Err(Failure::Timeout));
    let (outcome, embedding) = match asked {
        Ok(answer) => {
            verdict.outcome = answer.verdict;
            (answer.outcome, answer.embedding)
        }
        Err(failure) => {
            verdict.outcome = Outcome::Failed(failure.reason());
            (failure.outcome(), None)
        }
    };
    if embedding.is_none() {
        let (policy, backend) = (&policy.name, &backend.name);
        tracing::warn!(%policy, %backend, outcome, "no embedding for the semantic cache");
    }
    Embedded {
        embedding,
        outcome: Some(outcome),
        duration: clock::now().since(begun),
    }
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
    embedding: Option<Embedding>,
}

async fn ask(
    state: &State,
    connector: &Connector,
    schema: Schema,
    policy: &SemanticCache,
    text: &str,
) -> Result<Answer, Failure> {
    let backend = &policy.embeddings;
    let model = policy.embeddings_model();
    let (head, outgoing) =
        forward::embeddings(backend, schema, (model, text)).map_err(|error| {
            tracing::error!(error = %Fault(&error), "an embeddings call couldn't be made");
            Failure::Connect
        })?;
    let mut reached = reach(state, connector, backend, (head, &outgoing)).await?;
    let answer = reached.upstream.response_header().ok_or(Failure::Reset)?;
    let status = answer.status;
    let verdict = respond::judged(answer, &backend.auth, clock::unix_time());
    let headers = HeaderView(&answer.headers);
    state.health.heard(backend, &headers, clock::now().time());
    if verdict == Outcome::CredentialRefused {
        let status = status.as_u16();
        tracing::error!(backend = %backend.name, status, "the backend refused our credential");
    }
    let embedding = match respond::is_success(status.as_u16()) {
        true => {
            let body = read(&mut reached).await?;
            body.and_then(|body| embedding::read(&body))
        }
        false => None,
    };
    // Reads out what a refusal still says, so that its connection can be used again.
    reached.discard(connector).await;
    Ok(Answer {
        verdict,
        outcome: respond::outcome(status),
        embedding,
    })
}

/// Asks once more over a new connection where a pooled one was stale.
async fn reach(
    state: &State,
    connector: &Connector,
    backend: &Backend,
    (head, outgoing): (RequestHeader, &Outgoing),
) -> Result<Reached, Failure> {
    let peers = &state.peers;
    let again = (head.clone(), outgoing);
    match attempt::attempt(connector, peers, backend, (head, outgoing), false).await {
        Err(Missed::Stale) => attempt::attempt(connector, peers, backend, again, true).await,
        reached => reached,
    }
    .map_err(Missed::failure)
}

/// The answer's body, if it isn't larger than any embedding is.
async fn read(reached: &mut Reached) -> Result<Option<BytesMut>, Failure> {
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
        if body.len() > ANSWER_MAX_BYTES {
            return Ok(None);
        }
    }
}
