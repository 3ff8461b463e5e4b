//! The response matrix: what each way to answer, or not to, becomes for the caller, for the backend's breaker and for
//! the other member, whether that one makes it good or fails alike.
//!
//! One table, gone through with short and long bodies and streams, over plain HTTP/1.1, TLS and HTTP/2. Each case has a
//! pool and two backends of its own, so that no breaker and no pooled connection comes from another case. A backend's
//! deployment is the case's name, by which the simulators behave and their journals are read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::collections::HashMap;

use load_tests::simulator::behaviour::WireForm;
use load_tests::simulator::{Behaviour, Ending, Handle, Options, Record, Simulator};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::before::KEY;
use support::caller::Caller;
use support::certificates::Authority;
use support::gateway::{Gateway, free_address};
use support::http::{self, Answer};
use support::metrics;
use support::tls_front::TlsFront;
use support::wait_until;

/// How the first backend fails, or doesn't.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// This status, with `Retry-After: 7` or without.
    Answers(u16, Wait),
    /// Nothing, on an open connection.
    Silence,
    /// A broken connection, after the request was read.
    Reset,
    /// Nobody listens.
    NoPort,
    /// Its name has no address.
    NoName,
    /// A certificate that nobody vouches for.
    WrongCertificate,
}

#[derive(Clone, Copy, PartialEq)]
enum Wait {
    Asked,
    Unasked,
}

/// Whose credential goes to the backend.
#[derive(Clone, Copy, PartialEq)]
enum Credential {
    Ours,
    Callers,
}

/// What the caller is told when both members fail alike.
#[derive(Clone, Copy)]
enum Exhausted {
    /// The last answer as it is.
    ThatAnswer,
    /// The gateway's own.
    Refusal(u16, &'static str),
}

/// What follows the first attempt.
#[derive(Clone, Copy)]
enum Follows {
    /// Nothing: the answer is the caller's.
    Nothing,
    /// The other member is asked.
    Another(Exhausted),
}

#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    fault: Fault,
    credential: Credential,
    /// Why it trips its breaker, which counts to one.
    trips: Option<&'static str>,
    follows: Follows,
}

const PASSED_ON: Follows = Follows::Nothing;
const LAST_ANSWER: Follows = Follows::Another(Exhausted::ThatAnswer);
const THROTTLED: Follows = Follows::Another(Exhausted::Refusal(429, "backends_throttled"));
const UNAVAILABLE: Follows = Follows::Another(Exhausted::Refusal(503, "no_backend_available"));
const LATE: Follows = Follows::Another(Exhausted::Refusal(504, "backend_timeout"));

/// An answer with a status, and no wait asked for.
const fn status(
    name: &'static str,
    status: u16,
    trips: Option<&'static str>,
    follows: Follows,
) -> Row {
    Row {
        name,
        fault: Fault::Answers(status, Wait::Unasked),
        credential: Credential::Callers,
        trips,
        follows,
    }
}

const fn fault(
    name: &'static str,
    fault: Fault,
    trips: Option<&'static str>,
    follows: Follows,
) -> Row {
    Row {
        name,
        fault,
        credential: Credential::Ours,
        trips,
        follows,
    }
}

const fn ours(row: Row) -> Row {
    Row {
        credential: Credential::Ours,
        ..row
    }
}

/// API Management's matrix. Where the contract differs it is the contract's: exhausted 429 and 5xx are the gateway's own
/// answers, a late first byte is 504, a refused credential of ours trips, and `error-reasons` say whether no answer does.
const MATRIX: &[Row] = &[
    status("200", 200, None, PASSED_ON),
    status("302", 302, None, PASSED_ON),
    status("400", 400, None, PASSED_ON),
    status("401", 401, None, PASSED_ON),
    ours(status("401-ours", 401, Some("credential"), PASSED_ON)),
    status("403", 403, None, PASSED_ON),
    ours(status("403-ours", 403, Some("credential"), PASSED_ON)),
    status("404", 404, None, PASSED_ON),
    status("408", 408, Some("status"), LAST_ANSWER),
    status("409", 409, None, PASSED_ON),
    fault(
        "409-with-retry-after",
        Fault::Answers(409, Wait::Asked),
        None,
        LAST_ANSWER,
    ),
    status("413", 413, None, PASSED_ON),
    status("422", 422, None, PASSED_ON),
    status("429", 429, Some("throttled"), THROTTLED),
    fault(
        "429-with-retry-after",
        Fault::Answers(429, Wait::Asked),
        Some("throttled"),
        THROTTLED,
    ),
    status("499", 499, Some("status"), LAST_ANSWER),
    status("500", 500, Some("status"), UNAVAILABLE),
    status("502", 502, Some("status"), UNAVAILABLE),
    status("503", 503, Some("status"), UNAVAILABLE),
    fault(
        "503-with-retry-after",
        Fault::Answers(503, Wait::Asked),
        Some("status"),
        UNAVAILABLE,
    ),
    status("504", 504, Some("status"), UNAVAILABLE),
    fault("no-port", Fault::NoPort, Some("connect"), UNAVAILABLE),
    fault("no-port-untripped", Fault::NoPort, None, UNAVAILABLE),
    fault("no-name", Fault::NoName, Some("connect"), UNAVAILABLE),
    fault(
        "wrong-certificate",
        Fault::WrongCertificate,
        Some("connect"),
        UNAVAILABLE,
    ),
    fault("reset", Fault::Reset, Some("reset"), UNAVAILABLE),
    fault("reset-untripped", Fault::Reset, None, UNAVAILABLE),
    fault("silence", Fault::Silence, Some("timeout"), LATE),
    fault("silence-untripped", Fault::Silence, None, LATE),
];

/// What the caller sends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Form {
    Short,
    Stream,
    Long,
}

/// How the second member does.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Second {
    Healthy,
    FailsAlike,
}

#[derive(Clone, Copy)]
struct Case {
    row: Row,
    form: Form,
    second: Second,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for row in MATRIX {
        for form in [Form::Short, Form::Stream, Form::Long] {
            for second in [Second::Healthy, Second::FailsAlike] {
                cases.push(Case {
                    row: *row,
                    form,
                    second,
                });
            }
        }
    }
    cases
}

/// How the gateway reaches the simulators.
#[derive(Clone, Copy, PartialEq)]
enum Transport {
    Plain,
    Tls(&'static str),
}

/// Two simulators, the way to them, and what to trust.
struct World {
    transport: Transport,
    simulators: [Handle; 2],
    fronts: Vec<TlsFront>,
    stranger: TlsFront,
    authority: Authority,
    _stranger: Authority,
    nowhere: String,
}

impl World {
    async fn new(transport: Transport) -> World {
        let simulators = [simulator("one").await, simulator("two").await];
        let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
        let mut fronts = Vec::new();
        let identity = authority.issue(&["127.0.0.1"]);
        for simulator in &simulators {
            let protocols = match transport {
                Transport::Plain => continue,
                Transport::Tls(protocol) => [protocol],
            };
            fronts.push(TlsFront::start(simulator.address(), &identity, &protocols, None).await);
        }
        let theirs = stranger.issue(&["127.0.0.1"]);
        let front = TlsFront::start(simulators[0].address(), &theirs, &["http/1.1"], None).await;
        World {
            transport,
            simulators,
            fronts,
            stranger: front,
            authority,
            _stranger: stranger,
            nowhere: free_address(),
        }
    }

    fn url(&self, place: usize, fault: Option<Fault>) -> String {
        match (fault, self.transport) {
            (Some(Fault::NoPort), _) => format!("http://{}", self.nowhere),
            (Some(Fault::NoName), _) => "http://nowhere.invalid".to_owned(),
            (Some(Fault::WrongCertificate), _) => {
                format!("https://127.0.0.1:{}", self.stranger.port)
            }
            (_, Transport::Plain) => self.simulators[place].url(),
            (_, Transport::Tls(_)) => format!("https://127.0.0.1:{}", self.fronts[place].port),
        }
    }

    fn gateway(&self, cases: &[Case]) -> Gateway {
        let mut text = CONFIG.replace("@KEY@", KEY);
        for case in cases {
            let name = case.name();
            for place in 0..2 {
                let fault = case.fault_at(place);
                let (backend, url) = (case.backend(place), self.url(place, fault));
                text += &format!("[backends.{backend}]\nurl = \"{url}\"\n");
                if case.row.credential == Credential::Ours {
                    text += "auth = { api-key = \"backend-key\" }\n";
                }
                // A backend that doesn't fail is given all the time that a loaded machine needs.
                let first_byte = match fault {
                    Some(Fault::Silence) => "300ms",
                    _ => "50s",
                };
                text +=
                    &format!("timeouts = {{ connect = \"20s\", first-byte = \"{first_byte}\" }}\n");
                if url.starts_with("https") {
                    let ca = self.authority.certificate.display();
                    text += &format!("tls = {{ ca = \"{ca}\" }}\n");
                }
                let reasons = match case.row.trips {
                    Some(_) => r#"["connect", "timeout", "reset"]"#,
                    None => "[]",
                };
                let breaker = BREAKER.replace("@REASONS@", reasons);
                text += &format!("[backends.{backend}.circuit-breaker]\n{breaker}");
            }
            let (one, two) = (case.backend(0), case.backend(1));
            text += &format!(
                "[pools.{name}]\nretry = {{ count = 2, status-code-ranges = [[408, 408], [429, 429], [499, 599]] }}\n\
                 members = [{{ backend = \"{one}\", priority = 1 }}, {{ backend = \"{two}\", priority = 2 }}]\n"
            );
        }
        let models: Vec<String> = cases
            .iter()
            .map(|case| format!("\"{0}\" = \"{0}\"", case.name()))
            .collect();
        Gateway::start(&text.replace("@MODELS@", &models.join(", ")))
    }

    /// Sends the call and checks everything that can be seen of it right after.
    fn check(&self, gateway: &Gateway, case: &Case) {
        let name = case.name();
        for (place, simulator) in self.simulators.iter().enumerate() {
            let behaviour = case
                .fault_at(place)
                .map_or_else(Behaviour::default, |fault| {
                    behaviour(fault, REGIONS[place], case.form)
                });
            simulator.set(behaviour.on_path(&case.part()));
        }
        let body = case.form.body();
        let url = format!("{}{}", gateway.url, case.path());
        let answer = http::post(&url, &[("api-key", KEY)], &body);
        case.check_answer(&answer);
        let digest = hex(&Sha256::digest(body.as_bytes()));
        for (place, simulator) in self.simulators.iter().enumerate() {
            let records = of_case(simulator, case);
            let seen = match case.fault_at(place) {
                Some(Fault::NoPort | Fault::NoName | Fault::WrongCertificate) => 0,
                Some(_) | None => case.attempts_at(place),
            };
            assert_eq!(records.len(), seen, "{name}: attempts seen at {place}");
            for record in records {
                assert_eq!(record.body.sha256, digest, "{name}: the body at {place}");
                let header = |name| {
                    record
                        .headers
                        .get(name)
                        .and_then(|value| value.to_str().ok())
                };
                let key = (case.row.credential == Credential::Ours).then_some("backend-key");
                assert_eq!(header("api-key"), key, "{name}: the key at {place}");
            }
        }
    }
}

impl Case {
    fn name(&self) -> String {
        format!("{}-{:?}-{:?}", self.row.name, self.form, self.second)
    }

    fn backend(&self, place: usize) -> String {
        format!("{}-{place}", self.name())
    }

    /// Of the paths at the backends, by which the simulators tell cases apart.
    fn part(&self) -> String {
        format!("/deployments/{}/", self.name())
    }

    fn path(&self) -> String {
        format!(
            "/openai{}chat/completions?api-version=2024-10-21",
            self.part()
        )
    }

    fn fault_at(&self, place: usize) -> Option<Fault> {
        let fails = place == 0 || self.second == Second::FailsAlike;
        fails.then_some(self.row.fault)
    }

    /// How often each is asked: a breaker that has opened keeps it at once. Without one, the last member is asked again
    /// where it neither asked to wait nor was late.
    fn attempts_at(&self, place: usize) -> usize {
        let waits = matches!(
            self.row.fault,
            Fault::Silence | Fault::Answers(_, Wait::Asked)
        );
        match (place, self.row.follows, self.second) {
            (0, _, _) => 1,
            (_, Follows::Nothing, _) => 0,
            (_, Follows::Another(_), Second::Healthy) => 1,
            (_, Follows::Another(_), Second::FailsAlike) => {
                1 + usize::from(self.row.trips.is_none() && !waits)
            }
        }
    }

    fn check_answer(&self, answer: &Answer) {
        let name = self.name();
        match (self.row.follows, self.second) {
            (Follows::Nothing, _) => self.check_passed_on(answer, REGIONS[0]),
            (Follows::Another(_), Second::Healthy) => {
                assert_eq!(answer.status, 200, "{name}: {}", answer.text());
                assert_eq!(answer.header("x-ms-region"), Some(REGIONS[1]), "{name}");
                assert_eq!(said(answer, self.form), EXPECTED, "{name}");
            }
            (Follows::Another(Exhausted::ThatAnswer), Second::FailsAlike) => {
                self.check_passed_on(answer, REGIONS[1]);
            }
            (Follows::Another(Exhausted::Refusal(status, code)), Second::FailsAlike) => {
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (status, code),
                    "{name}"
                );
                assert_eq!(
                    answer.header("content-type"),
                    Some("application/json"),
                    "{name}"
                );
                for field in [
                    "x-ms-region",
                    "x-simulator-kept",
                    "x-ratelimit-limit-tokens",
                ] {
                    assert_eq!(answer.header(field), None, "{name}: {field} of a backend");
                }
                self.check_wait(answer);
            }
        }
    }

    /// `Retry-After` of the gateway's own answer: what the backends asked for, or what their breakers know.
    fn check_wait(&self, answer: &Answer) {
        let longest = match (self.row.fault, self.row.trips) {
            (Fault::Answers(_, Wait::Asked), _) => Some(7),
            (_, Some(_)) => Some(60),
            (_, None) => None,
        };
        let wait = answer
            .header("retry-after")
            .map(|text| text.parse::<u64>().unwrap());
        let name = self.name();
        match longest.filter(|_| answer.status != 504) {
            Some(longest) => {
                let wait = wait.unwrap_or_else(|| panic!("{name}: no Retry-After"));
                assert!((1..=longest).contains(&wait), "{name}: {wait}");
            }
            None => assert_eq!(wait, None, "{name}"),
        }
    }

    /// The backend's answer, with body and fields as they were.
    fn check_passed_on(&self, answer: &Answer, region: &str) {
        let name = self.name();
        let Fault::Answers(status, wait) = self.row.fault else {
            panic!("{name}: there is no answer to pass on");
        };
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert_eq!(answer.header("x-ms-region"), Some(region), "{name}");
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None, "{name}");
        if status == 200 {
            assert_eq!(said(answer, self.form), EXPECTED, "{name}");
            return;
        }
        assert_eq!(answer.text(), fault_body(status, region), "{name}");
        assert_eq!(answer.header("x-simulator-kept"), Some("as sent"), "{name}");
        let asked = (wait == Wait::Asked).then_some("7");
        assert_eq!(answer.header("retry-after"), asked, "{name}");
    }

    /// What its page of metrics should say: attempts by backend and outcome.
    fn outcomes(&self) -> Vec<(String, &'static str, usize)> {
        let failure = match self.row.fault {
            Fault::Answers(200, _) => "2xx",
            Fault::Answers(302, _) => "3xx",
            Fault::Answers(429, _) => "429",
            Fault::Answers(400..=499, _) => "4xx",
            Fault::Answers(_, _) => "5xx",
            Fault::Silence => "timeout",
            Fault::Reset => "reset",
            Fault::NoPort | Fault::NoName | Fault::WrongCertificate => "connect",
        };
        let outcomes = (0..2).map(|place| {
            let outcome = self.fault_at(place).map_or("2xx", |_| failure);
            (self.backend(place), outcome, self.attempts_at(place))
        });
        outcomes.collect()
    }

    fn retries(&self) -> usize {
        self.attempts_at(0) + self.attempts_at(1) - 1
    }

    fn retry_reason(&self) -> &'static str {
        match self.row.fault {
            Fault::Answers(429, _) => "throttled",
            Fault::Answers(_, _) => "status",
            Fault::Silence => "timeout",
            Fault::Reset => "reset",
            Fault::NoPort | Fault::NoName | Fault::WrongCertificate => "connect",
        }
    }

    /// The breaker of a member after the call.
    fn breaker(&self, place: usize) -> (&'static str, Option<&'static str>) {
        let asked = self.attempts_at(place) > 0 && self.fault_at(place).is_some();
        match self.row.trips.filter(|_| asked) {
            Some(reason) => ("open", Some(reason)),
            None => ("closed", None),
        }
    }
}

impl Form {
    /// Of the Azure schema, which names its model in the path: the same bytes for every case.
    fn body(self) -> String {
        let content = match self {
            Form::Short | Form::Stream => "x".repeat(1_000),
            Form::Long => "x".repeat(5_000_000),
        };
        let mut body = json!({"messages": [{"role": "user", "content": content}]});
        if self == Form::Stream {
            body["stream"] = json!(true);
            // Else the gateway would ask for it, and the body at the backend would be another.
            body["stream_options"] = json!({"include_usage": true});
        }
        body.to_string()
    }
}

const REGIONS: [&str; 2] = ["one", "two"];
/// What a simulator that isn't told otherwise says.
const EXPECTED: &str =
    "This is a simulated answer; no model was asked, and each word here counts one token.";

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[apis.azure]
path = "/openai"
schema = "azure-openai"
models = { @MODELS@ }
[subscriptions.team]
keys = ["@KEY@"]
"#;

const BREAKER: &str = r#"trip-duration = "60s"
accept-retry-after = true
failure-condition = { count = 1, interval = "60s", status-code-ranges = [[408, 408], [429, 429], [499, 599]], error-reasons = @REASONS@ }
"#;

fn behaviour(fault: Fault, region: &str, form: Form) -> Behaviour {
    match fault {
        Fault::Answers(200, _) => Behaviour::default(),
        Fault::Answers(status, wait) => {
            let mut fields = vec![
                ("x-simulator-kept", "as sent"),
                ("x-ratelimit-limit-tokens", "9"),
            ];
            if wait == Wait::Asked {
                fields.push(("retry-after", "7"));
            }
            let answer = Behaviour::answer(status, &fields, Some(&fault_body(status, region)));
            // One that closes after its answer, for variety: nothing of the matrix depends on it.
            answer.wired(WireForm {
                close: form == Form::Stream,
                ..WireForm::default()
            })
        }
        Fault::Silence => Behaviour::hang(),
        Fault::Reset => Behaviour::reset(),
        // Never reached: that would be seen in the journal.
        Fault::NoPort | Fault::NoName | Fault::WrongCertificate => Behaviour::default(),
    }
}

fn fault_body(status: u16, region: &str) -> String {
    format!(r#"{{"error":{{"code":"{status}","message":"said {region}"}}}}"#)
}

/// The text of an answer, whole or from its stream, which must have come to its end.
fn said(answer: &Answer, form: Form) -> String {
    if form != Form::Stream {
        let text = &answer.json()["choices"][0]["message"]["content"];
        return text.as_str().unwrap_or_default().to_owned();
    }
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let deltas = events.filter_map(|data| {
        let event: Value = serde_json::from_str(data).ok()?;
        let delta = event.pointer("/choices/0/delta/content")?.as_str()?;
        Some(delta.to_owned())
    });
    deltas.collect()
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn simulator(region: &str) -> Handle {
    let options = Options {
        region: region.into(),
        ..Options::default()
    };
    Simulator::start(options).await.unwrap()
}

fn of_case(simulator: &Handle, case: &Case) -> Vec<Record> {
    let part = case.part();
    let mut records = simulator.requests();
    records.retain(|record| record.path.contains(&part));
    records
}

/// Every case of the matrix, and then what metrics and `/status` say of all of them.
async fn the_matrix_holds(transport: Transport) {
    let world = World::new(transport).await;
    let cases = cases();
    let gateway = world.gateway(&cases);
    for case in &cases {
        world.check(&gateway, case);
        for simulator in &world.simulators {
            simulator.clear();
        }
    }
    // What is accounted after an answer has left is seen a little later.
    gateway.wait_for_metric("tollgate_requests_total", &[], cases.len() as f64);
    check_metrics(&gateway.metrics(), &cases);
    check_breakers(&gateway, &cases);
    let handshakes: Vec<_> = world.fronts.iter().flat_map(TlsFront::seen).collect();
    let Transport::Tls(protocol) = transport else {
        return;
    };
    assert!(!handshakes.is_empty());
    assert!(handshakes.iter().all(|seen| seen.protocol == protocol));
}

fn check_metrics(page: &str, cases: &[Case]) {
    let attempts = metrics::by_label(page, "tollgate_backend_attempts_total", "backend");
    let trips = metrics::by_label(page, "tollgate_backend_trips_total", "backend");
    for case in cases {
        for (backend, outcome, count) in case.outcomes() {
            let all = attempts.get(&backend).copied().unwrap_or_default();
            let labels = [("backend", backend.as_str()), ("status", outcome)];
            let found = metrics::sum(page, "tollgate_backend_attempts_total", &labels);
            assert_eq!((found, all), (count as f64, count as f64), "{labels:?}");
        }
        let name = case.name();
        let labels = [("pool", name.as_str()), ("reason", case.retry_reason())];
        let retries = metrics::sum(page, "tollgate_retries_total", &labels);
        assert_eq!(retries, case.retries() as f64, "{labels:?}");
        for place in 0..2 {
            let found = trips.get(&case.backend(place)).copied().unwrap_or_default();
            let tripped = f64::from(u8::from(case.breaker(place).0 == "open"));
            assert_eq!(found, tripped, "trips of {}", case.backend(place));
        }
    }
}

fn check_breakers(gateway: &Gateway, cases: &[Case]) {
    let status = http::get(&format!("{}/status", gateway.admin_url)).json();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let breakers: HashMap<_, _> = status["backends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backend| {
            (
                text(&backend["name"]).unwrap(),
                (text(&backend["state"]), text(&backend["reason"])),
            )
        })
        .collect();
    for case in cases {
        for place in 0..2 {
            let (state, reason) = case.breaker(place);
            let found = breakers[&case.backend(place)].clone();
            // The time that was asked for may be over by now, on a slow machine.
            let is_over = found.0.as_deref() == Some("half-open")
                && matches!(case.row.fault, Fault::Answers(_, Wait::Asked));
            let state = if is_over { "half-open" } else { state };
            let wanted = (Some(state.to_owned()), reason.map(str::to_owned));
            assert_eq!(found, wanted, "the breaker of {}", case.backend(place));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_holds_over_plain_http_1() {
    the_matrix_holds(Transport::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_holds_over_tls() {
    the_matrix_holds(Transport::Tls("http/1.1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_holds_over_tls_and_http_2() {
    the_matrix_holds(Transport::Tls("h2")).await;
}

/// The matrix's last row: nobody is told anything, nobody else is asked, and it is nobody's fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_is_no_failover() {
    for transport in [
        Transport::Plain,
        Transport::Tls("http/1.1"),
        Transport::Tls("h2"),
    ] {
        let world = World::new(transport).await;
        let row = fault(
            "200",
            Fault::Answers(200, Wait::Unasked),
            Some("reset"),
            PASSED_ON,
        );
        let cases = [Form::Short, Form::Stream, Form::Long].map(|form| Case {
            row,
            form,
            second: Second::Healthy,
        });
        let gateway = world.gateway(&cases);
        for case in &cases {
            let (name, first) = (case.name(), &world.simulators[0]);
            first.set(Behaviour::hang().on_path(&case.part()));
            let mut caller = Caller::connect(&gateway.url);
            caller.post(&case.path(), "", case.form.body().as_bytes());
            let asked = |records: &[Record]| records.iter().any(|record| record.body.complete);
            first.wait_for(asked).await.unwrap();
            caller.close();
            let left = |records: &[Record]| records[0].answer.ending == Ending::CallerGone;
            let records = first.wait_for(left).await.unwrap();
            assert_eq!(records.len(), 1, "{name}");
            assert_eq!(world.simulators[1].requests().len(), 0, "{name}");
            let labels = [("backend", &*case.backend(0)), ("status", "client_gone")];
            gateway.wait_for_metric("tollgate_backend_attempts_total", &labels, 1.0);
            first.clear();
        }
        wait_until("nothing is in flight", || {
            let status = http::get(&format!("{}/status", gateway.admin_url)).json();
            (status["in_flight"] == 0 && status["buffered_bytes"] == 0).then_some(())
        });
        assert_eq!(gateway.metric("tollgate_retries_total", &[]), 0.0);
        assert_eq!(gateway.metric("tollgate_backend_state", &[]), 0.0);
        assert_eq!(gateway.metric("tollgate_backend_attempts_total", &[]), 3.0);
    }
}
