//! The admin listener: is the process alive, is it ready, what has it counted, what is it doing.
//!
//! It has a thread and a listener of its own: Pingora closes its listeners as soon as a drain begins, and then is
//! when `/readyz` has to say so and `/livez` has to go on answering.
//! It changes one thing only: kept answers can be taken out of the semantic caches.
//! Nothing here shows a secret, a key or a prompt.

mod purge;
mod status;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use filters::breaker::State as Breaker;
use http::{Method, Response, StatusCode, header};
use pingora::apps::ServerApp;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock;
use crate::state::State;
use crate::store::redis::health::Operation;

/// Answers on the admin listener.
struct Admin(Arc<State>);

/// After a connection couldn't be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const PAGE: &str = include_str!("admin/page.html");

/// Listens, and answers until the process ends.
///
/// # Errors
/// When the address can't be bound, or there is no thread to be had.
pub fn listen(address: SocketAddr, state: Arc<State>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind(address))?;
    let serve = move || runtime.block_on(serve(listener, Arc::new(Admin(state))));
    std::thread::Builder::new()
        .name("admin".into())
        .spawn(serve)
        .map(|_detached| ())
}

async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    // Never sent: what is asked here is answered to the end.
    let (_running, shutdown) = watch::channel(false);
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
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        if head.uri.path() == purge::PATH {
            return match head.method {
                Method::POST => purge::purge(&self.0, head.uri.query().unwrap_or("")).await,
                _ => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only POST\n".into()),
            };
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
        }
        let state = &self.0;
        match head.uri.path() {
            "/" => answer(StatusCode::OK, HTML, PAGE.into()),
            "/livez" => answer(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => readiness(state),
            "/metrics" => answer(StatusCode::OK, PROMETHEUS, metrics(state)),
            "/status" => answer(StatusCode::OK, JSON, status::json(state).to_string()),
            _ => answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "try /livez, /readyz, /metrics, /status or /\n".into(),
            ),
        }
    }
}

fn readiness(state: &State) -> Response<Vec<u8>> {
    if state.draining.load(Ordering::Relaxed) {
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".into());
    }
    if !state.ready.load(Ordering::Relaxed) {
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n".into());
    }
    if !has_usable_pool(state) {
        let text = "no pool has a usable backend\n";
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into());
    }
    answer(StatusCode::OK, TEXT, "ready\n".into())
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
    }
    state.metrics.render(state.bodies.held_bytes())
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
