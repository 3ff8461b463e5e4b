//! A model endpoint that isn't one: Azure OpenAI and OpenAI at once, on one port, over HTTP/1.1 and h2c.
//!
//! It runs inside a test or as a program of its own. It answers with made-up words whose tokens can be counted by hand,
//! keeps a journal of what it was asked, and breaks in the ways that networks and providers break, on request. It binds
//! loopback unless told otherwise, and never calls anyone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use self::answer::Connection;
use self::journal::Journal;
use self::limits::{Allowance, Limits};
use self::script::ScriptBody;
use self::state::{Behaviours, State};
use self::wire::{Link, Wire};

mod answer;
pub mod behaviour;
mod chat;
mod completions;
mod control;
mod echo;
pub mod embeddings;
mod gate;
mod gzip;
mod journal;
mod limits;
mod made;
mod receive;
mod reply;
mod responses;
mod route;
mod saying;
mod schema;
mod script;
mod shape;
mod state;
mod upgrade;
mod usage;
mod wire;

pub use self::behaviour::Behaviour;
pub use self::gate::Gate;
pub use self::journal::{AnswerRecord, Charge, Ending, ReceivedBody, Record};

/// How a simulator starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The key it asks for, as `api-key` or bearer; none: it asks for none.
    pub api_key: Option<String>,
    /// Tokens a minute for each deployment.
    pub tokens_per_minute: Option<u64>,
    /// Requests a minute for each deployment.
    pub requests_per_minute: Option<u64>,
    /// How long a minute of these two limits is: a test needn't wait for a real one.
    pub minute: Duration,
    /// What `x-ms-region` says.
    pub region: String,
    /// What it does until told otherwise.
    pub behaviour: Behaviour,
    /// One line a request on stderr.
    pub log: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            api_key: None,
            tokens_per_minute: None,
            requests_per_minute: None,
            minute: MINUTE,
            region: "Simulated".to_owned(),
            behaviour: Behaviour::default(),
            log: false,
        }
    }
}

/// Starts simulators.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Binds and serves on the current tokio runtime, until the handle is stopped or dropped.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn start(options: Options) -> io::Result<Handle> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let allowance = Allowance {
            tokens: options.tokens_per_minute,
            requests: options.requests_per_minute,
        };
        let state = Arc::new(State {
            region: options.region,
            api_key: options.api_key,
            log: options.log,
            journal: Arc::new(Journal::new()),
            gate: Arc::new(Gate::new()),
            limits: Limits::new(allowance, options.minute),
            behaviours: Mutex::new(Behaviours::new(options.behaviour)),
            stored: Mutex::default(),
            connections: 0.into(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Handle {
            address,
            state,
            task: Mutex::new(Some(task)),
        })
    }

    /// Starts with the default options.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start_default() -> io::Result<Handle> {
        Self::start(Options::default()).await
    }
}

/// A running simulator. Dropping it stops it.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    state: Arc<State>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The condition waited for didn't come; this is what there was.
#[derive(Debug)]
pub struct DeadlinePassed {
    /// The journal at the deadline.
    pub records: Vec<Record>,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and the address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What to do from now on. With `times` it goes first for so many requests, in the order in which it was set;
    /// without, it replaces the one for the same `path_contains`.
    pub fn set(&self, behaviour: Behaviour) {
        self.state.behaviours.lock().set(behaviour);
    }

    /// Back to the behaviour it started with.
    pub fn reset_behaviour(&self) {
        self.state.behaviours.lock().reset();
    }

    /// New limits for each deployment.
    pub fn set_limits(&self, tokens_per_minute: Option<u64>, requests_per_minute: Option<u64>) {
        self.state.limits.set(Allowance {
            tokens: tokens_per_minute,
            requests: requests_per_minute,
        });
    }

    /// Starts a new minute for every limit.
    pub fn refill(&self) {
        self.state.limits.refill();
    }

    /// Releases the events of gated answers.
    #[must_use]
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.state.gate)
    }

    /// All requests so far, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Record> {
        self.state.journal.all()
    }

    /// Forgets all requests; ids go on counting.
    pub fn clear(&self) {
        self.state.journal.clear();
    }

    /// The tokens that it charged for, by what it handed over of each answer.
    #[must_use]
    pub fn bill(&self) -> Charge {
        self.state.journal.bill()
    }

    /// Waits until the condition holds, at most ten seconds.
    ///
    /// # Errors
    /// When the deadline passes first.
    pub async fn wait_for(
        &self,
        condition: impl Fn(&[Record]) -> bool,
    ) -> Result<Vec<Record>, DeadlinePassed> {
        self.wait_until(DEADLINE, condition).await
    }

    /// Waits until the condition holds, at most so long.
    ///
    /// # Errors
    /// When the deadline passes first.
    pub async fn wait_until(
        &self,
        deadline: Duration,
        condition: impl Fn(&[Record]) -> bool,
    ) -> Result<Vec<Record>, DeadlinePassed> {
        let found = self.state.journal.wait_for(deadline, condition).await;
        found.ok_or_else(|| DeadlinePassed {
            records: self.requests(),
        })
    }

    /// Closes the port and every connection. The address can be bound again afterwards.
    pub async fn stop(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.abort();
            // The task was cancelled, which is what it reports.
            let _ = task.await;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&state)));
                }
                // Out of descriptors, most likely: give connections the time to end.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let link = Arc::new(Link::default());
    let connection = Arc::new(Connection {
        number: state.next_connection(),
        state,
        link: Arc::clone(&link),
    });
    let service = service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move { answer(&connection, request).await }
    });
    // How a connection ends is in the journal; most errors here are those that a test asked for.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(Wire::new(stream, link)), service)
        .await;
}

async fn answer(
    connection: &Connection,
    request: Request<Incoming>,
) -> io::Result<Response<Either<ScriptBody, Full<Bytes>>>> {
    if request.uri().path().starts_with(control::PREFIX) {
        return Ok(control::answer(&connection.state, request)
            .await
            .map(Either::Right));
    }
    if request.headers().contains_key("upgrade") && request.version() == http::Version::HTTP_11 {
        return Ok(upgrade::answer(connection, request).map(Either::Right));
    }
    Ok(connection.answer(request).await?.map(Either::Left))
}
