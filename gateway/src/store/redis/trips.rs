//! Trips that replicas tell each other, over Redis.
//!
//! A trip is published, so that whoever listens knows at once, and kept until it is over, for whoever starts or comes back
//! later. All that is kept is read again every second: a message that was lost costs that second, and
//! Redis' clock is learned along the way. A replica tells its own trips again when a connection was made, since that
//! Redis may have lost them.
//!
//! Messages need a connection of their own: one that listens can't ask. Nothing here is waited for by a request,
//! and what fails is tried again a second later. Never decides whether a trip is believed; `filters::breaker` does.

mod message;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use filters::breaker::News;
use filters::time::Time;
use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::health::Operation;
use super::wire::TAG;
use super::{CallError, Redis, connection};
use crate::clock;
use message::{Message, ServerClock};

/// How often what is kept is read.
const ROUND: Duration = Duration::from_secs(1);
/// How often the channel is subscribed to again: a connection that only listens would never find out that it is dead.
const SUBSCRIBE: Duration = Duration::from_secs(5);
/// No call is waited for longer; no request waits for one.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The trips of this replica. They stay until they are over, whichever Redis they are told to.
#[derive(Debug, Default)]
pub struct Own {
    trips: Mutex<HashMap<Arc<str>, Trip>>,
    wake: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Trip {
    news: News,
    is_told: bool,
}

/// Exchanges trips until it is dropped.
#[derive(Debug)]
pub struct Exchange {
    redis: Weak<Redis>,
    _stop: oneshot::Sender<()>,
    read: watch::Receiver<bool>,
}

impl Own {
    /// A breaker of this replica has opened by itself. Never waits.
    pub fn add(&self, backend: &Arc<str>, news: News) {
        let trip = Trip {
            news,
            is_told: false,
        };
        let mut trips = self.trips.lock();
        trips.retain(|_, trip| trip.news.until > news.tripped_at);
        trips.insert(Arc::clone(backend), trip);
        drop(trips);
        self.wake.notify_one();
    }

    fn untold(&self, now: Time) -> Vec<(Arc<str>, News)> {
        let trips = self.trips.lock();
        let untold = trips
            .iter()
            .filter(|(_, trip)| !trip.is_told && trip.news.until > now);
        untold
            .map(|(backend, trip)| (Arc::clone(backend), trip.news))
            .collect()
    }

    fn told(&self, backend: &str, news: News) {
        if let Some(trip) = self.trips.lock().get_mut(backend) {
            trip.is_told = trip.news == news;
        }
    }

    fn tell_again(&self) {
        for trip in self.trips.lock().values_mut() {
            trip.is_told = false;
        }
    }
}

impl Exchange {
    /// Begins, on the thread of this Redis. What the others tell goes to `hear`, with the backend's name.
    ///
    /// # Errors
    /// If no further connection can be made, ever.
    pub fn begin(
        redis: &Arc<Redis>,
        own: Arc<Own>,
        hear: impl Fn(&str, News) + Send + Sync + 'static,
    ) -> Result<Self, CallError> {
        let inside = redis.runtime.enter();
        let subscriber = connection::connect(&redis.settings.endpoint)?;
        drop(inside);
        let (stop, stopped) = oneshot::channel();
        let (is_read, read) = watch::channel(false);
        let line = Line {
            redis: Arc::downgrade(redis),
            own,
            hear,
            clock: None,
            is_read,
            is_failing: false,
        };
        redis.runtime.spawn(async move {
            let fresh = Notify::new();
            tokio::select! {
                _ = stopped => {}
                () = subscribe(&subscriber, &fresh) => {}
                () = line.keep(&subscriber, &fresh) => {}
            }
            // It may be gone already.
            let _ = subscriber.quit().await;
        });
        Ok(Exchange {
            redis: Arc::downgrade(redis),
            _stop: stop,
            read,
        })
    }

    /// Whether it goes over this Redis.
    pub fn is_over(&self, redis: &Arc<Redis>) -> bool {
        std::ptr::eq(self.redis.as_ptr(), Arc::as_ptr(redis))
    }

    /// Ends when the trips that are open were read, or couldn't be.
    pub fn wait_until_read(&self) -> impl Future<Output = ()> + use<> {
        let mut read = self.read.clone();
        async move {
            // An exchange that has ended reads nothing any more.
            let _ = read.wait_for(|read| *read).await;
        }
    }
}

/// Subscribes whenever a connection was made, and now and then. Never ends.
async fn subscribe(subscriber: &Client, fresh: &Notify) {
    let mut connected = subscriber.reconnect_rx();
    let mut again = tokio::time::interval(SUBSCRIBE);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_new = true;
    loop {
        tokio::select! {
            _ = connected.recv() => is_new = true,
            _ = again.tick() => {}
        }
        let done = tokio::time::timeout(TIMEOUT, subscriber.subscribe(channel())).await;
        match done {
            Ok(Ok(())) if is_new => {
                is_new = false;
                fresh.notify_one();
            }
            Ok(Ok(())) => {}
            // Until then what is kept is read every second.
            Ok(Err(_)) | Err(_) => is_new = true,
        }
    }
}

/// One end of the exchange.
struct Line<H> {
    redis: Weak<Redis>,
    own: Arc<Own>,
    hear: H,
    clock: Option<ServerClock>,
    is_read: watch::Sender<bool>,
    is_failing: bool,
}

impl<H: Fn(&str, News)> Line<H> {
    /// Tells and hears until nobody uses the store.
    async fn keep(mut self, subscriber: &Client, fresh: &Notify) {
        let mut messages = subscriber.message_rx();
        let own = self.own.clone();
        let Some(mut up) = self.redis.upgrade().map(|redis| redis.health.changes()) else {
            return;
        };
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                message = messages.recv() => message.ok().and_then(|message| message.value.into_bytes()),
                () = own.wake.notified() => None,
                () = fresh.notified() => {
                    own.tell_again();
                    None
                }
                Ok(()) = up.changed() => None,
                _ = rounds.tick() => None,
            };
            let Some(redis) = self.redis.upgrade() else {
                return;
            };
            match message {
                Some(message) => self.heard(&redis, &message),
                None => self.round(&redis).await,
            }
        }
    }

    async fn round(&mut self, redis: &Arc<Redis>) {
        if !redis.is_reachable() {
            return;
        }
        let done = match self.read(redis).await {
            Ok(clock) => self.tell(redis, clock).await,
            Err(error) => Err(error),
        };
        // Whoever waited doesn't wait for another try.
        self.is_read.send_replace(true);
        match done {
            Ok(()) if self.is_failing => tracing::info!("redis: trips are shared again"),
            Ok(()) => {}
            Err(ref error) => {
                redis.health.missed(Operation::Trips);
                if !self.is_failing {
                    tracing::warn!(reason = error.why(), "redis: trips aren't shared");
                }
            }
        }
        self.is_failing = done.is_err();
    }

    async fn read(&mut self, redis: &Arc<Redis>) -> Result<ServerClock, CallError> {
        let keys = vec![redis.names.trips.clone()];
        let asked = clock::now().time();
        let open = redis
            .open_trips
            .run::<Vec<Bytes>>(&redis.client, TIMEOUT, keys, Vec::new());
        let answer = open.await?;
        let now = clock::now().time();
        let Some((time, messages)) = answer.split_first() else {
            return Err(CallError::new("not the answer of open_trips.lua"));
        };
        let server_ms = std::str::from_utf8(time).ok();
        let Some(server_ms) = server_ms.and_then(|time| time.parse().ok()) else {
            return Err(CallError::new("not the answer of open_trips.lua"));
        };
        let clock = ServerClock::new(server_ms, asked, now);
        self.clock = Some(clock);
        // The last to end first: of several about one backend the first is believed.
        for message in messages.iter().rev() {
            self.heard(redis, message);
        }
        Ok(clock)
    }

    async fn tell(&self, redis: &Arc<Redis>, clock: ServerClock) -> Result<(), CallError> {
        for (backend, news) in self.own.untold(clock::now().time()) {
            let message = Message {
                replica: redis.settings.replica.clone(),
                backend: backend.to_string(),
                news,
            };
            let arguments = vec![
                message.write(clock),
                clock.ms(news.until).to_string(),
                channel(),
            ];
            let keys = vec![redis.names.trips.clone()];
            let told = redis
                .tell_trip
                .run::<Vec<i64>>(&redis.client, TIMEOUT, keys, arguments);
            told.await?;
            self.own.told(&backend, news);
        }
        Ok(())
    }

    /// A message of another replica's; before Redis' clock is known it waits to be read.
    fn heard(&self, redis: &Arc<Redis>, message: &[u8]) {
        let now = clock::now().time();
        let read = |clock| Message::read(message, clock, now);
        match self.clock.map(read) {
            Some(Some(message)) if message.replica != redis.settings.replica => {
                (self.hear)(&message.backend, message.news);
            }
            Some(Some(_)) | None => {}
            Some(None) => tracing::debug!("redis: a trip that can't be read"),
        }
    }
}

fn channel() -> String {
    format!("{TAG}:trips")
}
