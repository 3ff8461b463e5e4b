//! Load: closed loop for what a contestant can do at most, open loop for how long a caller waits at half of that.
//!
//! Closed: each connection sends its next call when the last answer is complete. Its latencies are queueing and aren't
//! used. Open: calls are due at fixed times, whether the last answer came or not, and a call that had to wait for its
//! connection counts from when it was due, not from when it left: so a contestant that stalls can't hide it. Each
//! connection of the open loop has a thread, since a timer of an event loop is a millisecond wide and latencies aren't.
//! Every answer's status and bytes are checked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::upstream::now_us;
use crate::wire::{Message, Reader};
use crate::workload::{Call, STAMP_DIGITS, STAMP_MARK};

/// Whom to call, with what.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) calls: Arc<[Call]>,
    pub(crate) exactness: Exactness,
}

/// How an answer is compared with what the upstream sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exactness {
    /// To the byte.
    Bytes,
    /// This contestant writes answers anew: the status, most of the bytes, most of the events, and the end.
    Sense,
}

/// What came of a run. Times are in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) wrong: u64,
    /// The first wrong answer, for the report.
    pub(crate) complaint: Option<String>,
    pub(crate) elapsed: Duration,
    /// From when the call was due (open loop) or sent (closed loop) to the answer's last byte.
    pub(crate) latencies: Vec<u32>,
    /// In which slice of the run each of these calls was due (open loop).
    pub(crate) slices: Vec<u16>,
    /// The slice of the call under way.
    slice: u16,
    /// The same to the first byte of the answer's body.
    pub(crate) firsts: Vec<u32>,
    /// How long each event that bears a time was under way.
    pub(crate) delays: Vec<u32>,
}

impl Outcome {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.wrong += other.wrong;
        self.complaint = self.complaint.take().or(other.complaint);
        self.latencies.extend(other.latencies);
        self.slices.extend(other.slices);
        self.firsts.extend(other.firsts);
        self.delays.extend(other.delays);
    }

    fn fail(&mut self, error: &io::Error) {
        self.wrong += 1;
        self.complaint = self.complaint.take().or(Some(error.to_string()));
    }
}

/// Closed loop, for so long.
pub(crate) async fn closed(target: &Target, connections: usize, time: Duration) -> Outcome {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let mut caller = Caller::new(target, number);
        tasks.spawn(async move {
            let mut outcome = Outcome::default();
            while began.elapsed() < time {
                caller.call(None, &mut outcome).await;
            }
            outcome
        });
    }
    let mut sum = joined(tasks).await;
    sum.elapsed = began.elapsed();
    sum
}

/// One call over each of so many connections, all at once.
pub(crate) async fn each_once(target: &Target, connections: usize) -> Outcome {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let mut caller = Caller::new(target, number);
        tasks.spawn(async move {
            let mut outcome = Outcome::default();
            caller.call(None, &mut outcome).await;
            outcome
        });
    }
    let mut sum = joined(tasks).await;
    sum.elapsed = began.elapsed();
    sum
}

async fn joined(mut tasks: JoinSet<Outcome>) -> Outcome {
    let mut sum = Outcome::default();
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(outcome) => sum.add(outcome),
            Err(error) => sum.fail(&io::Error::other(error)),
        }
    }
    sum
}

/// So many calls over one connection.
pub(crate) async fn times(target: &Target, calls: u64) -> Outcome {
    let mut caller = Caller::new(target, 0);
    let mut outcome = Outcome::default();
    for _ in 0..calls {
        caller.call(None, &mut outcome).await;
    }
    outcome
}

/// Open loop, for so long, with so many calls a second in all.
pub(crate) async fn open(
    target: &Target,
    connections: usize,
    rate: f64,
    time: Duration,
) -> io::Result<Outcome> {
    let connections = connections.max(1);
    let between = Duration::from_secs_f64(connections as f64 / rate.max(0.1));
    let began = Instant::now() + Duration::from_millis(20);
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let caller = Caller::new(target, number);
            let first = began + between.mul_f64(number as f64 / connections as f64);
            std::thread::spawn(move || on_schedule(caller, (began, first), between, began + time))
        })
        .collect();
    let joined = tokio::task::spawn_blocking(move || {
        let mut sum = Outcome::default();
        for thread in threads {
            match thread.join() {
                Ok(Ok(outcome)) => sum.add(outcome),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::Error::other("a thread of the load panicked")),
            }
        }
        sum.elapsed = began.elapsed();
        Ok(sum)
    });
    joined.await.map_err(io::Error::other)?
}

fn on_schedule(
    mut caller: Caller,
    (run_began, first): (Instant, Instant),
    between: Duration,
    end: Instant,
) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut outcome = Outcome::default();
    let mut due = first;
    // A contestant that is far behind would keep its schedule for minutes.
    let give_up = end + OPEN_LOOP_OVERTIME;
    while due < end && Instant::now() < give_up {
        let slice = due.saturating_duration_since(run_began).as_millis() / SLICE.as_millis();
        outcome.slice = u16::try_from(slice).unwrap_or(u16::MAX);
        let wait = due.saturating_duration_since(Instant::now());
        let began = if wait.is_zero() {
            due
        } else {
            std::thread::sleep(wait);
            // The generator was free and woke late: that isn't the contestant's.
            Instant::now()
        };
        runtime.block_on(caller.call(Some(began), &mut outcome));
        due += between;
    }
    Ok(outcome)
}

const OPEN_LOOP_OVERTIME: Duration = Duration::from_secs(5);
/// A run is looked at in slices of this length: what halts a machine for a moment is in few of them.
const SLICE: Duration = Duration::from_millis(250);

/// One connection, and the calls that go over it.
struct Caller {
    target: Target,
    calls: Vec<Call>,
    next: usize,
    stream: Option<Reader<TcpStream>>,
}

impl Caller {
    fn new(target: &Target, number: usize) -> Self {
        Self {
            target: target.clone(),
            calls: target.calls.to_vec(),
            next: number,
            stream: None,
        }
    }

    async fn call(&mut self, began: Option<Instant>, outcome: &mut Outcome) {
        let done = tokio::time::timeout(ANSWER_BOUND, self.try_call(began, outcome)).await;
        let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = done {
            self.stream = None;
            outcome.fail(&error);
            // What refuses at once would otherwise be asked in a busy loop.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn try_call(&mut self, began: Option<Instant>, outcome: &mut Outcome) -> io::Result<()> {
        let mut reader = match self.stream.take() {
            Some(reader) => reader,
            None => {
                let stream = TcpStream::connect(self.target.address).await?;
                stream.set_nodelay(true)?;
                Reader::new(stream)
            }
        };
        let place = self.next % self.calls.len().max(1);
        self.next += 1;
        let Some(call) = self.calls.get_mut(place) else {
            return Err(io::Error::other("no calls"));
        };
        let began = began.unwrap_or_else(Instant::now);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        reader.get_mut().write_all(call.numbered(serial)).await?;
        let delays = &mut outcome.delays;
        let answer = reader
            .next_in_pieces(|piece| note_delays(piece, delays))
            .await?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let latency = began.elapsed();
        self.target.exactness.check(call, &answer)?;
        outcome.requests += 1;
        outcome.latencies.push(micros(latency));
        outcome.slices.push(outcome.slice);
        if let Some(first) = answer.first_byte {
            outcome
                .firsts
                .push(micros(first.saturating_duration_since(began)));
        }
        if !answer.closes {
            self.stream = Some(reader);
        }
        Ok(())
    }
}

/// New with each call of this run, whoever is called.
static SERIAL: AtomicU64 = AtomicU64::new(1);
/// Nothing measured here takes this long.
const ANSWER_BOUND: Duration = Duration::from_secs(60);

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

fn note_delays(piece: &[u8], delays: &mut Vec<u32>) {
    if piece.len() > PACED_PIECE_MAX_BYTES {
        return;
    }
    let mark = STAMP_MARK.as_bytes();
    for at in memmem::find_iter(piece, mark) {
        let start = at + mark.len();
        let digits = piece.get(start..start + STAMP_DIGITS);
        let sent = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u64>().ok());
        if let Some(sent) = sent {
            delays.push(u32::try_from(now_us().saturating_sub(sent)).unwrap_or(u32::MAX));
        }
    }
}

/// Only streams with pauses bear times; nothing large is searched for them.
const PACED_PIECE_MAX_BYTES: usize = 4096;

impl Exactness {
    fn check(self, call: &Call, answer: &Message) -> io::Result<()> {
        let expected = call.expected;
        let found = answer.body.len();
        let bytes_fit = match (self, expected.bytes) {
            (_, None) => true,
            (Self::Bytes, Some(bytes)) => found == bytes,
            // Its events are counted instead.
            (Self::Sense, Some(_)) if expected.events > 0 => true,
            (Self::Sense, Some(bytes)) => found >= bytes / 2,
        };
        let events_fit = match self {
            Self::Bytes => true,
            Self::Sense if expected.events == 0 => true,
            Self::Sense => {
                let events = memmem::find_iter(&answer.body, b"data: ").count();
                let ends = memmem::find(&answer.body, b"[DONE]").is_some();
                ends && events + 5 >= expected.events
            }
        };
        if answer.status == expected.status && bytes_fit && events_fit {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&answer.body);
        let said: String = said.chars().take(200).collect();
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "status {} with {found} bytes instead of {} with {}: {said}",
                answer.status,
                expected.status,
                expected.bytes.unwrap_or_default()
            ),
        ))
    }
}
