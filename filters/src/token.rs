//! Whether a caller's token (a JSON Web Token) is good, and what it claims.
//!
//! Only signatures by public keys are known: `none` and every algorithm with a shared secret are refused before a key is
//! looked for, so a public key can't be taken for a secret. The algorithm must suit the key's kind, and be the one that
//! the key names, if it names one. Nothing in a token's head says where a key is to be had. A token without an end isn't
//! taken. Clocks may differ by a minute, not more. It never fetches a key and never asks for the time.

pub mod keys;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::time::UnixTime;
use keys::{Algorithm, Key, KeySet};

/// What a token must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whose; `None`: whoever has the keys.
    pub issuer: Option<String>,
    /// For whom: one of these.
    pub audiences: Vec<String>,
    /// Claims, and what each must hold: all of it.
    pub required: Vec<(String, Vec<String>)>,
}

/// What a good token claims.
pub struct Claims {
    value: Value,
    expires_at: UnixTime,
}

/// Why a token isn't good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// It isn't a token, or one without an end.
    Malformed,
    /// Its algorithm isn't one of those that are taken, or not its key's.
    Algorithm,
    /// No key has its id.
    UnknownKey,
    /// It was changed, or signed by somebody else.
    Signature,
    /// Its time is over.
    Expired,
    /// Its time hasn't come.
    NotYetValid,
    /// It is another issuer's.
    Issuer,
    /// It is meant for another.
    Audience,
    /// A claim that is required isn't there, or holds something else.
    Claim,
    /// It is good, and stands for no active subscription.
    NoSubscription,
}

/// Whether what follows `Bearer` has the form of a token: a head in base64 and at least two dots. A key has neither.
pub fn is_token(bearer: &[u8]) -> bool {
    bearer.starts_with(b"ey") && bearer.iter().filter(|byte| **byte == b'.').count() >= 2
}

/// What a token claims, if it is good.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(text: &str, keys: &KeySet, rule: &Rule, now: UnixTime) -> Result<Claims, Problem> {
    let parts = Parts::read(text)?;
    let key_is_tried = |key: &&Key| key.suits(parts.algorithm);
    let candidates = keys.named(parts.key_id.as_deref());
    if candidates.is_empty() {
        return Err(Problem::UnknownKey);
    }
    let mut suited = candidates.into_iter().filter(key_is_tried).peekable();
    if suited.peek().is_none() {
        return Err(Problem::Algorithm);
    }
    let signed = suited
        .take(KEYS_TRIED)
        .any(|key| key.verifies(parts.algorithm, parts.signed.as_bytes(), &parts.signature));
    if !signed {
        return Err(Problem::Signature);
    }
    let claims = Claims::read(parts.claims)?;
    claims.judge(rule, now)?;
    Ok(claims)
}

impl Claims {
    fn read(text: &str) -> Result<Self, Problem> {
        let value = Value::Object(object(text)?);
        let expires_at = moment(value.get("exp")).ok_or(Problem::Malformed)?;
        Ok(Self { value, expires_at })
    }

    fn judge(&self, rule: &Rule, now: UnixTime) -> Result<(), Problem> {
        if !self.is_current(now) {
            return Err(Problem::Expired);
        }
        if let Some(value) = self.value.get("nbf") {
            let from = moment(Some(value)).ok_or(Problem::Malformed)?;
            if from.as_seconds() > now.as_seconds().saturating_add(SKEW_S) {
                return Err(Problem::NotYetValid);
            }
        }
        if let Some(issuer) = &rule.issuer
            && self.text("iss").map(bare) != Some(bare(issuer))
        {
            return Err(Problem::Issuer);
        }
        let is_meant = |audience: &String| holds(self.value.get("aud"), "aud", audience);
        if !rule.audiences.iter().any(is_meant) {
            return Err(Problem::Audience);
        }
        let is_there = |(name, wanted): &(String, Vec<String>)| {
            let claim = self.value.get(name);
            claim.is_some() && wanted.iter().all(|wanted| holds(claim, name, wanted))
        };
        match rule.required.iter().all(is_there) {
            true => Ok(()),
            false => Err(Problem::Claim),
        }
    }

    /// All of them, as an object.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether the token's time isn't over.
    pub fn is_current(&self, now: UnixTime) -> bool {
        now.as_seconds() < self.expires_at.as_seconds().saturating_add(SKEW_S)
    }

    /// The end user: `oid`, else `sub`.
    pub fn user(&self) -> Option<&str> {
        self.text("oid").or_else(|| self.text("sub"))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.value.get(name)?.as_str()
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Claims(..)")
    }
}

impl Problem {
    /// What the caller reads.
    pub fn message(self) -> &'static str {
        match self {
            Self::Malformed => "it isn't a signed JSON Web Token that ends at some time",
            Self::Algorithm => "its algorithm isn't one that is taken for its key",
            Self::UnknownKey => "its key isn't known",
            Self::Signature => "its signature is wrong",
            Self::Expired => "it has expired",
            Self::NotYetValid => "it isn't valid yet",
            Self::Issuer => "its issuer is another",
            Self::Audience => "it is meant for another audience",
            Self::Claim => "a claim that is required isn't there",
            Self::NoSubscription => "it stands for no active subscription",
        }
    }
}

/// A token taken apart; its signature isn't looked at yet.
struct Parts<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: &'a str,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Result<Self, Problem> {
        if text.len() > TOKEN_MAX_BYTES {
            return Err(Problem::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Problem::Malformed)?;
        let (head, claims) = signed.split_once('.').ok_or(Problem::Malformed)?;
        if claims.contains('.') {
            return Err(Problem::Malformed);
        }
        let head = object(head)?;
        let named = head.get("alg").and_then(Value::as_str);
        let algorithm = named.and_then(Algorithm::named).ok_or(Problem::Algorithm)?;
        // An extension that must be understood, and isn't.
        if head.contains_key("crit") {
            return Err(Problem::Malformed);
        }
        let key_id = match head.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(Problem::Malformed),
        };
        let signature = URL_SAFE_NO_PAD.decode(signature);
        Ok(Self {
            algorithm,
            key_id,
            claims,
            signed,
            signature: signature.map_err(|_| Problem::Malformed)?,
        })
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(part);
    let bytes = bytes.map_err(|_| Problem::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Problem::Malformed)
}

/// Seconds since 1970; fractions are cut off.
fn moment(value: Option<&Value>) -> Option<UnixTime> {
    let value = value?;
    let seconds = match value.as_u64() {
        Some(seconds) => seconds,
        None => value.as_f64().filter(|seconds| *seconds >= 0.0)? as u64,
    };
    Some(UnixTime::from_seconds(seconds))
}

/// Whether a claim is this text, has it in its list, or, where it is a list of scopes, among its words.
fn holds(claim: Option<&Value>, name: &str, wanted: &str) -> bool {
    let is_scope = name == "scp" || name == "scope";
    match claim {
        Some(Value::String(text)) => {
            text == wanted || (is_scope && text.split(' ').any(|word| word == wanted))
        }
        Some(Value::Array(values)) => values.iter().any(|value| value.as_str() == Some(wanted)),
        Some(Value::Bool(truth)) => truth.to_string() == wanted,
        Some(Value::Number(number)) => number.to_string() == wanted,
        Some(Value::Null | Value::Object(_)) | None => false,
    }
}

/// Issuers are written with a slash at the end, and without.
fn bare(issuer: &str) -> &str {
    issuer.trim_end_matches('/')
}

/// Clocks may differ by this. Seconds.
const SKEW_S: u64 = 60;
/// Tokens with many groups come near a half of it. Bytes.
const TOKEN_MAX_BYTES: usize = 16 << 10;
/// Keys of one id, or without one, that are tried.
const KEYS_TRIED: usize = 8;
