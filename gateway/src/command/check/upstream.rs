//! Pools and backends in words: who is called when, and what follows where that fails.
//!
//! The words are those of the configuration, so that a line of the summary is found again in the file.

use std::collections::BTreeMap;

use filters::breaker::{Condition, Rule};
use filters::retry;

use crate::config::file::units::write_duration;
use crate::config::plan::identity::Identity;
use crate::config::plan::{Auth, Backend, Pool};

/// One line for a pool and one for each of its priorities, then what follows a failed attempt.
pub(super) fn pool_lines(pool: &Pool) -> Vec<String> {
    let affinity = pool.session_affinity.iter();
    let affinity =
        affinity.map(|affinity| format!(", session affinity by cookie {}", affinity.cookie));
    let members = number(pool.members.len(), "member");
    let head = format!("{}: {members}{}", pool.name, affinity.collect::<String>());
    let mut levels: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for member in &pool.members {
        let shown = format!("{} (weight {})", member.backend.name, member.weight);
        levels.entry(member.priority).or_default().push(shown);
    }
    let level = |(priority, members): (u32, Vec<String>)| {
        format!("priority {priority}: {}", members.join(", "))
    };
    let levels = levels.into_iter().map(level);
    let lines = std::iter::once(head).chain(levels);
    lines.chain([retry_line(&pool.retry)]).collect()
}

/// One line for a backend, and one for its circuit breaker.
pub(super) fn backend_lines(backend: &Backend) -> Vec<String> {
    let breaker = backend.breaker.as_ref();
    let breaker = breaker.map_or("no circuit breaker".to_owned(), breaker_line);
    vec![backend_line(backend), breaker]
}

fn retry_line(rule: &retry::Rule) -> String {
    if rule.count == 0 {
        return "no retry".to_owned();
    }
    let retries = match rule.count {
        1 => "1 retry".to_owned(),
        count => format!("{count} retries"),
    };
    format!("at most {retries}, after {} or no answer", rule.statuses)
}

fn breaker_line(rule: &Rule) -> String {
    let interval = write_duration(rule.interval());
    let when = match rule.condition() {
        Condition::Count(count) => {
            let failures = number(count as usize, "failure");
            format!("{failures} within {interval}")
        }
        Condition::Percentage {
            percentage,
            minimum_requests,
        } => format!(
            "failures of {percentage}% within {interval}, from {} on",
            number(minimum_requests as usize, "call")
        ),
    };
    let failures = rule.failures();
    let mut reasons = vec![failures.statuses.to_string()];
    reasons.extend(failures.reasons.iter().map(|reason| reason.label().into()));
    let wait = rule.max_wait().map(write_duration);
    let wait = wait.map_or(String::new(), |most| {
        format!(" or as long as it asks, up to {most}")
    });
    let trip = write_duration(rule.trip());
    let reasons = reasons.join(", ");
    format!("circuit breaker: opens after {when} ({reasons}), for {trip}{wait}")
}

fn backend_line(backend: &Backend) -> String {
    let url = &backend.url;
    let scheme = if url.tls { "https" } else { "http" };
    let auth = match &backend.auth {
        Auth::None => "no credential".to_owned(),
        Auth::ApiKey(_) => "API key".to_owned(),
        Auth::Bearer(_) => "bearer token".to_owned(),
        Auth::ManagedIdentity(identity) => identity_words(identity),
    };
    let schema = backend
        .schema
        .map_or("schema of the API", |schema| schema.as_str());
    let deployment = backend
        .deployment
        .iter()
        .map(|name| format!(", deployment {name}"));
    let deployment: String = deployment.collect();
    format!(
        "{}: {scheme}://{}{}, {schema}{deployment}, {auth}",
        backend.name, url.authority, url.base_path
    )
}

fn identity_words(identity: &Identity) -> String {
    let client = identity.source.client_id();
    let client = client.map_or(String::new(), |id| format!(", client {id}"));
    let (label, resource) = (identity.source.label(), &identity.resource);
    format!("managed identity ({label}{client}) for {resource}")
}

fn number(count: usize, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{end}")
}
