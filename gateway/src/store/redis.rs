//! Counters in a Redis that all replicas share: one round trip for all limits of a request.
//!
//! `reserve.lua` takes from all or none by the server's clock; why a limit refuses is worked out here, by the
//! same `plan` as in process, from the states that it returns. Settling goes through the `ledger` in the
//! background.
//!
//! **Exactly once.** A reservation that holds something has a number, and an entry in Redis while it is open.
//! Settling takes the entry away, and with it what was held; an answer that was lost is given back the same
//! way, or, if the call is still on its way, leaves word that it mustn't take any more.
//! A process that is killed leaves what it held: the rate flows back in by itself, of a quota it stays taken
//! until the window ends.
//!
//! **One hash slot.** All keys have the tag `{tollgate}`, so the limits of a request can be taken at once, also
//! when they count by different keys (one per subscription, one for all). In a Redis Cluster they all live on
//! one node: a cluster brings failover here, not more throughput. A tag by subscription would split a counter
//! that several subscriptions share.
//!
//! **Without Redis** each limit does what it was told: refuses, allows, or counts this replica's share of what
//! was left as last known. What was used meanwhile is added when Redis is back.

pub mod claim;
pub mod connection;
pub mod health;
mod holders;
mod keeper;
mod ledger;
mod outage;
pub mod trips;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use filters::limit::reservation::{Cell, Check, Grant, Refused as LimitRefused, Remaining, plan};
use filters::limit::{Limit, Now};
use filters::units::Tokens;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use tokio::runtime::Handle;

use super::local::Local;
use super::standing::Fullest;
use super::{LimitRequest, Refused};
pub use claim::Claim;
use claim::HeldLimit;
use connection::Script;
pub use connection::{CallError, Endpoint, connect};
use health::{Health, Operation};
use ledger::{Answer, Ledger};
use wire::{TAG, Told};

/// How Redis is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub endpoint: Endpoint,
    /// A request waits this long for its limits, and no longer.
    pub timeout: Duration,
    /// Names this process among the replicas. Two with one name would undo each other's reservations.
    pub replica: String,
    /// Whose time counts.
    pub clock: Clock,
}

/// Whose time a limit goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The server's: replicas needn't agree.
    Server,
    /// The caller's, whose `Time` is nanoseconds since 1970: for recorded cases, never in service.
    Caller,
}

/// The shared counters.
#[derive(Debug)]
pub struct Redis {
    client: Client,
    runtime: Handle,
    settings: Settings,
    names: Names,
    reserve: Script,
    settle: Script,
    heartbeat: Script,
    tell_trip: Script,
    open_trips: Script,
    tell_holders: Script,
    untold_holders: Arc<holders::Untold>,
    ledger: Arc<Ledger>,
    health: Health,
    share: Local,
    reservations: AtomicU64,
    /// The last time that a caller told: what [`Clock::Caller`] settles by.
    seen_us: AtomicU64,
}

/// The keys that aren't counters.
#[derive(Debug)]
struct Names {
    open: String,
    batch: String,
    replicas: String,
    trips: String,
    holders: String,
}

impl Redis {
    /// Connects in the background, and keeps the connection until the last user of it is gone. Needs a runtime.
    ///
    /// # Errors
    /// If the URL isn't one.
    pub fn connect(settings: Settings) -> Result<Arc<Self>, CallError> {
        let replica = &settings.replica;
        let redis = Arc::new(Redis {
            client: connection::connect(&settings.endpoint)?,
            runtime: Handle::current(),
            names: Names {
                open: format!("{TAG}:open:{replica}"),
                batch: format!("{TAG}:batch:{replica}"),
                replicas: format!("{TAG}:replicas"),
                trips: format!("{TAG}:trips"),
                holders: format!("{TAG}:holders"),
            },
            reserve: Script::new(include_str!("redis/reserve.lua")),
            settle: Script::new(include_str!("redis/settle.lua")),
            heartbeat: Script::new(include_str!("redis/heartbeat.lua")),
            tell_trip: Script::new(include_str!("redis/tell_trip.lua")),
            open_trips: Script::new(include_str!("redis/open_trips.lua")),
            tell_holders: Script::new(include_str!("redis/tell_holders.lua")),
            untold_holders: Arc::default(),
            ledger: Arc::default(),
            health: Health::default(),
            share: Local::default(),
            reservations: AtomicU64::new(1),
            seen_us: AtomicU64::new(0),
            settings,
        });
        tokio::spawn(keeper::keep(Arc::downgrade(&redis)));
        let untold = redis.untold_holders.clone();
        tokio::spawn(holders::keep(Arc::downgrade(&redis), untold));
        Ok(redis)
    }

    /// Whether Redis can be asked, and what went wrong so far.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Settlements that Redis wasn't told yet.
    pub fn untold(&self) -> usize {
        self.ledger.len()
    }

    /// Whether Redis was told everything.
    pub fn is_settled(&self) -> bool {
        self.ledger.is_empty()
    }

    /// Settlements that a bound cut. Never, unless Redis was gone for long.
    pub fn dropped(&self) -> u64 {
        self.ledger.dropped()
    }

    /// Removes idle counters of this replica's share; how many there were.
    pub fn sweep(&self, now: Now) -> usize {
        self.share.sweep(now)
    }

    /// The fullest counters of those that this replica served, by what Redis last said.
    pub fn fullest(&self, policy: &str, share: &Limit, now: Now, most: usize) -> Fullest {
        self.share.fullest(policy, share, now, most)
    }

    /// What this replica's share of a limit has left, as Redis last said.
    pub fn peek(&self, request: &LimitRequest<'_>, now: Now) -> Remaining {
        let limit = request.limit.share(self.health.replicas());
        self.share.peek(&LimitRequest { limit, ..*request }, now)
    }

    /// Takes from all limits, or from none.
    ///
    /// # Errors
    /// The refusal.
    pub async fn reserve(
        self: &Arc<Self>,
        requests: &[LimitRequest<'_>],
        now: Now,
    ) -> Result<(Claim, Vec<LimitRefused>), Refused> {
        if !self.is_reachable() {
            return self.without(requests, now);
        }
        let claim = self.claim(requests, now);
        self.note(now);
        let time = self.time();
        let keys = wire::keys(&self.names.open, &claim);
        let arguments = wire::arguments(&time, claim.id, requests, now);
        let timeout = self.settings.timeout;
        let answer = self
            .reserve
            .run::<Vec<i64>>(&self.client, timeout, keys, arguments)
            .await;
        let told = match answer.and_then(|numbers| Told::read(&numbers, requests.len(), now)) {
            Ok(told) => told,
            Err(error) => {
                // The claim ends here and gives back what may have been taken.
                drop(claim);
                self.health.failed(Operation::Reserve, error.why());
                return self.without(requests, now);
            }
        };
        self.health.answered();
        self.judge(claim, &told, requests)
    }

    fn is_reachable(&self) -> bool {
        if !self.health.is_up() {
            return false;
        }
        let connected = self.client.is_connected();
        if !connected {
            self.health.down("the connection is closed");
        }
        connected
    }

    /// A caller told the time.
    fn note(&self, now: Now) {
        let now_us = now.time.as_nanoseconds() / 1_000;
        self.seen_us.store(now_us, Ordering::Relaxed);
    }

    /// What the scripts go by: microseconds since 1970, or 0 for the server's own time.
    fn time(&self) -> String {
        match self.settings.clock {
            Clock::Server => "0".to_owned(),
            Clock::Caller => self.seen_us.load(Ordering::Relaxed).to_string(),
        }
    }

    /// A claim on what would be held if all goes well.
    fn claim(self: &Arc<Self>, requests: &[LimitRequest<'_>], now: Now) -> Claim {
        let line = |request: &LimitRequest<'_>| HeldLimit {
            key: wire::counter_key(request.policy, request.key),
            limit: request.limit,
            held: wire::check(request, Cell::UNUSED).held(now),
            cell: Cell::UNUSED,
        };
        let holds = requests.iter().any(|request| request.amount > Tokens::ZERO);
        Claim {
            redis: self.clone(),
            id: match holds {
                true => self.reservations.fetch_add(1, Ordering::Relaxed),
                false => 0,
            },
            answer: Answer::Lost,
            lines: requests.iter().map(line).collect(),
            share: None,
        }
    }

    /// Says the same as the script did, and why.
    fn judge(
        self: &Arc<Self>,
        mut claim: Claim,
        told: &Told,
        requests: &[LimitRequest<'_>],
    ) -> Result<(Claim, Vec<LimitRefused>), Refused> {
        let checks: Vec<Check<'_>> = requests
            .iter()
            .zip(&told.cells)
            .map(|(request, cell)| wire::check(request, *cell))
            .collect();
        let planned = plan(&checks, told.now);
        match (planned, told.taken) {
            (Ok(grant), true) => {
                self.accept(&mut claim, &grant, told, requests);
                Ok((claim, grant.would_refuse))
            }
            (Err(refused), taken) => {
                // A script that took what the plan refuses would be a fault: the claim gives it back.
                debug_assert!(!taken, "the script took what the plan refuses: {refused:?}");
                if !taken {
                    claim.disarm();
                }
                Err(Refused::by(refused, &checks, told.now))
            }
            (Ok(grant), false) => {
                debug_assert!(false, "the script refused what the plan grants: {grant:?}");
                claim.disarm();
                self.without(requests, told.now)
            }
        }
    }

    fn accept(&self, claim: &mut Claim, grant: &Grant, told: &Told, requests: &[LimitRequest<'_>]) {
        claim.answer = Answer::Taken;
        let replicas = self.health.replicas();
        for (index, line) in claim.lines.iter_mut().enumerate() {
            line.held = grant.held[index];
            line.cell = told.cells[index].take(&line.limit, line.held, told.now);
            let share = outage::share(line.cell, replicas);
            self.share.remember(&requests[index], share, told.now);
        }
    }
}

impl Drop for Redis {
    /// fred keeps a connection, and makes it again, for as long as nobody says that it isn't wanted any more.
    fn drop(&mut self) {
        self.untold_holders.wake.notify_one();
        let client = self.client.clone();
        self.runtime.spawn(async move {
            // It may be gone already.
            let _ = client.quit().await;
        });
    }
}
