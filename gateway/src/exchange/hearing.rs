//! Which calls the message log is told of, and what it is told. Nothing is kept of any other.

use std::sync::Arc;

use bytes::Bytes;

use super::Exchange;
use super::Understood;
use super::relay::Relayed;
use crate::context::{Answered, Heard};
use crate::scope::{Asked, Public, scope};

impl Understood<'_> {
    /// What was asked and answered, where the configuration wants it written down.
    pub(super) fn hear(
        &self,
        exchange: &Exchange<'_>,
        answer: impl FnOnce() -> Answered,
    ) -> Option<Arc<Heard>> {
        let plan = &exchange.arrival.plan;
        let log = plan.message_log.as_ref()?;
        let public = Public::of(exchange.session.request());
        let asked = Asked {
            model: &self.admitted.model,
            stream: self.admitted.stream,
            user: &self.admitted.user,
        };
        let scope = scope(&plan.gateway, &public, &self.caller, asked, (None, None));
        match log.when.truth(&scope) {
            Ok(true) => Some(Arc::new(Heard {
                request: self.body.bytes.clone(),
                answer: answer(),
            })),
            Ok(false) => None,
            Err(_) => {
                tracing::error!("message-log.when failed for a call, which isn't written down");
                None
            }
        }
    }
}

impl Relayed {
    /// What was answered: the body, or the texts of the events.
    pub(super) fn answered(&self) -> Answered {
        match (&self.body, &self.meter) {
            (Some(body), _) => Answered::Whole(Bytes::clone(body)),
            (None, Some(meter)) => Answered::Streamed(meter.texts().map(str::to_owned).collect()),
            (None, None) => Answered::Nothing,
        }
    }
}
