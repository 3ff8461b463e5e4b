//! What goes on beside the requests: the heartbeat, and telling Redis what the ledger holds.
//!
//! Redis is up again only after the ledger was told, so the first limit that is asked knows what was used
//! meanwhile. Ends with the last user of the store.

use std::sync::Weak;
use std::time::Duration;

use fred::interfaces::ClientLike;
use tokio::time::MissedTickBehavior;

use super::health::Operation;
use super::{CallError, Redis};

/// How often a Redis that is gone is tried.
const BEAT: Duration = Duration::from_millis(250);

/// While it is up every fourth beat is said: once a second.
const BEATS: u32 = 4;

/// A replica that wasn't heard of for so long is gone. Seconds.
const GONE_AFTER_S: u32 = 10;

/// A batch may take longer than a request waits.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Keeps a store until nobody uses it.
pub async fn keep(store: Weak<Redis>) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut quiet = 0;
    loop {
        let Some(ledger) = store.upgrade().map(|redis| redis.ledger.clone()) else {
            return;
        };
        let beat = tokio::select! {
            _ = beats.tick() => true,
            () = ledger.wake.notified() => false,
        };
        let Some(redis) = store.upgrade() else { return };
        let up = redis.health.is_up();
        quiet += u32::from(beat);
        if beat && (!up || quiet >= BEATS) {
            quiet = 0;
            redis.beat().await;
        } else if up {
            redis.tell().await;
        }
    }
}

impl Redis {
    async fn beat(&self) {
        if !self.client.is_connected() {
            self.health.down("the connection is closed");
            return;
        }
        self.load().await;
        let keys = vec![self.names.replicas.clone()];
        let arguments = vec![self.settings.replica.clone(), GONE_AFTER_S.to_string()];
        let timeout = self.settings.timeout;
        let answer = self
            .heartbeat
            .run::<Vec<i64>>(&self.client, timeout, keys, arguments);
        match answer.await {
            Ok(numbers) => {
                let replicas = numbers.first().copied().unwrap_or(1);
                self.health.counted(u64::try_from(replicas).unwrap_or(1));
                if self.tell().await {
                    self.health.up();
                }
            }
            Err(error) => {
                self.health.failed(Operation::Heartbeat, error.why());
                tracing::debug!(reason = error.why(), "redis: no heartbeat");
            }
        }
    }

    async fn load(&self) {
        let ours = [&self.reserve, &self.settle, &self.heartbeat];
        for script in
            ours.into_iter()
                .chain([&self.tell_trip, &self.open_trips, &self.tell_holders])
        {
            script.load(&self.client).await;
        }
    }

    /// Tells Redis what the ledger holds; whether all of it.
    async fn tell(&self) -> bool {
        while let Some(batch) = self.ledger.next() {
            let mut keys = vec![self.names.open.clone(), self.names.batch.clone()];
            keys.extend(batch.keys.iter().cloned());
            let mut arguments = vec![self.time(), batch.number.to_string()];
            arguments.extend(batch.arguments.iter().cloned());
            let answer: Result<Vec<i64>, CallError> = self
                .settle
                .run(&self.client, SETTLE_TIMEOUT, keys, arguments)
                .await;
            match answer {
                Ok(_) => {
                    self.health.answered();
                    self.ledger.confirm();
                }
                Err(error) => {
                    self.health.failed(Operation::Settle, error.why());
                    return false;
                }
            }
        }
        true
    }
}
