//! `tollgate check`: loads the configuration exactly as `run` does and says what would run, or every mistake.
//!
//! Binds no port, and calls nobody unless told to (`--connect`). The summary names URLs and kinds of credentials, never a secret.

pub mod against;
mod connect;
mod policy;
mod upstream;

use std::fmt::Display;
use std::io::{self, Write};

use filters::route::Listed;

use crate::config::plan::{Api, Place, Plan, Server, SubscriptionState};
use crate::config::secret::Environment;
use crate::config::{Source, load};
use crate::embed::local;

/// How it ended; the caller turns it into an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// `run` would take it: 0.
    Well,
    /// `run` would refuse it: 2.
    Wrong,
    /// `run` would take it, but what it names doesn't answer: 1.
    Silent,
}

/// Who is asked beside the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Nobody.
    Nobody,
    /// Redis.
    Redis,
}

/// Checks the file at `path` (`-`: standard input). The summary goes to `out`, mistakes go to `errors`.
pub fn check(
    path: &str,
    environment: &dyn Environment,
    asks: Asks,
    (out, errors): (&mut dyn Write, &mut dyn Write),
) -> io::Result<Outcome> {
    match Source::read(path) {
        Ok(source) => check_source(&source, environment, asks, (out, errors)),
        Err(unreadable) => {
            writeln!(errors, "{unreadable}")?;
            Ok(Outcome::Wrong)
        }
    }
}

/// As [`check`], of a text that is already here.
pub fn check_source(
    source: &Source,
    environment: &dyn Environment,
    asks: Asks,
    (out, errors): (&mut dyn Write, &mut dyn Write),
) -> io::Result<Outcome> {
    let plan = match load(source, environment) {
        Ok(plan) => plan,
        Err(mistakes) => {
            writeln!(errors, "{mistakes}")?;
            return Ok(Outcome::Wrong);
        }
    };
    summary(&plan, out)?;
    let mut refusals = plan.refusals();
    refusals.extend(local::refusals(&plan));
    for line in &refusals {
        writeln!(errors, "loads, but `run` would refuse: {line}")?;
    }
    let answered = match asks {
        Asks::Nobody => Outcome::Well,
        Asks::Redis => connect::redis(&plan, out, errors)?,
    };
    Ok(if refusals.is_empty() {
        answered
    } else {
        Outcome::Wrong
    })
}

/// What would run, for a reader.
pub fn summary(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}: revision {}", plan.source, plan.revision)?;
    listeners(&plan.server, out)?;
    section(out, "apis", plan.apis.iter().map(|api| api_lines(api)))?;
    let pools = plan.pools.iter().map(|pool| upstream::pool_lines(pool));
    section(out, "pools", pools)?;
    let backends = plan.backends.iter();
    let backends = backends.map(|backend| upstream::backend_lines(backend));
    section(out, "backends", backends)?;
    section(out, "products", product_lines(plan))?;
    section(out, "subscriptions", subscription_lines(plan))?;
    let (budgets, limits): (Vec<_>, Vec<_>) = plan
        .token_limits
        .iter()
        .partition(|limit| limit.budget.is_some());
    let limits = limits.into_iter();
    let limits = limits.map(|limit| policy::limit_lines(limit));
    section(out, "token limits", limits)?;
    let budgets = budgets.into_iter();
    let budgets = budgets.filter_map(|limit| policy::budget_lines(limit));
    section(out, "budgets", budgets)?;
    let caches = plan.semantic_caches.iter();
    let caches = caches.map(|cache| policy::cache_lines(cache));
    section(out, "semantic caches", caches)?;
    section(out, "shared state", policy::redis_lines(plan).into_iter())?;
    section(out, "token metrics", metric_lines(plan))?;
    section(out, "records", record_lines(plan).into_iter())?;
    let warnings = plan.warnings.iter().map(|warning| vec![warning.clone()]);
    section(out, "warnings", warnings)
}

/// A title, then each entry: its first line at two spaces, the others at four. Nothing where there is none.
fn section(
    out: &mut dyn Write,
    title: &str,
    entries: impl Iterator<Item = Vec<String>>,
) -> io::Result<()> {
    for (index, lines) in entries.enumerate() {
        if index == 0 {
            writeln!(out, "{title}:")?;
        }
        for (row, line) in lines.iter().enumerate() {
            let indent = if row == 0 { 2 } else { 4 };
            writeln!(out, "{:indent$}{line}", "")?;
        }
    }
    Ok(())
}

fn listeners(server: &Server, out: &mut dyn Write) -> io::Result<()> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(
        server
            .listen
            .iter()
            .map(|address| format!("http   {address}")),
    );
    lines.extend(server.h2c.iter().map(|address| format!("h2c    {address}")));
    if let Some(tls) = &server.tls {
        let callers = if tls.client_ca_pem.is_some() {
            ", callers must show a certificate"
        } else {
            ""
        };
        lines.extend(
            tls.listen
                .iter()
                .map(|address| format!("https  {address}{callers}")),
        );
    }
    lines.push(format!("admin  {}", server.admin));
    section(out, "listeners", lines.into_iter().map(|line| vec![line]))
}

fn api_lines(api: &Api) -> Vec<String> {
    let path = if api.path.is_empty() { "/" } else { &api.path };
    let callers = if api.subscription_required {
        ""
    } else {
        ", no subscription required"
    };
    let mut lines = vec![format!(
        "{}: {path}, schema {}{callers}",
        api.name,
        api.schema.as_str()
    )];
    let models = api.models.iter();
    lines.extend(models.map(|(pattern, pool)| format!("{} -> {}", pattern.as_str(), pool.name)));
    let default = api.default_pool.iter();
    lines.extend(default.map(|pool| format!("without a model -> {}", pool.name)));
    if let Some(operations) = &api.operations {
        let listed = operations.listed.iter().map(Listed::id);
        let names = operations.known.iter().copied().chain(listed);
        lines.push(format!("operations: {}", list(names)));
    }
    lines
}

fn product_lines(plan: &Plan) -> impl Iterator<Item = Vec<String>> {
    plan.products.iter().map(|product| {
        let apis = product
            .apis
            .as_ref()
            .map_or("every API".to_owned(), |apis| list(apis.iter()));
        let models = product.models.as_ref();
        let models = models.map_or("every model".to_owned(), |models| {
            list(models.iter().map(|model| model.as_str()))
        });
        vec![format!("{}: {apis}; {models}", product.name)]
    })
}

fn subscription_lines(plan: &Plan) -> impl Iterator<Item = Vec<String>> {
    plan.subscriptions
        .iter()
        .enumerate()
        .map(|(index, subscription)| {
            let keys = plan.key_counts.get(index).copied().unwrap_or_default();
            let keys = if keys == 1 {
                "1 key".to_owned()
            } else {
                format!("{keys} keys")
            };
            let product = subscription.product.as_ref();
            let product = product.map_or("no product".to_owned(), |product| {
                format!("product {}", product.name)
            });
            let state = match subscription.state {
                SubscriptionState::Active => "",
                SubscriptionState::Suspended => ", suspended",
            };
            vec![format!("{}: {product}, {keys}{state}", subscription.name)]
        })
}

fn metric_lines(plan: &Plan) -> impl Iterator<Item = Vec<String>> {
    plan.token_metrics.iter().map(|metric| {
        let names = metric.dimensions.iter().map(|dimension| &dimension.name);
        let dimensions = list(names);
        vec![format!(
            "{}_*: by {dimensions}; at most {} series",
            metric.namespace, metric.max_series
        )]
    })
}

fn record_lines(plan: &Plan) -> Vec<Vec<String>> {
    let log = plan.usage_log.iter().map(|log| {
        let files = log.directory.iter();
        let files = files.map(|path| format!("usage log: {}, a file an hour", path.display()));
        let stream = log.stream.iter();
        let stream = stream.map(|stream| {
            let (key, most) = (&stream.key, stream.max_entries);
            format!("usage log: Redis stream {key}, the last {most}")
        });
        files.chain(stream).collect()
    });
    let prices = plan.prices.iter().map(|list| {
        let entries = list.len();
        vec![format!("prices: {entries}")]
    });
    let access = plan.access_log.iter().map(|log| {
        let place = match &log.place {
            Place::Output => "standard output".to_owned(),
            Place::File(path) => path.display().to_string(),
        };
        vec![format!("access log: {place}")]
    });
    let messages = plan.message_log.iter().map(|log| {
        let (directory, max) = (log.directory.display(), log.max_bytes);
        vec![format!(
            "message log: {directory}, up to {max} bytes of each prompt and answer"
        )]
    });
    log.chain(access).chain(messages).chain(prices).collect()
}

fn list<T: Display>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    if items.is_empty() {
        "nothing".to_owned()
    } else {
        items.join(", ")
    }
}
