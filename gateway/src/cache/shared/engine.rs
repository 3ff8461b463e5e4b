//! Whether a Redis has the query engine: for `tollgate check --connect`, and before `tollgate run` begins.

use std::fmt;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{CustomCommand, InfoKind};

use super::Failure;
use crate::config::plan::Plan;
use crate::config::plan::cache::Keeps;
use crate::store::redis::{Endpoint, connection};

/// What a Redis is to the semantic cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// It has the query engine.
    Ready {
        /// Of the server.
        version: String,
    },
    /// It hasn't.
    Missing {
        /// Of the server.
        version: String,
    },
    /// It is a node of a cluster, where the engine sees one node's keys only.
    Cluster,
    /// This user mustn't use it, in the server's words.
    Forbidden(String),
    /// It didn't answer.
    Unreachable(String),
}

impl Engine {
    /// Whether the semantic cache can live there, as far as that is known.
    pub fn is_refused(&self) -> bool {
        match self {
            Engine::Ready { .. } | Engine::Unreachable(_) => false,
            Engine::Missing { .. } | Engine::Cluster | Engine::Forbidden(_) => true,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Ready { version } => write!(formatter, "Redis {version} with the query engine"),
            Engine::Missing { version } => write!(
                formatter,
                "Redis {version} has no query engine; expected Redis 8, Redis Stack or Azure Managed Redis, or store = \"process\" in the semantic cache"
            ),
            Engine::Cluster => formatter.write_str(
                "this Redis is a node of a cluster, whose query engine sees the keys of one node only; expected one server (or Azure Managed Redis with the Enterprise cluster policy), or store = \"process\" in the semantic cache",
            ),
            Engine::Forbidden(why) => write!(
                formatter,
                "this Redis user mustn't use the query engine ({why}); expected an ACL with +ft.create +ft.search +ft._list and ~{{tollgate}}:*, or store = \"process\" in the semantic cache"
            ),
            Engine::Unreachable(why) => write!(formatter, "no answer from Redis: {why}"),
        }
    }
}

/// A start, a reload and a check wait so long for an answer.
pub const PROBE_WAIT: Duration = Duration::from_secs(2);

/// What the Redis of this plan is to the semantic cache; none if it has nothing to do with one.
pub async fn of(plan: &Plan) -> Option<Engine> {
    let redis = plan.redis.as_ref()?;
    let mut caches = plan.semantic_caches.iter();
    match caches.any(|policy| policy.keeps == Keeps::Redis) {
        true => Some(probe(&redis.into(), PROBE_WAIT).await),
        false => None,
    }
}

/// Asks, within that time.
pub async fn probe(endpoint: &Endpoint, wait: Duration) -> Engine {
    let client = match connection::connect(endpoint) {
        Ok(client) => client,
        Err(error) => return Engine::Unreachable(error.why().to_owned()),
    };
    let engine = match tokio::time::timeout(wait, ask(&client)).await {
        Ok(engine) => engine,
        Err(_) => Engine::Unreachable(format!("nothing within {wait:?}")),
    };
    // It may never have been connected.
    let _ = client.quit().await;
    engine
}

async fn ask(client: &Client) -> Engine {
    if let Err(error) = client.wait_for_connect().await {
        return Engine::Unreachable(error.details().to_owned());
    }
    let told = |kind| client.info::<String>(Some(kind));
    let server = told(InfoKind::Server).await.unwrap_or_default();
    let version = value(&server, "redis_version")
        .unwrap_or("(unknown)")
        .to_owned();
    let cluster = told(InfoKind::Cluster).await.unwrap_or_default();
    if value(&cluster, "cluster_enabled") == Some("1") {
        return Engine::Cluster;
    }
    let list = CustomCommand::new_static("FT._LIST", None, false);
    match client
        .custom::<fred::types::Value, String>(list, Vec::new())
        .await
    {
        Ok(_) => Engine::Ready { version },
        Err(error) if is_unknown_command(error.details()) => Engine::Missing { version },
        Err(error) if error.details().starts_with("NOPERM") => {
            Engine::Forbidden(error.details().to_owned())
        }
        Err(error) => Engine::Unreachable(error.details().to_owned()),
    }
}

/// A line of `INFO`.
fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| *key == name);
    values.next().map(|(_, value)| value.trim())
}

fn is_unknown_command(details: &str) -> bool {
    details.to_ascii_lowercase().contains("unknown command")
}

/// What the engine says of an index, in the words of Redis Stack, of Redis 8, and of later ones. None if it is anything
/// else.
pub(super) fn fault(details: &str) -> Option<Failure> {
    let details = details.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| details.contains(words));
    if says(&["no such index", "unknown index name", "index not found"]) {
        return Some(Failure::NoIndex);
    }
    says(&["index already exists"]).then_some(Failure::Exists)
}

/// Whether Redis answered that it won't: such answers begin with a word in capitals ("OOM", "READONLY", "NOPERM").
pub(super) fn is_refusal(details: &str) -> bool {
    let word = details.split(' ').next().unwrap_or_default();
    word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_their_words() {
        for words in [
            "tollgate:cache:v1:m-1:2: no such index",
            "No such index tollgate",
            "Unknown Index name",
            "SEARCH_INDEX_NOT_FOUND Index not found: tollgate",
        ] {
            assert_eq!(fault(words), Some(Failure::NoIndex), "{words}");
        }
        assert_eq!(fault("Index already exists"), Some(Failure::Exists));
        assert_eq!(fault("WRONGTYPE"), None);
        for words in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "WRONGTYPE Operation against a key",
            "READONLY You can't write",
        ] {
            assert!(is_refusal(words), "{words}");
        }
        for words in ["Timeout limit was reached", "IO Error: broken pipe", ""] {
            assert!(!is_refusal(words), "{words}");
        }
        assert!(is_unknown_command(
            "ERR unknown command 'FT._LIST', with args"
        ));
        assert_eq!(
            value("# Cluster\r\ncluster_enabled:1\r\n", "cluster_enabled"),
            Some("1")
        );
    }
}
