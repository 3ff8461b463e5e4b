//! Sends spans to a collector in batches, by gRPC or by HTTP, over Pingora's own connector.
//!
//! A collector that is away costs the spans of that time: they aren't kept, so that nothing grows while it is. It is told
//! once, and again when that is over. Never retries; never holds a request up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::sync::mpsc::Receiver;

use super::protobuf::{self, Resource};
use super::span::Span;
use crate::config::plan::{Auth, Backend, Otlp, OtlpProtocol, Timeouts, UpstreamTls};
use crate::stage::{forward, respond};
use crate::upstream::fault::Fault;
use crate::upstream::peers::Peers;

/// Spans are sent when there are so many,
const BATCH_SPANS: usize = 512;
/// or when the first has waited for so long.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// For one batch, in all.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A collector's answer is short. Bytes.
const ANSWER_MAX_BYTES: usize = 64 << 10;

/// The task's own.
pub(super) struct Exporter {
    collector: Backend,
    protocol: OtlpProtocol,
    resource: Resource,
    connector: Connector,
    dropped: Arc<AtomicU64>,
    failing: bool,
}

impl Exporter {
    /// Has sent nothing yet.
    pub fn new(settings: &Otlp, resource: Resource, dropped: Arc<AtomicU64>) -> Self {
        let timeouts = Timeouts {
            connect: SEND_TIMEOUT,
            first_byte: SEND_TIMEOUT,
            between_bytes: SEND_TIMEOUT,
        };
        Exporter {
            collector: Backend {
                name: NAME.into(),
                url: settings.endpoint.clone(),
                schema: None,
                deployment: None,
                api_version: None,
                auth: Auth::None,
                timeouts,
                tls: UpstreamTls::default(),
                http2: Some(settings.protocol == OtlpProtocol::Grpc),
                breaker: None,
            },
            protocol: settings.protocol,
            resource,
            connector: Connector::new(None),
            dropped,
            failing: false,
        }
    }

    /// Until nobody can hand over any more.
    pub async fn run(mut self, mut queue: Receiver<Vec<Span>>) {
        while let Some(first) = queue.recv().await {
            let mut batch = first;
            let deadline = tokio::time::sleep(BATCH_WAIT);
            tokio::pin!(deadline);
            while batch.len() < BATCH_SPANS {
                tokio::select! {
                    more = queue.recv() => match more {
                        Some(more) => batch.extend(more),
                        None => break,
                    },
                    () = &mut deadline => break,
                }
            }
            self.send(&batch).await;
        }
    }

    async fn send(&mut self, batch: &[Span]) {
        let message = protobuf::request(&self.resource, batch);
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.post(message)).await;
        let sent = sent.unwrap_or_else(|_| {
            Error::e_explain(
                ErrorType::ReadTimedout,
                "the collector didn't answer in time",
            )
        });
        match (&sent, self.failing) {
            (Err(error), false) => {
                let endpoint = &self.collector.url.authority;
                tracing::error!(endpoint, error = %Fault(error), "spans can't be sent; they are dropped, requests go on");
            }
            (Ok(()), true) => tracing::info!("spans are sent again"),
            (Ok(()), false) | (Err(_), true) => {}
        }
        self.failing = sent.is_err();
        if sent.is_err() {
            let count = batch.len() as u64;
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    async fn post(&self, message: Vec<u8>) -> pingora::Result<()> {
        let peer = Peers::of(&self.collector).await?;
        match self.post_over(&peer, message.clone()).await {
            // A pooled connection may have been closed meanwhile; the next is new.
            Err(_) => self.post_over(&peer, message).await,
            sent => sent,
        }
    }

    async fn post_over(&self, peer: &HttpPeer, message: Vec<u8>) -> pingora::Result<()> {
        let (mut session, _reused) = self.connector.get_http_session(peer).await?;
        let (head, body) = self.request(message)?;
        session.write_request_header(Box::new(head)).await?;
        session.write_request_body(body, true).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let answered = read(&mut session).await?;
        if answered {
            self.connector
                .release_http_session(session, peer, None)
                .await;
        }
        Ok(())
    }

    fn request(&self, message: Vec<u8>) -> pingora::Result<(RequestHeader, Bytes)> {
        let (path, kind, body) = match self.protocol {
            OtlpProtocol::Http => ("/v1/traces", "application/x-protobuf", Bytes::from(message)),
            OtlpProtocol::Grpc => (GRPC_METHOD, "application/grpc", framed(&message)),
        };
        let path = format!("{}{path}", self.collector.url.base_path);
        let mut head = RequestHeader::build("POST", path.as_bytes(), None)?;
        head.insert_header(header::HOST, self.collector.url.authority.as_str())?;
        head.insert_header(header::CONTENT_TYPE, kind)?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        head.insert_header(
            header::USER_AGENT,
            concat!("tollgate/", env!("CARGO_PKG_VERSION")),
        )?;
        if self.protocol == OtlpProtocol::Grpc {
            head.insert_header(header::TE, "trailers")?;
            forward::to_http2(&mut head, &self.collector)?;
        }
        Ok((head, body))
    }
}

/// As gRPC frames a message: not compressed, and its length.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// Reads the answer to its end; whether the connection can be used again. An error where the collector refused.
async fn read(session: &mut HttpSession) -> pingora::Result<bool> {
    let head = session.response_header();
    let status = head.map_or(0, |head| head.status.as_u16());
    let mut grpc_status = head.and_then(|head| head.headers.get(GRPC_STATUS).cloned());
    let mut read_bytes = 0;
    let mut is_whole = false;
    while read_bytes <= ANSWER_MAX_BYTES {
        match session.read_response_body().await? {
            Some(chunk) => read_bytes += chunk.len(),
            None => {
                is_whole = true;
                break;
            }
        }
    }
    if let (HttpSession::H2(session), true) = (&mut *session, is_whole) {
        let trailers = session.read_trailers().await?;
        grpc_status = grpc_status.or_else(|| trailers?.get(GRPC_STATUS).cloned());
    }
    let refused = grpc_status.as_ref().is_some_and(|status| status != "0");
    if !respond::is_success(status) || refused {
        let grpc = grpc_status.as_ref().and_then(|status| status.to_str().ok());
        let message = format!(
            "the collector answered {status}, gRPC status {}",
            grpc.unwrap_or("none")
        );
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, message));
    }
    Ok(is_whole)
}

/// No backend of a configuration can have it.
const NAME: &str = "\u{1}otlp";
const GRPC_STATUS: &str = "grpc-status";
const GRPC_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
