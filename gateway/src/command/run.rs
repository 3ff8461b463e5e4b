//! `tollgate run`: loads the configuration, sets up the log, and runs the server.

use std::process::ExitCode;

use super::{EXIT_WRONG_INPUT, LogFormat, complain, log};
use crate::config::plan::Plan;
use crate::reload;
use crate::server::{self, Start};

/// Runs until told to stop.
pub fn run(path: &str, format: Option<LogFormat>, start: Start) -> ExitCode {
    let plan = match reload::load(path).plan {
        Ok(plan) => plan,
        Err(complaint) => {
            complain(complaint.trim_end());
            return ExitCode::from(EXIT_WRONG_INPUT);
        }
    };
    log::start(format);
    announce(&plan);
    match server::run(plan, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("tollgate: {error}"));
            ExitCode::FAILURE
        }
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
