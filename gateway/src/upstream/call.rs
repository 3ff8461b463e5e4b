//! A small call of the gateway's own: to a token service, or for an issuer's keys.
//!
//! On the connector that backends are called with, so there is no second HTTP stack and no second set of trusted
//! authorities. One connection a call, since there is one in many minutes. Bounded in time and size; a redirect isn't
//! followed, for what is shown to one host isn't meant for another. Never logs what is sent or what came.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use filters::retry_after;
use http::{Method, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::fault::Fault;
use super::headers::HeaderView;
use super::peers;
use crate::clock;
use crate::config::plan::Endpoint;

/// The whole call.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Tokens and key sets are a few KB. Bytes.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// Interim answers (100, 103) beyond this many are no answer.
const INTERIM_ANSWERS_MAX: usize = 4;

/// What is asked.
#[derive(Debug)]
pub struct Call<'a> {
    /// Where.
    pub endpoint: &'a Endpoint,
    /// PEM of the authorities to trust instead of the system's.
    pub ca_pem: Option<&'a [u8]>,
    /// Path and query, after the endpoint's own path.
    pub target: String,
    /// A field beside the usual ones.
    pub field: Option<(&'static str, &'a str)>,
    /// What is posted; `None`: it is a GET.
    pub form: Option<String>,
}

/// What was answered.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// How long it asks to be left alone.
    pub wait: Option<Duration>,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// Whether it is what was asked for.
    pub fn is_well(&self) -> bool {
        self.status / 100 == 2
    }
}

impl Call<'_> {
    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// In words that may be logged: nothing of what was sent or came.
    pub async fn ask(&self, connector: &Connector) -> std::result::Result<Answer, String> {
        match tokio::time::timeout(TIMEOUT, self.exchange(connector)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Fault(&error).to_string()),
            Err(_elapsed) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }

    async fn exchange(&self, connector: &Connector) -> Result<Answer> {
        let peer = self.peer().await?;
        let (mut upstream, _reused) = connector.get_http_session(&peer).await?;
        upstream
            .write_request_header(Box::new(self.head()?))
            .await?;
        if let Some(form) = &self.form {
            let body = Bytes::copy_from_slice(form.as_bytes());
            upstream.write_request_body(body, true).await?;
        }
        upstream.finish_request_body().await?;
        read(&mut upstream).await
    }

    async fn peer(&self) -> Result<HttpPeer> {
        let Endpoint {
            tls, host, port, ..
        } = self.endpoint;
        let mut peer = HttpPeer::new(address(host, *port).await?, *tls, host.clone());
        let options = &mut peer.options;
        options.connection_timeout = Some(CONNECT_TIMEOUT);
        options.total_connection_timeout = Some(CONNECT_TIMEOUT);
        options.alpn = ALPN::H1;
        options.ca = self.ca_pem.map(peers::authorities);
        Ok(peer)
    }

    fn head(&self) -> Result<RequestHeader> {
        let method = match self.form {
            Some(_) => Method::POST,
            None => Method::GET,
        };
        let target = format!("{}{}", self.endpoint.base_path, self.target);
        let mut head = RequestHeader::build_no_case(method.as_str(), target.as_bytes(), Some(6))?;
        head.insert_header(header::HOST, self.endpoint.authority.as_str())?;
        head.insert_header(header::ACCEPT, "application/json")?;
        head.insert_header(header::CONNECTION, "close")?;
        if let Some(form) = &self.form {
            let kind = "application/x-www-form-urlencoded";
            head.insert_header(header::CONTENT_TYPE, kind)?;
            head.insert_header(header::CONTENT_LENGTH, form.len())?;
        }
        if let Some((name, value)) = self.field {
            head.insert_header(name, value)?;
        }
        Ok(head)
    }
}

async fn address(host: &str, port: u16) -> Result<SocketAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let found = tokio::net::lookup_host((host, port)).await;
    let mut found = found.map_err(|_| no_address())?;
    found.next().ok_or_else(no_address)
}

fn no_address() -> Box<Error> {
    Error::explain(ErrorType::ConnectNoRoute, "the name has no address")
}

async fn read(upstream: &mut HttpSession) -> Result<Answer> {
    for _ in 0..=INTERIM_ANSWERS_MAX {
        upstream.read_response_header().await?;
        let head = upstream.response_header();
        let Some(head) = head.filter(|head| !head.status.is_informational()) else {
            continue;
        };
        let status = head.status.as_u16();
        let wait = retry_after::wait(&HeaderView(&head.headers), clock::unix_time());
        let mut body = BytesMut::new();
        while let Some(chunk) = upstream.read_response_body().await? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX_BYTES {
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "too long an answer");
            }
        }
        let body = body.freeze();
        return Ok(Answer { status, wait, body });
    }
    Error::e_explain(ErrorType::InvalidHTTPHeader, "no answer but interim ones")
}
