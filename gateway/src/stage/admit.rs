//! Who calls what, and may they: API, key, operation, model, product, pool. In this order, from the head
//! alone as far as it goes, so that a stranger's body is never read.
//!
//! Never touches a backend, never waits.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use filters::auth;
use filters::pattern;
use filters::refusal::Refusal;
use filters::request::BodyFacts;
use filters::route::{self, Call, Shape};
use http::{HeaderMap, Method, Uri};

use crate::config::plan::{Api, Network, Plan, Pool, Subscription, SubscriptionState};
use crate::context::{Admitted, Caller};
use crate::state::Slots;
use crate::upstream::headers::HeaderView;
use token::Token;

pub mod token;

/// Retry-After of a refusal for too many concurrent requests. Seconds.
const CONCURRENCY_RETRY_S: u64 = 1;

/// What admission reads of a request's head.
#[derive(Debug, Clone, Copy)]
pub struct Head<'u, 'h> {
    /// The method.
    pub method: &'u Method,
    /// Path and query.
    pub uri: &'u Uri,
    /// The header fields.
    pub headers: &'h HeaderMap,
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
}

/// A refusal, and the API that it belongs to where one was found.
#[derive(Debug)]
pub struct Denied {
    /// Why.
    pub refusal: Refusal,
    /// Whose metrics it counts in.
    pub caller: Option<Caller>,
}

/// The API at the path, the key's subscription, and the operation.
///
/// # Errors
/// 404 no API or operation, 401, 503 when the subscription has too many requests open.
pub fn identify<'u>(
    plan: &Plan,
    slots: &Slots,
    head: Head<'u, '_>,
    token: Token,
) -> Result<(Caller, Call<'u>), Box<Denied>> {
    let path = head.uri.path();
    let Some((index, rest)) = plan.paths.find(path) else {
        return Err(Box::new(Denied {
            refusal: Refusal::NoApi,
            caller: None,
        }));
    };
    let api = plan.apis[index].clone();
    let mut caller = Caller {
        api,
        operation: "other",
        shape: Shape::Other,
        subscription: None,
        claims: None,
        slot: None,
        address: address(head.peer, head.headers, &plan.server.trusted_proxies),
    };
    match fill((plan, slots, token), head, rest, &mut caller) {
        Ok(call) => Ok((caller, call)),
        Err(refusal) => Err(Box::new(Denied {
            refusal,
            caller: Some(caller),
        })),
    }
}

fn fill<'u>(
    (plan, slots, token): (&Plan, &Slots, Token),
    head: Head<'u, '_>,
    rest: &'u str,
    caller: &mut Caller,
) -> Result<Call<'u>, Refusal> {
    let query = head.uri.query().unwrap_or("");
    caller.subscription = match &plan.jwt {
        Some(jwt) => token::subscription(plan, jwt, (head, token), caller)?,
        None => {
            let view = HeaderView(head.headers);
            subscription(plan, &caller.api, auth::presented(&view, query))?
        }
    };
    let call = route::read(caller.api.schema, head.method.as_str(), rest, query)
        .map_err(|_| Refusal::NoOperation)?;
    caller.operation = call.operation;
    caller.shape = call.shape;
    if let Some(operations) = &caller.api.operations {
        let name = operations.name(call.operation, call.method, rest);
        caller.operation = name.ok_or(Refusal::NoOperation)?;
    }
    if let Some(subscription) = &caller.subscription {
        let limit = plan.server.limits.max_concurrent_requests;
        caller.slot = slots.enter(&subscription.name, limit);
        if caller.slot.is_none() {
            return Err(Refusal::Overloaded {
                retry_after_s: CONCURRENCY_RETRY_S,
            });
        }
    }
    Ok(call)
}

/// An API outside of the subscription's product isn't there for it.
fn has_api(subscription: &Subscription, api: &Api) -> bool {
    let product = subscription.product.as_ref();
    let apis = product.and_then(|product| product.apis.as_ref());
    apis.is_none_or(|apis| apis.contains(&api.name))
}

/// The subscription of the presented key.
fn subscription(
    plan: &Plan,
    api: &Api,
    key: Option<Cow<'_, [u8]>>,
) -> Result<Option<Arc<Subscription>>, Refusal> {
    let Some(key) = key else {
        return match api.subscription_required {
            true => Err(Refusal::MissingKey),
            false => Ok(None),
        };
    };
    let Some(index) = plan.keys.find(&key) else {
        return match api.subscription_required {
            true => Err(Refusal::InvalidKey),
            false => Ok(None),
        };
    };
    let subscription = plan.subscriptions[index].clone();
    if subscription.state == SubscriptionState::Suspended {
        return Err(Refusal::SuspendedKey);
    }
    match has_api(&subscription, api) {
        true => Ok(Some(subscription)),
        false => Err(Refusal::InvalidKey),
    }
}

/// The model asked for, the pool that serves it, and whether this caller may use it.
///
/// # Errors
/// 403 model not in the product, 404 unknown model, 400 no model where the schema needs one.
pub fn admit(
    caller: &Caller,
    call: &Call<'_>,
    facts: Option<&BodyFacts>,
) -> Result<Admitted, Refusal> {
    let named = call.deployment.as_deref();
    let in_body = facts.and_then(|facts| facts.model.as_deref());
    let model = named.or(in_body.filter(|_| call.model_in_body));
    let (model, pool) = match model {
        Some(model) => (model, pool_of(caller, model)?),
        None if call.model_in_body && !call.model_optional => {
            return Err(Refusal::InvalidBody {
                message: "The request body names no model: add \"model\".".into(),
            });
        }
        None => ("", default_pool(&caller.api)?),
    };
    Ok(Admitted {
        model: model.to_owned(),
        pool,
        stream: facts.is_some_and(|facts| facts.stream),
        user: user(caller, facts),
    })
}

/// The end user: the token's, else who the body says.
fn user(caller: &Caller, facts: Option<&BodyFacts>) -> String {
    let claims = caller.claims.as_ref();
    let token = claims.and_then(|claims| claims.user());
    let body = facts.and_then(|facts| facts.user.as_deref());
    token.or(body).unwrap_or_default().to_owned()
}

fn pool_of(caller: &Caller, model: &str) -> Result<Arc<Pool>, Refusal> {
    let subscription = caller.subscription.as_ref();
    let product = subscription.and_then(|subscription| subscription.product.as_ref());
    let allowed = product.and_then(|product| product.models.as_ref());
    let pool = pattern::best(&caller.api.models, model);
    if pool.is_some()
        && let Some(allowed) = allowed
        && !allowed.iter().any(|pattern| pattern.matches(model))
    {
        return Err(Refusal::ModelNotAllowed {
            model: model.to_owned(),
        });
    }
    pool.cloned().ok_or_else(|| Refusal::UnknownModel {
        model: model.to_owned(),
    })
}

fn default_pool(api: &Api) -> Result<Arc<Pool>, Refusal> {
    api.default_pool.clone().ok_or(Refusal::NoOperation)
}

/// The caller's address: the connection's, or the last one in `X-Forwarded-For` that isn't itself a trusted proxy.
fn address(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let mut address = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in value.to_str().unwrap_or("").rsplit(',') {
            if !is_trusted(address) {
                return address;
            }
            let Ok(named) = hop.trim().parse() else {
                return address;
            };
            address = named;
        }
    }
    address
}

impl Network {
    /// Whether an address lies in this range. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.prefix_bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let difference = u32::from(network) ^ u32::from(address);
                difference.checked_shr(32 - bits.min(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let difference = u128::from(network) ^ u128::from(address);
                difference.checked_shr(128 - bits.min(128)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn network(address: &str, prefix_bits: u8) -> Network {
        Network {
            address: address.parse().unwrap(),
            prefix_bits,
        }
    }

    #[test]
    fn forwarded_addresses_are_believed_only_behind_trusted_proxies() {
        let trusted = [network("10.0.0.0", 8)];
        let mut headers = HeaderMap::new();
        headers.append(
            "x-forwarded-for",
            "6.6.6.6, 1.2.3.4, 10.1.1.1".parse().unwrap(),
        );
        let seen = |peer: &str, trusted: &[Network]| {
            address(Some(peer.parse().unwrap()), &headers, trusted).to_string()
        };
        assert_eq!(seen("10.0.0.7", &trusted), "1.2.3.4");
        assert_eq!(seen("9.9.9.9", &trusted), "9.9.9.9");
        assert_eq!(seen("10.0.0.7", &[]), "10.0.0.7");
    }

    #[test]
    fn a_network_holds_the_addresses_of_its_prefix() {
        assert!(network("10.0.0.0", 8).contains("10.255.0.1".parse().unwrap()));
        assert!(!network("10.0.0.0", 8).contains("11.0.0.1".parse().unwrap()));
        assert!(network("0.0.0.0", 0).contains("1.2.3.4".parse().unwrap()));
        assert!(network("fd00::", 8).contains("fd12::1".parse().unwrap()));
        assert!(network("10.0.0.1", 32).contains("10.0.0.1".parse().unwrap()));
        assert!(network("127.0.0.1", 32).contains("::ffff:127.0.0.1".parse().unwrap()));
    }
}
