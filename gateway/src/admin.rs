//! The admin listener: is the process alive, is it ready, what has it counted, what is it doing.
//!
//! It has a thread and a listener of its own: Pingora closes its listeners as soon as a drain begins, and then is
//! when `/readyz` has to say so and `/livez` has to go on answering.
//! It changes one thing only: kept answers can be taken out of the semantic caches.
//! Nothing here shows a secret, a key or a prompt. With `admin-token` only the probes are for everyone.

mod access;
mod live;
mod page;
mod purge;
mod status;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use filters::breaker::State as Breaker;
use http::{Method, Response, StatusCode, header};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use pingora::server::ShutdownWatch;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock;
use crate::state::State;
use crate::store::redis::health::Operation;

use self::live::Live;

/// Answers on the admin listener.
struct Admin {
    state: Arc<State>,
    live: Live,
}

/// Whether callers should be sent here.
enum Readiness {
    Ready,
    Draining,
    Starting,
    NoBackend,
}

/// After a connection couldn't be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
/// A connection is kept open for its next request so long. Seconds.
const KEEPALIVE_S: u64 = 60;

/// Answers from when it may until the process ends; after a hand-over only those who are connected already.
///
/// # Errors
/// When there is no thread to be had.
pub fn listen(
    socket: std::net::TcpListener,
    state: Arc<State>,
    mut opening: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(async { TcpListener::from_std(socket) })?;
    let live = Live::new(state.clone());
    let admin = Arc::new(Admin { state, live });
    let serve = move || {
        runtime.block_on(async {
            // Until then the process before answers. Its other end lives as long as the process.
            let _ = opening.wait_for(|is_open| *is_open).await;
            serve(listener, admin).await;
        });
    };
    std::thread::Builder::new()
        .name("admin".into())
        .spawn(serve)
        .map(|_detached| ())
}

async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    // Never sent: what is asked here is answered to the end.
    let (_running, shutdown) = watch::channel(false);
    let pictures = admin.clone();
    tokio::spawn(async move { pictures.live.run().await });
    let state = admin.state.clone();
    tokio::select! {
        () = accept(&listener, &admin, &shutdown) => {}
        () = state.stop.handed_over() => {}
    }
    drop(listener);
    // Whoever is connected is answered until the process ends.
    std::future::pending::<()>().await;
}

async fn accept(listener: &TcpListener, admin: &Arc<Admin>, shutdown: &watch::Receiver<bool>) {
    loop {
        let Ok((stream, _peer)) = listener.accept().await else {
            // Out of descriptors, most likely: give connections the time to end.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (admin, shutdown) = (admin.clone(), shutdown.clone());
        tokio::spawn(async move {
            let mut stream: Option<pingora::protocols::Stream> =
                Some(Box::new(Stream::from(stream)));
            while let Some(open) = stream {
                stream = admin.process_new(open, &shutdown).await;
            }
        });
    }
}

#[async_trait]
impl HttpServerApp for Admin {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        session.set_keepalive(Some(KEEPALIVE_S));
        let answer = match self.refusal(&session) {
            Some(refusal) => refusal,
            None if !is_for_events(&session) => self.response(&session).await,
            None if self.live.serve(&mut session).await => return None,
            None => too_many_pages(),
        };
        send(session, answer).await
    }
}

impl Admin {
    /// What is said to somebody who may not ask this.
    fn refusal(&self, session: &ServerSession) -> Option<Response<Vec<u8>>> {
        let head = session.req_header();
        let token = self.state.plan.load().server.admin_token;
        if !access::is_allowed(token.as_ref(), head.uri.path(), &head.headers) {
            return Some(access::ask());
        }
        let is_forged = head.method == Method::POST && access::is_from_elsewhere(&head.headers);
        let text = "a page of another site may not do this
";
        is_forged.then(|| answer(StatusCode::FORBIDDEN, TEXT, text.into()))
    }

    async fn response(&self, session: &ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        if head.uri.path() == purge::PATH {
            return match head.method {
                Method::POST => purge::purge(&self.state, head.uri.query().unwrap_or("")).await,
                _ => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only POST\n".into()),
            };
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
        }
        let state = &self.state;
        let path = head.uri.path();
        if let Some(file) = page::file(path) {
            return file;
        }
        match path {
            "/livez" => answer(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => readyz(state),
            "/metrics" => answer(StatusCode::OK, PROMETHEUS, metrics(state)),
            status::CONFIGURATION => answer(
                StatusCode::OK,
                JSON,
                status::configuration(state).to_string(),
            ),
            "/status" => answer(StatusCode::OK, JSON, status::json(state).to_string()),
            _ => answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "try /livez, /readyz, /metrics, /status, /configuration or /\n".into(),
            ),
        }
    }
}

fn is_for_events(session: &ServerSession) -> bool {
    let head = session.req_header();
    head.method == Method::GET && head.uri.path().strip_prefix('/') == Some(live::PATH)
}

/// Answers, and gives the connection back where it can be used again.
async fn send(mut session: ServerSession, answer: Response<Vec<u8>>) -> Option<ReusedHttpStream> {
    let (head, body) = answer.into_parts();
    session
        .write_response_header(Box::new(head.into()))
        .await
        .ok()?;
    if !body.is_empty() {
        session.write_response_body(body.into(), true).await.ok()?;
    }
    let settings = HttpPersistentSettings::for_session(&session);
    let stream = session.finish().await.ok()??;
    Some(ReusedHttpStream::from_reusable_stream(stream, settings))
}

fn too_many_pages() -> Response<Vec<u8>> {
    let text = "too many pages are open; close one\n";
    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into())
}

fn readyz(state: &State) -> Response<Vec<u8>> {
    let (status, text) = match readiness(state) {
        Readiness::Ready => (StatusCode::OK, "ready\n"),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Readiness::NoBackend => (
            StatusCode::SERVICE_UNAVAILABLE,
            "no pool has a usable backend\n",
        ),
    };
    answer(status, TEXT, text.into())
}

fn readiness(state: &State) -> Readiness {
    if state.stop.is_handed_over() {
        // The address is served, by the other process: a load balancer has nothing to notice.
        Readiness::Ready
    } else if state.stop.is_leaving() {
        Readiness::Draining
    } else if !state.ready.load(Ordering::Relaxed) {
        Readiness::Starting
    } else if !has_usable_pool(state) {
        Readiness::NoBackend
    } else {
        Readiness::Ready
    }
}

fn has_usable_pool(state: &State) -> bool {
    let now = clock::now().time();
    let plan = state.plan.load();
    let mut pools = plan.pools.iter();
    plan.pools.is_empty()
        || pools.any(|pool| {
            let mut members = pool.members.iter();
            members.any(|member| state.health.is_usable(&member.backend, now))
        })
}

/// Gauges are set when they are asked for: a breaker's time passes without an event.
fn metrics(state: &State) -> String {
    let now = clock::now().time();
    for backend in &state.plan.load().backends {
        let gauge = match state.health.backend(backend).state(now) {
            Breaker::Closed => 0.0,
            Breaker::Open { .. } => 1.0,
            Breaker::HalfOpen { .. } => 2.0,
        };
        state.metrics.backend_state(&backend.name, gauge);
    }
    if let Some(redis) = state.limits.redis() {
        let health = redis.health();
        let operations = Operation::ALL.into_iter();
        let errors = operations.map(|operation| (operation.label(), health.errors(operation)));
        state.metrics.redis(health.is_up(), errors);
    }
    if let Some(log) = &state.usage_log {
        state.metrics.usage_log_dropped(log.dropped());
        state.metrics.usage_log_failing(log.is_failing());
    }
    state.metrics.lines_dropped(&state.logs.dropped());
    state.metrics.spans_dropped(state.traces.dropped());
    state
        .metrics
        .render(state.bodies.held_bytes(), state.live.streams())
}

fn answer(status: StatusCode, kind: &str, body: String) -> Response<Vec<u8>> {
    let built = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, body.len())
        .header(header::CACHE_CONTROL, "no-store")
        .body(body.into_bytes());
    built.unwrap_or_default()
}
