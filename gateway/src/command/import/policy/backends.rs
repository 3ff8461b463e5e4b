//! Where calls go: the policy's routes, with the backends and pools of the template behind them.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::super::arm::{Backend, Backends, Breaker, Pool};
use super::super::endpoint;
use super::super::toml_text::{array, comment, key, text};
use super::asked::{Position, Remark, Target};
use super::print::File;
use super::route::Models;

/// The lines of `models`, and the tables of pools and backends.
#[derive(Debug, Default)]
pub struct Upstream {
    /// Model pattern, pool.
    pub models: Vec<(String, String)>,
    /// The tables.
    pub text: String,
    /// What couldn't be taken over.
    pub remarks: Vec<Remark>,
}

const NOWHERE: Position = (0, 0);

/// Works out pools and backends.
pub fn upstream(file: &File<'_>) -> Upstream {
    let mut upstream = Upstream::default();
    let mut builder = Builder {
        file,
        urls: Vec::new(),
        backends: BTreeSet::new(),
        pools: BTreeSet::new(),
    };
    let mut routes = file.policy.routes.clone();
    if routes.is_empty() {
        routes.extend(default_route(file));
    }
    for (target, models) in &routes {
        let pool = builder.pool(target, &mut upstream);
        match models {
            Models::Every => push_model(&mut upstream.models, "*", &pool),
            Models::These(names) => names
                .iter()
                .for_each(|name| push_model(&mut upstream.models, name, &pool)),
        }
    }
    if upstream.models.is_empty() {
        let first = builder.pools.first().cloned().unwrap_or_default();
        push_model(&mut upstream.models, "*", &first);
    }
    for cache in &file.policy.caches {
        if let Some(id) = cache.attribute("embeddings-backend-id") {
            builder.backend(id, &mut upstream);
        }
    }
    upstream
        .remarks
        .extend(file.found.remarks.iter().map(|said| Remark {
            at: NOWHERE,
            said: said.clone(),
        }));
    upstream
}

/// Without `set-backend-service`: the only pool, or the only backend, or one that is to be filled in.
fn default_route(file: &File<'_>) -> Option<(Target, Models)> {
    let Backends {
        pools, backends, ..
    } = file.found;
    let name = match (pools.as_slice(), backends.as_slice()) {
        ([pool], _) => &pool.name,
        ([], [backend]) => &backend.name,
        (_, _) => &file.arguments.name,
    };
    Some((Target::Id(name.clone()), Models::Every))
}

fn push_model(models: &mut Vec<(String, String)>, name: &str, pool: &str) {
    if !models.iter().any(|(known, _)| known == name) {
        models.push((name.to_owned(), pool.to_owned()));
    }
}

struct Builder<'f> {
    file: &'f File<'f>,
    /// URLs that became backends.
    urls: Vec<String>,
    backends: BTreeSet<String>,
    pools: BTreeSet<String>,
}

impl Builder<'_> {
    /// The pool of a target; printed where it isn't yet.
    fn pool(&mut self, target: &Target, upstream: &mut Upstream) -> String {
        let name = match target {
            Target::Id(id) => id.clone(),
            Target::Url(url) => {
                let at = self
                    .urls
                    .iter()
                    .position(|known| known == url)
                    .unwrap_or(self.urls.len());
                if at == self.urls.len() {
                    self.urls.push(url.clone());
                }
                format!("{}-{}", self.file.arguments.name, at + 1)
            }
        };
        if !self.pools.insert(name.clone()) {
            return name;
        }
        let found = self.file.found.pools.iter().find(|pool| pool.name == name);
        let members: Vec<(String, u64, u64)> = match found {
            Some(pool) => pool.members.clone(),
            None => vec![(name.clone(), 1, 1)],
        };
        self.print_pool(&name, &members, found, upstream);
        for (member, ..) in &members {
            match target {
                Target::Url(url) => self.print_backend(member, Some(url), None, upstream),
                Target::Id(_) => self.backend(member, upstream),
            }
        }
        name
    }

    fn print_pool(
        &self,
        name: &str,
        members: &[(String, u64, u64)],
        found: Option<&Pool>,
        upstream: &mut Upstream,
    ) {
        let out = &mut upstream.text;
        let _ = write!(out, "\n[pools.{}]\nmembers = [", key(name));
        for (member, priority, weight) in members {
            let _ = match members.len() {
                1 => write!(out, "{{ backend = {} }}", text(member)),
                _ => write!(
                    out,
                    "\n  {{ backend = {}, priority = {priority}, weight = {weight} }},",
                    text(member)
                ),
            };
        }
        out.push_str(if members.len() > 1 { "\n]\n" } else { "]\n" });
        if members.is_empty() {
            let said = format!("pool \"{name}\" has no member that is known: add its members");
            upstream.remarks.push(Remark { at: NOWHERE, said });
        }
        if let Some(retry) = &self.file.policy.retry {
            let ranges = array(
                retry
                    .ranges
                    .iter()
                    .map(|range| format!("[{}, {}]", range.start(), range.end())),
            );
            let _ = writeln!(
                upstream.text,
                "retry = {{ count = {}, status-code-ranges = {ranges} }}",
                retry.count
            );
        }
        if let Some(cookie) = found.and_then(|pool| pool.cookie.as_ref()) {
            let _ = writeln!(
                upstream.text,
                "session-affinity = {{ cookie = {} }}",
                text(cookie)
            );
        }
    }

    fn backend(&mut self, name: &str, upstream: &mut Upstream) {
        let found = self
            .file
            .found
            .backends
            .iter()
            .find(|backend| backend.name == name);
        let url = found.and_then(|backend| backend.url.as_deref());
        self.print_backend(name, url, found, upstream);
    }

    fn print_backend(
        &mut self,
        name: &str,
        url: Option<&str>,
        found: Option<&Backend>,
        upstream: &mut Upstream,
    ) {
        if !self.backends.insert(name.to_owned()) {
            return;
        }
        let table = key(name);
        let place = url.and_then(place);
        let _ = write!(upstream.text, "\n[backends.{table}]\n");
        let (url, deployment) = match (place, self.file.endpoint) {
            (Some(place), _) => place,
            (None, Some(endpoint)) => (endpoint.to_owned(), None),
            (None, None) => {
                let said = format!(
                    "the URL of backend \"{name}\" isn't known: write it in place of {PLACEHOLDER}, or give --backends or --endpoint"
                );
                upstream.text.push_str(&comment(&said));
                upstream.remarks.push(Remark { at: NOWHERE, said });
                (PLACEHOLDER.to_owned(), None)
            }
        };
        let out = &mut upstream.text;
        let _ = writeln!(out, "url = {}\nschema = \"azure-openai\"", text(&url));
        if let Some(deployment) = deployment {
            let _ = writeln!(out, "deployment = {}", text(&deployment));
        }
        if let Some(version) = &self.file.policy.api_version {
            let _ = writeln!(out, "api-version = {}", text(version));
        }
        let _ = writeln!(out, "auth = {}", self.auth(found));
        if let Some(seconds) = self.file.policy.timeout_s {
            let _ = writeln!(
                out,
                "timeouts = {{ first-byte = \"{}s\" }}",
                seconds.clamp(1, 3600)
            );
        }
        if let Some(breaker) = found.and_then(|backend| backend.breaker.as_ref()) {
            push_breaker(out, &table, breaker);
        }
    }

    fn auth(&self, found: Option<&Backend>) -> String {
        if let Some(variable) = &self.file.arguments.api_key_env {
            return format!("{{ api-key = {{ env = {} }} }}", text(variable));
        }
        let own = found.and_then(|backend| backend.identity.as_ref());
        match own.or(self.file.policy.identity.as_ref()) {
            Some((audience, Some(id))) => format!(
                "{{ managed-identity = {{ resource = {}, client-id = {} }} }}",
                text(audience),
                text(id)
            ),
            Some((audience, None)) => format!(
                "{{ managed-identity = {{ resource = {} }} }}",
                text(audience)
            ),
            None => "{ api-key = { env = \"AZURE_OPENAI_API_KEY\" } }".to_owned(),
        }
    }
}

/// A backend's URL as this gateway takes it, and the deployment in it.
fn place(url: &str) -> Option<(String, Option<String>)> {
    let (base, deployment) = match url.split_once("/openai/deployments/") {
        Some((base, rest)) => (base, rest.split('/').next().map(str::to_owned)),
        None => (url, None),
    };
    let url = endpoint::normal(base).ok()?;
    Some((url, deployment.filter(|name| !name.is_empty())))
}

fn push_breaker(out: &mut String, table: &str, breaker: &Breaker) {
    let failures = match (breaker.count, breaker.percentage) {
        (Some(count), _) => format!("count = {}", count.clamp(1, 10_000)),
        (None, percentage) => format!(
            "percentage = {}, minimum-requests = 10",
            percentage.unwrap_or(50).clamp(1, 100)
        ),
    };
    let ranges = match breaker.ranges.is_empty() {
        true => String::new(),
        false => format!(
            ", status-code-ranges = {}",
            array(
                breaker
                    .ranges
                    .iter()
                    .map(|(min, max)| format!("[{min}, {max}]"))
            )
        ),
    };
    let _ = write!(
        out,
        "[backends.{table}.circuit-breaker]\ntrip-duration = \"{}s\"\n",
        breaker.trip_s.clamp(1, 86_400)
    );
    if breaker.accept_retry_after {
        out.push_str("accept-retry-after = true\n");
    }
    let interval = breaker.interval_s.clamp(1, 3_600);
    let _ = writeln!(
        out,
        "failure-condition = {{ {failures}, interval = \"{interval}s\"{ranges} }}"
    );
}

const PLACEHOLDER: &str = "https://REPLACE.openai.azure.com";
