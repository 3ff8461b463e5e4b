//! One request as expressions see it: the same before the call and after it.
//!
//! Borrows everything. Never evaluates anything.

use filters::expression::{RequestScope, Scope, SubscriptionScope};
use filters::token::Claims;
use http::{HeaderMap, Method, Uri};
use pingora::http::RequestHeader;

use crate::config::plan::Gateway;
use crate::context::Caller;
use crate::upstream::headers::{PublicHeaders, public_query};

/// The parts of a head that hold no credential.
pub struct Public<'a> {
    method: &'a str,
    path: &'a str,
    headers: PublicHeaders<'a>,
    query: std::borrow::Cow<'a, str>,
}

impl<'a> Public<'a> {
    /// Of this head.
    pub fn of(head: &'a RequestHeader) -> Self {
        Public::of_parts(&head.method, &head.uri, &head.headers)
    }

    /// Of a head that has these.
    pub fn of_parts(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        Public {
            method: method.as_str(),
            path: uri.path(),
            headers: PublicHeaders(headers),
            query: public_query(uri.query().unwrap_or("")),
        }
    }
}

/// What the body asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Deployment or model; empty where none is named.
    pub model: &'a str,
    /// A stream.
    pub stream: bool,
    /// `user` of the body.
    pub user: &'a str,
}

/// What an expression may ask about. `backend` and `status` are there after the call.
pub fn scope<'a>(
    gateway: &'a Gateway,
    public: &'a Public<'a>,
    caller: &'a Caller,
    asked: Asked<'a>,
    (backend, status): (Option<&'a str>, Option<u16>),
) -> Scope<'a> {
    let subscription = caller.subscription.as_deref();
    let product = subscription.and_then(|subscription| subscription.product.as_ref());
    Scope {
        request: RequestScope {
            ip: caller.address,
            method: public.method,
            path: public.path,
            headers: &public.headers,
            query: &public.query,
            model: asked.model,
            stream: asked.stream,
            user: asked.user,
        },
        subscription: subscription.map(|subscription| SubscriptionScope {
            id: &subscription.name,
            attributes: &subscription.attributes,
        }),
        product: product.map(|product| product.name.as_ref()),
        api: &caller.api.name,
        operation: caller.operation,
        gateway_id: &gateway.id,
        gateway_location: &gateway.location,
        jwt: caller.claims.as_deref().map(Claims::value),
        backend,
        status,
    }
}
