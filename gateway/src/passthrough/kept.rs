//! A call that outlives the head it was read from: it may go to another backend later, where its path looks different.
//!
//! Never reads a path; `filters::route` did.

use std::borrow::Cow;

use filters::route::{Call, Form, Shape};
use http::{Method, header};

use crate::body;
use crate::config::plan::Server;
use crate::downstream::Downstream;

/// A call, and how its caller came, beyond the request's head.
#[derive(Debug)]
pub struct Kept {
    method: Method,
    operation: &'static str,
    form: Form,
    deployment: Option<String>,
    tail: String,
    query: String,
    model_in_body: bool,
    model_optional: bool,
    /// It asks for a WebSocket.
    pub is_upgrade: bool,
    /// It came by TLS.
    pub is_secure: bool,
}

impl Kept {
    /// Keeps what the call borrows from its head.
    pub fn of(call: &Call<'_>, session: &Downstream<'_>) -> Self {
        Kept {
            method: session.request().method.clone(),
            operation: call.operation,
            form: call.form,
            deployment: call.deployment.as_deref().map(str::to_owned),
            tail: call.tail.to_owned(),
            query: call.query.to_owned(),
            model_in_body: call.model_in_body,
            model_optional: call.model_optional,
            is_upgrade: is_websocket(session),
            is_secure: session.is_secure(),
        }
    }

    /// The call, as it was read.
    pub fn call(&self) -> Call<'_> {
        Call {
            method: self.method.as_str(),
            operation: self.operation,
            shape: Shape::Other,
            form: self.form,
            deployment: self.deployment.as_deref().map(Cow::Borrowed),
            tail: &self.tail,
            query: &self.query,
            model_in_body: self.model_in_body,
            model_optional: self.model_optional,
        }
    }
}

/// Whether the caller asks for a WebSocket. Any other `Upgrade`, such as to HTTP/2, is an offer that a server
/// may ignore: a call with it is understood and metered like every other.
pub fn is_websocket(session: &Downstream<'_>) -> bool {
    let head = session.request();
    let asks = head
        .headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    session.is_upgrade() && head.method == Method::GET && asks
}

/// Whether a request may have to be carried, as far as its head tells.
pub fn may_be_carried(session: &Downstream<'_>, server: &Server) -> bool {
    is_websocket(session) || is_large(session, server)
}

/// Whether the body that is announced is larger than what is held.
pub fn is_large(session: &Downstream<'_>, server: &Server) -> bool {
    let stated = body::stated_length_bytes(session);
    stated.is_some_and(|length| length > server.max_request_body_bytes)
}
