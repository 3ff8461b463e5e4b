//! What an expression can see of one request, borrowed: nothing is copied to be looked at.
//!
//! One list of known names ([`Known`]) and one look-up serve both ways of evaluation, so a plain
//! look-up and the same name inside a larger expression can't disagree. What isn't there (no token,
//! no subscription) is absent, never an empty text: an expression that needs it fails and says so. A
//! subscription without a product is usual, so its product's name reads as empty; `has` tells.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::route::percent;

/// The headers of a request, however they are held. Names are lower case.
pub trait Headers: Sync {
    /// The first value of a header.
    fn value(&self, lower_case_name: &str) -> Option<&[u8]>;
    /// Every header, name and value.
    fn each<'h>(&'h self, visit: &mut dyn FnMut(&'h str, &'h [u8]));
}

impl Headers for &[(&str, &str)] {
    fn value(&self, lower_case_name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(name, _)| *name == lower_case_name)
            .map(|(_, value)| value.as_bytes())
    }

    fn each<'h>(&'h self, visit: &mut dyn FnMut(&'h str, &'h [u8])) {
        for (name, value) in *self {
            visit(name, value.as_bytes());
        }
    }
}

/// Everything an expression may ask about, for one request at one moment.
pub struct Scope<'a> {
    /// `request`.
    pub request: RequestScope<'a>,
    /// `subscription`: absent where the API needs none.
    pub subscription: Option<SubscriptionScope<'a>>,
    /// `product.id`: reads as empty where it is absent.
    pub product: Option<&'a str>,
    /// `api.id`.
    pub api: &'a str,
    /// `operation.id`.
    pub operation: &'a str,
    /// `gateway.id`.
    pub gateway_id: &'a str,
    /// `gateway.location`.
    pub gateway_location: &'a str,
    /// `jwt`: the claims of a token that was checked.
    pub jwt: Option<&'a serde_json::Value>,
    /// `backend.id`: the one that answered.
    pub backend: Option<&'a str>,
    /// `response.status`: what the caller gets.
    pub status: Option<u16>,
}

/// The request, as the caller sent it.
#[derive(Clone, Copy)]
pub struct RequestScope<'a> {
    /// `request.ip`.
    pub ip: IpAddr,
    /// `request.method`.
    pub method: &'a str,
    /// `request.path`: without the query.
    pub path: &'a str,
    /// `request.headers`.
    pub headers: &'a dyn Headers,
    /// `request.query`: without the `?`.
    pub query: &'a str,
    /// `request.model`: the deployment or model asked for; empty where none is.
    pub model: &'a str,
    /// `request.stream`.
    pub stream: bool,
    /// The end user, for the dimension `user_id`; empty where unknown.
    pub user: &'a str,
}

/// The subscription that calls.
#[derive(Clone, Copy)]
pub struct SubscriptionScope<'a> {
    /// `subscription.id`.
    pub id: &'a str,
    /// `subscription.attributes`.
    pub attributes: &'a BTreeMap<String, String>,
}

/// Every name that an expression may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    RequestIp,
    RequestMethod,
    RequestPath,
    RequestHeaders,
    RequestQuery,
    RequestModel,
    RequestStream,
    SubscriptionId,
    SubscriptionAttributes,
    ProductId,
    ApiId,
    OperationId,
    GatewayId,
    GatewayLocation,
    BackendId,
    ResponseStatus,
    Jwt,
}

/// What stands behind a name.
#[derive(Clone)]
pub(crate) enum Found<'a> {
    Text(Cow<'a, str>),
    Truth(bool),
    Number(u64),
    Map(Map<'a>),
    Claim(&'a serde_json::Value),
}

/// Something that is asked by key.
#[derive(Clone, Copy)]
pub(crate) enum Map<'a> {
    Headers(&'a dyn Headers),
    Query(&'a str),
    Attributes(&'a BTreeMap<String, String>),
    Claims(&'a serde_json::Map<String, serde_json::Value>),
}

impl<'a> Scope<'a> {
    /// What stands behind `name`, or `None` if this request has nothing there.
    pub(crate) fn find(&self, name: Known) -> Option<Found<'a>> {
        let borrowed = |text: &'a str| Found::Text(Cow::Borrowed(text));
        let request = &self.request;
        Some(match name {
            Known::RequestIp => Found::Text(Cow::Owned(request.ip.to_string())),
            Known::RequestMethod => borrowed(request.method),
            Known::RequestPath => borrowed(request.path),
            Known::RequestHeaders => Found::Map(Map::Headers(request.headers)),
            Known::RequestQuery => Found::Map(Map::Query(request.query)),
            Known::RequestModel => borrowed(request.model),
            Known::RequestStream => Found::Truth(request.stream),
            Known::SubscriptionId => borrowed(self.subscription?.id),
            Known::SubscriptionAttributes => {
                Found::Map(Map::Attributes(self.subscription?.attributes))
            }
            Known::ProductId => borrowed(self.product?),
            Known::ApiId => borrowed(self.api),
            Known::OperationId => borrowed(self.operation),
            Known::GatewayId => borrowed(self.gateway_id),
            Known::GatewayLocation => borrowed(self.gateway_location),
            Known::BackendId => borrowed(self.backend?),
            Known::ResponseStatus => Found::Number(u64::from(self.status?)),
            Known::Jwt => Found::Map(Map::Claims(self.jwt?.as_object()?)),
        })
    }
}

impl Known {
    /// What stands for a name behind which there is nothing.
    pub(crate) fn otherwise<'a>(self) -> Option<Found<'a>> {
        (self == Known::ProductId).then_some(Found::Text(Cow::Borrowed("")))
    }
}

impl<'a> Map<'a> {
    /// The value at `key`. A query's first parameter of that name counts, percent-decoded.
    pub(crate) fn find(self, key: &str) -> Option<Found<'a>> {
        match self {
            Self::Headers(headers) => headers
                .value(key)
                .map(|value| Found::Text(String::from_utf8_lossy(value))),
            Self::Query(query) => percent::parameters(query)
                .find(|(_, name, _)| percent::decode_lossy(name) == key)
                .map(|(_, _, value)| Found::Text(percent::decode_lossy(value))),
            Self::Attributes(attributes) => attributes
                .get(key)
                .map(|value| Found::Text(Cow::Borrowed(value.as_str()))),
            Self::Claims(claims) => claims.get(key).map(Found::Claim),
        }
    }
}

impl<'a> Found<'a> {
    /// The value as text, if it is a single one.
    pub(crate) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Truth(truth) => Some(Cow::Borrowed(if truth { "true" } else { "false" })),
            Self::Number(number) => Some(Cow::Owned(number.to_string())),
            Self::Claim(serde_json::Value::String(text)) => Some(Cow::Borrowed(text)),
            Self::Claim(serde_json::Value::Number(number)) => Some(Cow::Owned(number.to_string())),
            Self::Claim(serde_json::Value::Bool(truth)) => Self::Truth(*truth).into_text(),
            Self::Claim(
                serde_json::Value::Null
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_),
            )
            | Self::Map(_) => None,
        }
    }
}
