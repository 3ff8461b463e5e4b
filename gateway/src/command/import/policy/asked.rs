//! What a policy document asks for, as far as this gateway knows it. Data only: `read` finds it, `print` shows it.

use super::super::cel::Variables;
use super::route::{Models, Retry};

/// All that a document asks for.
#[derive(Debug, Default)]
pub struct Policy {
    /// Token limits.
    pub limits: Vec<Element>,
    /// Token metrics.
    pub metrics: Vec<Element>,
    /// Semantic cache look-ups.
    pub caches: Vec<Element>,
    /// `duration` of the store, in seconds, as written.
    pub cache_duration: Option<String>,
    /// Where calls go: the backend's id or URL, and for which models.
    pub routes: Vec<(Target, Models)>,
    /// `retry` around the call.
    pub retry: Option<Retry>,
    /// The audience that a managed identity is asked for, and its client id.
    pub identity: Option<(String, Option<String>)>,
    /// `api-version` for the backends.
    pub api_version: Option<String>,
    /// Seconds to the first byte.
    pub timeout_s: Option<u64>,
    /// Tokens of callers.
    pub tokens: Option<Tokens>,
    /// What has no counterpart, in file order.
    pub remarks: Vec<Remark>,
}

/// Where calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The name of a backend or pool.
    Id(String),
    /// A URL.
    Url(String),
}

/// `validate-azure-ad-token` or `validate-jwt`.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Of the discovery.
    pub issuer: Option<String>,
    /// Whom they must be meant for.
    pub audiences: Vec<String>,
    /// Claim, values.
    pub claims: Vec<(String, Vec<String>)>,
    /// Names of those claims of which one value is enough there.
    pub any_of: Vec<String>,
}

/// A policy that becomes a table of its own.
#[derive(Debug)]
pub struct Element {
    /// Where it stands.
    pub at: Position,
    /// Name and value of each attribute, in order.
    pub attributes: Vec<(String, String)>,
    /// `dimension` or `vary-by`: name and value; no value where there is none.
    pub children: Vec<(String, Option<String>)>,
    /// When it holds, in CEL; why that can't be told.
    pub when: Result<Option<String>, String>,
    /// The variables as they are here.
    pub variables: Variables,
}

impl Element {
    /// An attribute's value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Line and column, from 1.
pub type Position = (u32, u32);

/// What has no counterpart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Where it stands.
    pub at: Position,
    /// What and why.
    pub said: String,
}
