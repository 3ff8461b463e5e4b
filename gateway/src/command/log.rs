//! The log: its form, and what may be in it.
//!
//! `TOLLGATE_LOG` sets the level of the gateway's own code. The libraries below it print what callers and backends
//! send, keys among it, at debug and trace level, so their level can't be raised: only warnings and errors of
//! theirs are shown, whatever the variable says. An allow-list, since a list of libraries would be one short after
//! the next update.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::LogFormat;

const VARIABLE: &str = "TOLLGATE_LOG";
const DEFAULT_FILTER: &str = "info";
/// The crates whose words are ours.
const OWN: [&str; 3] = ["gateway", "filters", "tollgate"];
/// Prints the head of a request that it can't parse, as an error.
const NEVER: &str = "pingora_core::apps::http_app";

/// Sends log lines to stderr from now on.
pub fn start(format: Option<LogFormat>) {
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(match terminal {
        true => LogFormat::Text,
        false => LogFormat::Json,
    });
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let filter = EnvFilter::try_new(if wanted.is_empty() {
        DEFAULT_FILTER
    } else {
        &wanted
    });
    let wrong = filter.as_ref().err().map(ToString::to_string);
    let log = tracing_subscriber::registry()
        .with(filter.unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER)))
        .with(filter_fn(|line| may_show(line.target(), line.level())));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(terminal)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.with(lines.json().flatten_event(true)).init(),
        LogFormat::Text => log.with(lines).init(),
    }
    if let Some(error) = wrong {
        tracing::warn!(error, "{VARIABLE} isn't a filter; {DEFAULT_FILTER} is used");
    }
}

/// Whether a line may be shown that the user's filter lets through.
fn may_show(target: &str, level: &Level) -> bool {
    let library = target.split("::").next().unwrap_or(target);
    let own = OWN.contains(&library);
    let is_warning = *level <= Level::WARN;
    own || (is_warning && target != NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_may_warn_and_no_more() {
        for target in [
            "pingora_core::protocols",
            "h2::codec",
            "rustls",
            "gateway_x",
        ] {
            assert!(may_show(target, &Level::ERROR), "{target}");
            assert!(may_show(target, &Level::WARN), "{target}");
            assert!(!may_show(target, &Level::INFO), "{target}");
            assert!(!may_show(target, &Level::TRACE), "{target}");
        }
        assert!(may_show("gateway::stage::account", &Level::TRACE));
        assert!(may_show("filters", &Level::DEBUG));
        assert!(!may_show(NEVER, &Level::ERROR));
    }
}
