//! How the process ends, by a signal or because another has taken over: the steps of `stop`, one after another.
//!
//! SIGTERM: callers are asked to go elsewhere for `shutdown-delay`, then nothing is accepted any more, calls in flight get
//! `drain-timeout`, and what is left after that is ended with an error event and settled. SIGINT and SIGQUIT do the
//! same without the waits, also in the middle of them. After a hand-over there is nothing to wait for but the calls:
//! the other process accepts already. Pingora's own way would sleep its whole grace period, and then drop what is left.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::state::State;
use crate::stop::Step;

/// How often a draining process looks whether it is done.
const POLL: Duration = Duration::from_millis(50);
/// A caller who was let in at the last moment gets this long to begin its call.
const LAST_ACCEPTED: Duration = Duration::from_millis(250);
/// After a hand-over, kept connections stay this long, so that their next answer can ask to close them.
const KEPT_CONNECTIONS: Duration = Duration::from_secs(5);
/// What was cut gets this long to tell its callers and to be settled.
const SETTLE: Duration = Duration::from_secs(5);

/// Ends the process when it is told to.
pub struct Ending(pub Arc<State>);

/// What began the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Terminate,
    Interrupt,
    HandedOver,
}

/// The signals that end at once, also while it is waited.
struct Interrupts {
    interrupt: Signal,
    quit: Signal,
}

impl Interrupts {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }

    /// Waits for something, unless it is interrupted; whether it was waited for to the end.
    async fn wait(&mut self, wait: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = wait => true,
            () = self.recv() => false,
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Ending {
    /// Doesn't return, but where signals can't be watched: the process ends here, when nothing is left to wait for.
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(interrupt), Ok(quit)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::quit()),
        ) else {
            tracing::error!("signals can't be watched; stopping");
            return ShutdownSignal::FastShutdown;
        };
        let mut interrupts = Interrupts { interrupt, quit };
        let why = tokio::select! {
            _ = terminate.recv() => Why::Terminate,
            () = interrupts.recv() => Why::Interrupt,
            () = self.0.stop.handed_over() => Why::HandedOver,
        };
        end(&self.0, why, &mut interrupts).await;
        tracing::info!("drained; bye");
        // The last bytes of the last answers leave, and the log's last line.
        tokio::time::sleep(POLL).await;
        std::process::exit(0);
    }
}

async fn end(state: &Arc<State>, why: Why, interrupts: &mut Interrupts) {
    let settings = state.plan.load().server.clone();
    state.stop.go(Step::Leaving);
    super::systemd::stopping(why == Why::HandedOver);
    tracing::info!(in_flight = state.in_flight(), why = ?why, "stopping");
    let (before, after) = match why {
        Why::Terminate => (settings.shutdown_delay, LAST_ACCEPTED),
        Why::Interrupt => (Duration::ZERO, Duration::ZERO),
        Why::HandedOver => (Duration::ZERO, KEPT_CONNECTIONS),
    };
    let mut is_patient = why != Why::Interrupt;
    is_patient = is_patient && interrupts.wait(tokio::time::sleep(before)).await;
    state.stop.go(Step::Closed);
    is_patient = is_patient && interrupts.wait(tokio::time::sleep(after)).await;
    state.stop.go(Step::Idle);
    if is_patient {
        let drained = tokio::time::timeout(settings.drain_timeout, drained(state));
        interrupts.wait(async { drop(drained.await) }).await;
    }
    let in_flight = state.in_flight();
    if in_flight > 0 {
        tracing::warn!(in_flight, "calls are cut: their time is over");
    }
    state.stop.go(Step::Cut);
    if tokio::time::timeout(SETTLE, drained(state)).await.is_err() {
        let in_flight = state.in_flight();
        tracing::error!(
            in_flight,
            "calls are dropped: they didn't end when they were cut"
        );
    }
    settle(state).await;
}

/// Nothing is in flight, and nothing that was just let in is about to be.
async fn drained(state: &State) {
    let mut is_empty = false;
    loop {
        let was_empty = is_empty;
        is_empty = state.in_flight() == 0;
        if was_empty && is_empty {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What was counted reaches Redis, and what was written down the disk.
async fn settle(state: &Arc<State>) {
    state.limits.stop().await;
    state.traces.stop().await;
    let state = state.clone();
    let _ = tokio::task::spawn_blocking(move || state.close_logs()).await;
}
