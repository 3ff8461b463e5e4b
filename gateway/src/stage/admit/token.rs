//! Callers that show a token, in place of a key or beside one.
//!
//! A key that is known is a key, whatever it looks like; what else has a token's form is one. Whoever shows a token shows
//! a good one: it isn't passed over in favour of a key. Only where an API needs no subscription is a bad one nothing.

use std::sync::Arc;

use filters::auth;
use filters::expression::Expression;
use filters::refusal::Refusal;
use filters::token::{self, Claims, Problem};
use http::{HeaderMap, header};

use super::{Head, has_api};
use crate::config::plan::jwt::Jwt;
use crate::config::plan::{Plan, Subscription, SubscriptionState};
use crate::context::Caller;
use crate::scope::{Asked, Public, scope};
use crate::state::State;
use crate::upstream::headers::HeaderView;

/// What a caller's `Authorization` was found to be.
#[derive(Debug)]
pub enum Token {
    /// A key, or nothing.
    None,
    /// A good token.
    Good(Arc<Claims>),
    /// A token that isn't good, or of which nobody can tell.
    Bad(Refusal),
}

impl Token {
    /// Checks what is shown. Waits only where the issuer's keys are being fetched.
    pub async fn checked(state: &State, shown: Option<&str>) -> Token {
        match shown {
            None => Token::None,
            Some(text) => match state.issuers.check(text).await {
                Ok(claims) => Token::Good(claims),
                Err(refusal) => Token::Bad(refusal),
            },
        }
    }
}

/// What follows `Bearer`, if it has a token's form and isn't a key that is known. Nothing where no token is ever taken,
/// or the path is nobody's.
pub fn shown<'h>(plan: &Plan, path: &str, headers: &'h HeaderMap) -> Option<&'h str> {
    plan.jwt.as_ref()?;
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let bearer = auth::bearer(value.trim_ascii())?;
    if !token::is_token(bearer) || plan.keys.find(bearer).is_some() {
        return None;
    }
    plan.paths.find(path)?;
    std::str::from_utf8(bearer).ok()
}

/// The subscription where callers may show a token: a key's, if there is one beside it, else the one that the token
/// stands for.
pub(super) fn subscription(
    plan: &Plan,
    jwt: &Jwt,
    (head, token): (Head<'_, '_>, Token),
    caller: &mut Caller,
) -> Result<Option<Arc<Subscription>>, Refusal> {
    let view = HeaderView(head.headers);
    let query = head.uri.query().unwrap_or("");
    let is_needed = caller.api.subscription_required;
    match token {
        Token::None => {
            let key = auth::presented(&view, query);
            let found = super::subscription(plan, &caller.api, key)?;
            return match is_needed && jwt.subscription.is_none() {
                true => Err(Refusal::MissingToken),
                false => Ok(found),
            };
        }
        Token::Bad(refusal) if is_needed => return Err(refusal),
        Token::Bad(_) => {}
        Token::Good(claims) => caller.claims = Some(claims),
    }
    let key = auth::presented_beside_token(&view, query);
    match (key, &jwt.subscription) {
        (None, Some(expression)) if caller.claims.is_some() => {
            let found = stands_for(plan, (jwt, expression), head, caller);
            match found.is_none() && is_needed {
                true => Err(Refusal::InvalidToken {
                    problem: Problem::NoSubscription,
                }),
                false => Ok(found),
            }
        }
        (key, Some(_) | None) => super::subscription(plan, &caller.api, key),
    }
}

/// The active subscription that a token stands for, if it has the API.
fn stands_for(
    plan: &Plan,
    (jwt, expression): (&Jwt, &Expression),
    head: Head<'_, '_>,
    caller: &Caller,
) -> Option<Arc<Subscription>> {
    let public = Public::of_parts(head.method, head.uri, head.headers);
    let asked = Asked {
        model: "",
        stream: false,
        user: "",
    };
    let scope = scope(&plan.gateway, &public, caller, asked, (None, None));
    let name = expression.text(&scope).ok()?;
    let place = jwt.subscriptions.get(name.as_ref())?;
    let found = plan.subscriptions.get(*place)?;
    let is_active = found.state == SubscriptionState::Active;
    (is_active && has_api(found, &caller.api)).then(|| found.clone())
}
