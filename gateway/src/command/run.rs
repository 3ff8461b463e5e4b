//! `tollgate run`: loads the configuration, sets up the log, and runs the server.

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::{EXIT_WRONG_INPUT, LogFormat, complain};
use crate::config::plan::Plan;
use crate::{reload, server};

/// Pingora and the TLS library log what callers send at debug level; only warnings of theirs are ours to show.
const DEFAULT_FILTER: &str = "info,pingora_core=warn,pingora_proxy=warn,pingora_load_balancing=warn,pingora=warn,rustls=warn,h2=warn";

/// Runs until told to stop.
pub fn run(path: &str, format: Option<LogFormat>) -> ExitCode {
    let plan = match reload::load(path) {
        Ok(plan) => plan,
        Err(complaint) => {
            complain(complaint.trim_end());
            return ExitCode::from(EXIT_WRONG_INPUT);
        }
    };
    start_log(format);
    announce(&plan);
    match server::run(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("tollgate: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start_log(format: Option<LogFormat>) {
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(match terminal {
        true => LogFormat::Text,
        false => LogFormat::Json,
    });
    let filter =
        EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
}

fn announce(plan: &Plan) {
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        revision = plan.revision,
        source = plan.source,
        listen = ?plan.server.listen,
        admin = %plan.server.admin,
        apis = plan.apis.len(),
        backends = plan.backends.len(),
        subscriptions = plan.subscriptions.len(),
        "starting"
    );
}
