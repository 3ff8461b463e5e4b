//! The resource itself: its URL, and what it says its deployments are.
//!
//! One call, made when the command runs and never by the gateway. The list is Azure's own at the data plane,
//! which answers to one old `api-version` only; newer ones have moved it to the management API, where a
//! resource's key isn't enough. A deployment that isn't ready yet is left out.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use filters::route;
use http::Uri;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use serde::Deserialize;

use super::ImportError;
use super::azure::Deployment;
use crate::config::secret::Secret;
use crate::stage::respond;
use crate::upstream::fault::Fault;

/// How the gateway will prove itself to the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// By a key that an environment variable holds.
    ApiKeyIn {
        /// The variable's name.
        variable: String,
    },
    /// By the identity that Azure gives to the machine.
    ManagedIdentity {
        /// Which one, where there are several.
        client_id: Option<String>,
    },
}

/// A resource's URL without what the gateway adds itself.
pub fn normal(endpoint: &str) -> Result<String, ImportError> {
    let wrong = || {
        let message = format!(
            "--endpoint: found \"{endpoint}\", expected a URL such as https://contoso.openai.azure.com"
        );
        ImportError::new(message)
    };
    let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| ["http", "https"].contains(scheme));
    let authority = uri
        .authority()
        .filter(|authority| !authority.as_str().contains('@'));
    let (scheme, authority) = (scheme.ok_or_else(wrong)?, authority.ok_or_else(wrong)?);
    if uri.query().is_some() || route::decoded(uri.path()).is_none() {
        return Err(wrong());
    }
    let path = uri.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path);
    let path = path
        .strip_suffix("/openai")
        .or_else(|| path.strip_suffix("/models"))
        .unwrap_or(path);
    Ok(format!("{scheme}://{authority}{path}"))
}

/// `contoso` of `https://contoso.openai.azure.com`; a name that is always good.
pub fn first_label(endpoint: &str) -> String {
    let host = endpoint.parse::<Uri>().ok();
    let host = host.as_ref().and_then(Uri::host).unwrap_or_default();
    let label = host.split('.').next().unwrap_or_default();
    match label.parse::<u32>().is_err() && !label.is_empty() && !label.starts_with('[') {
        true => label.to_owned(),
        false => "azure-openai".to_owned(),
    }
}

/// Why there is no list.
#[derive(Debug)]
pub struct NoList(String);

impl fmt::Display for NoList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Asks the resource for its deployments, in the order in which it tells them.
pub fn deployments(endpoint: &str, key: &Secret) -> Result<Vec<Deployment>, NoList> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| NoList(error.to_string()))?;
    let asked = async { tokio::time::timeout(TIMEOUT, ask(endpoint, key)).await };
    let body = runtime.block_on(asked);
    let body =
        body.unwrap_or_else(|_| Err(NoList(format!("no answer within {} s", TIMEOUT.as_secs()))))?;
    listed(&body)
}

#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    model: Option<String>,
    status: Option<String>,
}

fn listed(body: &[u8]) -> Result<Vec<Deployment>, NoList> {
    let list: List = serde_json::from_slice(body)
        .map_err(|error| NoList(format!("the list couldn't be read: {error}")))?;
    let is_ready = |entry: &Entry| {
        entry
            .status
            .as_deref()
            .is_none_or(|status| status == "succeeded")
    };
    let deployment = |entry: Entry| Deployment {
        model: entry.model.unwrap_or_else(|| entry.id.clone()),
        name: entry.id,
    };
    Ok(list
        .data
        .into_iter()
        .filter(is_ready)
        .map(deployment)
        .collect())
}

async fn ask(endpoint: &str, key: &Secret) -> Result<Vec<u8>, NoList> {
    let uri: Uri = endpoint
        .parse()
        .map_err(|_| NoList("it is no URL".to_owned()))?;
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let address = address(&host, port)?;
    let mut peer = HttpPeer::new(address, tls, host);
    peer.options.connection_timeout = Some(TIMEOUT);
    peer.options.read_timeout = Some(TIMEOUT);
    let failed = |error: &pingora::Error| NoList(format!("the call failed: {}", Fault(error)));
    let head = head(&uri, key).map_err(|error| failed(&error))?;
    let answer = call(&peer, head).await.map_err(|error| failed(&error))?;
    match answer {
        (status, _) if !respond::is_success(status) => Err(NoList(format!("it answered {status}"))),
        (_, body) => Ok(body),
    }
}

fn address(host: &str, port: u16) -> Result<SocketAddr, NoList> {
    let mut found = (host, port)
        .to_socket_addrs()
        .map_err(|error| NoList(format!("{host}: {error}")))?;
    found
        .next()
        .ok_or_else(|| NoList(format!("{host} has no address")))
}

fn head(uri: &Uri, key: &Secret) -> pingora::Result<RequestHeader> {
    let base = uri.path().trim_end_matches('/');
    let path = format!("{base}/openai/deployments?api-version={LIST_API_VERSION}");
    let mut head = RequestHeader::build("GET", path.as_bytes(), None)?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    head.insert_header("host", authority)?;
    head.insert_header("api-key", key.expose())?;
    head.insert_header("accept", "application/json")?;
    Ok(head)
}

async fn call(peer: &HttpPeer, head: RequestHeader) -> pingora::Result<(u16, Vec<u8>)> {
    let connector: Connector = Connector::new(None);
    let (mut session, _): (HttpSession, bool) = connector.get_http_session(peer).await?;
    session.set_read_timeout(peer.read_timeout());
    session.write_request_header(Box::new(head)).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let status = session
        .response_header()
        .map_or(0, |head| head.status.as_u16());
    let mut body = Vec::new();
    while let Some(chunk) = session.read_response_body().await? {
        body.extend_from_slice(&chunk);
        if body.len() > LIST_MAX_BYTES {
            body.clear();
            break;
        }
    }
    Ok((status, body))
}

/// For the whole call: a person waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A hundred deployments are some 50 KB.
const LIST_MAX_BYTES: usize = 4 << 20;
/// The one that this list answers to.
const LIST_API_VERSION: &str = "2023-03-15-preview";

trait PeerTimeout {
    fn read_timeout(&self) -> Option<Duration>;
}

impl PeerTimeout for HttpPeer {
    fn read_timeout(&self) -> Option<Duration> {
        self.get_peer_options()
            .and_then(|options| options.read_timeout)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_endpoint_is_taken_as_people_copy_it() {
        let normal = |text: &str| normal(text).map_err(|error| error.to_string());
        for given in [
            "https://c.openai.azure.com",
            "https://c.openai.azure.com/",
            "https://c.openai.azure.com/openai/v1/",
            "https://c.openai.azure.com/models",
        ] {
            assert_eq!(
                normal(given).unwrap(),
                "https://c.openai.azure.com",
                "{given}"
            );
        }
        assert_eq!(
            normal("http://127.0.0.1:81/x/openai").unwrap(),
            "http://127.0.0.1:81/x"
        );
        for wrong in [
            "contoso",
            "ftp://contoso",
            "https://a:b@c",
            "https://c/?k=v",
        ] {
            assert!(
                normal(wrong)
                    .unwrap_err()
                    .starts_with("--endpoint: found \""),
                "{wrong}"
            );
        }
        assert_eq!(first_label("https://contoso.openai.azure.com"), "contoso");
        assert_eq!(first_label("http://127.0.0.1:81"), "azure-openai");
    }

    #[test]
    fn a_list_tells_what_is_ready() {
        let body = br#"{"object": "list", "data": [
            {"id": "chat", "model": "gpt-4o", "status": "succeeded", "owner": "me"},
            {"id": "late", "model": "gpt-4o", "status": "running"}, {"id": "bare"}]}"#;
        let told: Vec<(String, String)> = listed(body)
            .unwrap()
            .into_iter()
            .map(|one| (one.name, one.model))
            .collect();
        assert_eq!(
            told,
            [
                ("chat".to_owned(), "gpt-4o".to_owned()),
                ("bare".to_owned(), "bare".to_owned())
            ]
        );
        assert!(listed(b"<html>").is_err());
    }
}
