//! One attempt up to the answer's head: the request is made and sent, while the caller is watched, and the process' end.

use std::sync::Arc;

use filters::route::Shape;
use http::HeaderValue;
use pingora::http::RequestHeader;

use super::{Attempts, Unreached};
use crate::affinity;
use crate::config::plan::Backend;
use crate::exchange::Understood;
use crate::exchange::attempt::{self, Reached};
use crate::stage::forward::{self, Outgoing, Reading};
use crate::stage::respond::Failure;
use crate::upstream::fault::Fault;

impl Attempts<'_, '_> {
    /// Sends the request to a backend, while watching that the caller stays.
    pub(super) async fn reach(
        &mut self,
        backend: &Arc<Backend>,
    ) -> Result<(Reached, Outgoing), Unreached> {
        let Understood { caller, call, .. } = &*self.understood;
        let outgoing = forward::outgoing(
            call,
            &self.understood.admitted,
            &caller.api,
            backend,
            (&self.understood.body.bytes, self.understood.facts.as_ref()),
        );
        let token = self.exchange.state.identities.bearer(backend);
        let token = tokio::select! {
            biased;
            token = token => token.map_err(|_| Unreached::NoToken)?,
            _ = self.exchange.session.leaves() => return Err(Unreached::Gone),
            () = self.exchange.state.stop.cut() => return Err(Unreached::Stopped),
        };
        let head = self.head(backend, &outgoing, token.as_ref());
        let head = head.map_err(|error| {
            tracing::error!(error = %Fault(&error), "a request's head couldn't be made");
            Unreached::Failed(Failure::Connect)
        })?;
        let mut fresh = false;
        loop {
            let connector = self.exchange.connector;
            let peers = &self.exchange.state.peers;
            let reached = tokio::select! {
                biased;
                reached = attempt::attempt(connector, peers, backend, (&head, &outgoing), fresh) => reached,
                _ = self.exchange.session.leaves() => return Err(Unreached::Gone),
                () = self.exchange.state.stop.cut() => return Err(Unreached::Stopped),
            };
            match reached {
                Ok(reached) => return Ok((reached, outgoing)),
                Err(attempt::Missed::Stale) => fresh = true,
                Err(attempt::Missed::Failed(failure)) => return Err(Unreached::Failed(failure)),
            }
        }
    }

    fn head(
        &self,
        backend: &Backend,
        outgoing: &Outgoing,
        token: Option<&HeaderValue>,
    ) -> pingora::Result<RequestHeader> {
        let request = self.exchange.session.request();
        let reading = match self.understood.caller.shape {
            Shape::Other if affinity::makes(&self.understood.call) => Reading::Understood,
            Shape::Other => Reading::Untouched,
            Shape::Chat | Shape::Completions | Shape::Embeddings | Shape::Responses => {
                Reading::Understood
            }
        };
        let framing = forward::Framing::of(&request.method, outgoing.length_bytes);
        let to = (self.understood.caller.api.as_ref(), backend);
        let mut head = forward::head(request, to, &outgoing.target, framing, reading)?;
        forward::bearer(&mut head, token)?;
        if let Some(trace) = &self.exchange.arrival.trace {
            trace.pass_on(&mut head);
        }
        Ok(head)
    }
}
