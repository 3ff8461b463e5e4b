//! The admin listener: is the process alive, is it ready, what has it counted, what is it doing.
//!
//! Nothing here shows a secret, a key or a prompt.

mod status;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::state::State;

/// Answers on the admin listener.
pub struct Admin(pub Arc<State>);

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const PAGE: &str = include_str!("admin/page.html");

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        if head.method != Method::GET && head.method != Method::HEAD {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
        }
        let state = &self.0;
        match head.uri.path() {
            "/" => answer(StatusCode::OK, HTML, PAGE.into()),
            "/livez" => answer(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => readiness(state),
            "/metrics" => {
                let text = state.metrics.render(state.bodies.held_bytes());
                answer(StatusCode::OK, PROMETHEUS, text)
            }
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
    answer(StatusCode::OK, TEXT, "ready\n".into())
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
