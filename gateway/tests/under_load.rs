//! Failover under load: two hundred callers see nothing of a backend that dies, comes back and asks to be left alone in
//! every way there is, and no outage is multiplied by retries.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use load_tests::simulator::{Behaviour, Handle, Record};
use support::gateway::Gateway;
use support::load::{self, Called, Line};
use support::pool::{self, CHAT, KEY, Member, PATIENT, simulator};
use support::{DEADLINE, wait_until};
use tokio::task::JoinHandle;

const BODY: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str =
    r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

const FOLLOWS: &str = r#"failure-condition = { count = 1, interval = "60s" }
trip-duration = "1s"
accept-retry-after = true
max-retry-after = "6s"
"#;

/// Callers who call again and again until they are told to stop.
struct Load {
    tasks: Vec<JoinHandle<()>>,
    told: Arc<Told>,
    epoch: Instant,
}

/// What they saw.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    calls: AtomicUsize,
    /// Those answered by the second backend, since the last look.
    second: Mutex<Vec<Called>>,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    fn start(gateway: &Gateway, callers: usize) -> Load {
        let (told, epoch) = (Arc::new(Told::default()), Instant::now());
        let url = format!("{}{CHAT}", gateway.url);
        let tasks = (0..callers).map(|_| {
            let (told, mut line) = (told.clone(), Line::new(&url, KEY, epoch));
            tokio::spawn(async move {
                while !told.stop.load(Ordering::Relaxed) {
                    told.take(line.call(Bytes::from_static(BODY.as_bytes())).await);
                }
            })
        });
        Load {
            tasks: tasks.collect(),
            told,
            epoch,
        }
    }

    /// Waits for so many further calls: each pays a fifth of a retry into the pool's budget.
    fn wait_for_calls(&self, count: usize) {
        let before = self.told.calls.load(Ordering::Relaxed);
        wait_until("the callers go on", || {
            (self.told.calls.load(Ordering::Relaxed) >= before + count).then_some(())
        });
    }

    /// When a caller had an answer from the second backend, who began after `since`: the first one's breaker is open by then.
    fn known_open(&self, since: Instant) -> Instant {
        wait_until("the second backend serves", || {
            let second = self.told.second.lock().unwrap();
            let after = second.iter().filter(|called| called.begun > since);
            after.map(|called| called.ended).min()
        })
    }

    async fn stop(self) {
        self.told.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let wrong = self.told.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} wrong: {:?}", wrong.len(), wrong[0]);
    }
}

impl Told {
    fn take(&self, called: Result<Called, String>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match called {
            Ok(called) if called.status != 200 => {
                self.wrong.lock().unwrap().push(format!("{called:?}"));
            }
            Ok(called) if called.region == "two" => self.second.lock().unwrap().push(called),
            Ok(_) => {}
            Err(error) => self.wrong.lock().unwrap().push(error),
        }
    }
}

/// One way to ask for time.
struct Ask {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
    /// What must pass after the answer.
    wait: Duration,
    /// Or until when, where it says a date.
    date: Option<Instant>,
}

fn asks() -> Vec<Ask> {
    let ask = |name, fields: &[(&'static str, &str)], wait| Ask {
        name,
        fields: fields
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        wait: Duration::from_millis(wait),
        date: None,
    };
    vec![
        ask("seconds", &[("retry-after", "5")], 5_000),
        ask(
            "milliseconds",
            &[("retry-after", "1"), ("retry-after-ms", "1500")],
            1_500,
        ),
        ask("a date", &[], 0),
        // More than is believed: `max-retry-after`.
        ask("a day", &[("retry-after", "86400")], 6_000),
        // As if it weren't there: `trip-duration`.
        ask(
            "nonsense",
            &[("retry-after", "soon"), ("retry-after-ms", "-1")],
            1_000,
        ),
    ]
}

impl Ask {
    /// The date is only known when it is said.
    fn said_now(mut self) -> Ask {
        if self.name == "a date" {
            let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
            let until = httpdate::parse_http_date(&date).unwrap();
            let left = until.duration_since(SystemTime::now());
            self.date = Some(Instant::now() + left.unwrap_or_default());
            self.fields.push(("retry-after", date));
        }
        self
    }

    fn behaviour(&self) -> Behaviour {
        let fields: Vec<(&str, &str)> = self
            .fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        Behaviour::answer(429, &fields, None)
    }

    /// Before this nobody may come who knows of the answer.
    fn over(&self, said: Instant) -> Instant {
        self.date.unwrap_or(said + self.wait)
    }
}

/// The first backend asks for time, in the middle of the load.
async fn asks_for_time(gateway: &Gateway, load: &Load, first: &Handle, ask: Ask) {
    settled(gateway, load);
    first.clear();
    let began = Instant::now();
    let ask = ask.said_now();
    first.set(ask.behaviour());
    // Those who began later know better than to go there: all who come are told from those who were on their way.
    let known = load.known_open(began);
    first.reset_behaviour();
    let is_later = |record: &&Record| load::begun(&record.headers, load.epoch) > known;
    let later = |records: &[Record]| {
        let mut came = records.iter().filter(is_later);
        came.next()
            .is_some_and(|probe| probe.answer.ended.is_some())
            && came.next().is_some()
    };
    let records = first.wait_until(DEADLINE, later).await.unwrap();
    let refused = records.iter().filter(|record| record.answer.status == 429);
    let said = refused.map(|record| record.answer.decided.unwrap()).min();
    let over = ask.over(said.unwrap());
    let came: Vec<&Record> = records.iter().filter(is_later).collect();
    let (probe, next) = (&came[0].answer, &came[1].answer);
    assert!(
        over <= probe.arrived,
        "{}: {:?} too early",
        ask.name,
        over - probe.arrived
    );
    // One goes ahead, and the others follow when it was answered.
    assert_eq!(probe.status, 200, "{}", ask.name);
    assert!(probe.ended.unwrap() <= next.arrived, "{}", ask.name);
}

/// Waits until the first backend serves everybody, and the pool can afford that each of them is tried again.
fn settled(gateway: &Gateway, load: &Load) {
    load.wait_for_calls(1_500);
    gateway.wait_for_metric("tollgate_backend_state", &[("backend", "b0")], 0.0);
    load.told.second.lock().unwrap().clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_callers_see_nothing_of_a_backend_that_dies_and_asks_for_time() {
    let (mut first, second) = (simulator("one").await, simulator("two").await);
    let (address, urls) = (first.address().to_string(), [first.url(), second.url()]);
    let gateway = pair(&urls, FOLLOWS);
    let load = Load::start(&gateway, 200);
    for ask in asks() {
        let name = ask.name;
        asks_for_time(&gateway, &load, &first, ask).await;
        eprintln!("{name}: {} calls", load.told.calls.load(Ordering::Relaxed));
    }
    settled(&gateway, &load);
    let began = Instant::now();
    first.stop().await;
    load.known_open(began);
    first = pool::simulator_at(&address, "one").await;
    let serves = |records: &[Record]| records.iter().any(|record| record.answer.status == 200);
    first.wait_until(DEADLINE, serves).await.unwrap();
    settled(&gateway, &load);
    load.stop().await;
}

fn pair(urls: &[String; 2], breaker: &str) -> Gateway {
    let member = |place: usize, priority| Member {
        url: &urls[place],
        place: priority,
        breaker,
        timeouts: PATIENT,
    };
    let members = [member(0, "priority = 1"), member(1, "priority = 2")];
    Gateway::start(&pool::config(&members, "", ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_storm_stays_within_the_budget() {
    let simulators = [
        simulator("one").await,
        simulator("two").await,
        simulator("three").await,
    ];
    for simulator in &simulators {
        simulator.set(Behaviour::status(500));
    }
    let urls: Vec<String> = simulators.iter().map(Handle::url).collect();
    let member = |url| Member {
        url,
        place: "priority = 1",
        breaker: "",
        timeouts: PATIENT,
    };
    let members: Vec<Member<'_>> = urls.iter().map(String::as_str).map(member).collect();
    let gateway = Gateway::start(&pool::config(&members, "", "retry = { count = 10 }"));
    let (callers, calls) = (50, 40);
    let began = Instant::now();
    let tasks = (0..callers).map(|caller: usize| {
        let mut line = Line::new(&format!("{}{CHAT}", gateway.url), KEY, began);
        let body = if caller.is_multiple_of(2) {
            BODY
        } else {
            STREAM
        };
        tokio::spawn(async move {
            for _ in 0..calls {
                let called = line
                    .call(Bytes::from_static(body.as_bytes()))
                    .await
                    .unwrap();
                // 503 after a failover; the backend's own 500 where there was no budget for one.
                assert!([500, 503].contains(&called.status), "{called:?}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let requests = (callers * calls) as f64;
    let seconds = began.elapsed().as_secs_f64() + 1.0;
    let attempts: usize = simulators.iter().map(|one| one.requests().len()).sum();
    eprintln!("{attempts} attempts for {requests} requests in {seconds:.1} s");
    let retries = attempts as f64 - requests;
    gateway.wait_for_metric("tollgate_retries_total", &[("pool", "chat")], retries);
    // A fifth of the requests, ten a second, and a reserve of a hundred.
    let budget = 0.2 * requests + 10.0 * seconds + 100.0;
    assert!(retries <= budget, "{retries} retries, {budget} afforded");
    // And not fewer than what was there from the start.
    assert!(retries >= 100.0, "{retries} retries");

    for simulator in &simulators {
        simulator.reset_behaviour();
    }
    let mut line = Line::new(&format!("{}{CHAT}", gateway.url), KEY, began);
    for _ in 0..9 {
        let called = line.call(Bytes::from_static(BODY.as_bytes())).await;
        assert_eq!(called.unwrap().status, 200, "when it is over, it is over");
    }
}
