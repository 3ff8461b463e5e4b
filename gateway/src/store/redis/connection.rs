//! The connection to Redis: fred, with its dangerous defaults changed, and scripts by their digest.
//!
//! With fred's own settings a call to a Redis that is gone never ends. Here every call ends by the
//! configured timeout, is sent once, and the connection is made again by itself.
//!
//! Scripts are sent by digest. A server that lost them says so, and gets the text, which it keeps.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::Builder;
use fred::types::config::{
    Config, ReconnectPolicy, ServerConfig, TlsConfig, TlsConnector, TlsHostMapping,
    UnresponsiveConfig,
};
use fred::types::{FromValue, RespVersion};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::config::plan;

/// No call outlives this; a request's own wait is shorter.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// fred's own calls when a connection is made.
const INTERNAL_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that leaves a call unanswered for this long is closed and made again.
const UNRESPONSIVE: Duration = Duration::from_secs(1);
/// How often that is looked at.
const UNRESPONSIVE_CHECK: Duration = Duration::from_millis(250);
/// Between attempts to connect, from and to.
const RECONNECT_MS: (u32, u32) = (100, 2_000);

/// A script and its digest, once a server told it.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

/// The call failed, timed out or was answered with something else than was asked for.
#[derive(Debug)]
pub struct CallError(String);

impl CallError {
    /// An answer that can't be used.
    pub(super) fn new(why: &str) -> Self {
        CallError(why.to_owned())
    }

    /// For the log.
    pub fn why(&self) -> &str {
        &self.0
    }
}

/// Where Redis is, and whom it must be certified by.
#[derive(Clone)]
pub struct Endpoint {
    /// `redis://` and its kin; a password may stand in it.
    pub url: String,
    /// Authorities as PEM, where the URL asks for TLS; `None`: the system's.
    pub ca_pem: Option<Vec<u8>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Endpoint(***)")
    }
}

impl From<&plan::Redis> for Endpoint {
    fn from(redis: &plan::Redis) -> Self {
        Endpoint {
            url: redis.url.expose().to_owned(),
            ca_pem: redis.ca_pem.clone(),
        }
    }
}

/// A client for this endpoint that connects in the background. Needs a runtime.
///
/// # Errors
/// If the URL isn't one, or the authorities can't be read.
pub fn connect(endpoint: &Endpoint) -> Result<Client, CallError> {
    let told = |error: fred::error::Error| CallError(error.to_string());
    let mut config = config(endpoint)?;
    config.fail_fast = true;
    if wants_resp3(&endpoint.url) {
        config.version = RespVersion::RESP3;
    }
    let mut builder = Builder::from_config(config);
    builder
        .with_connection_config(|connection| {
            connection.connection_timeout = CONNECT_TIMEOUT;
            connection.internal_command_timeout = INTERNAL_TIMEOUT;
            connection.max_command_attempts = 1;
            connection.unresponsive = UnresponsiveConfig {
                interval: UNRESPONSIVE_CHECK,
                max_timeout: Some(UNRESPONSIVE),
            };
        })
        .with_performance_config(|performance| {
            performance.default_command_timeout = CALL_TIMEOUT;
        })
        .set_policy(ReconnectPolicy::new_exponential(
            0,
            RECONNECT_MS.0,
            RECONNECT_MS.1,
            2,
        ));
    let client = builder.build().map_err(told)?;
    // Not awaited: the gateway serves without Redis too.
    client.connect();
    Ok(client)
}

/// As other clients take it: `redis://host:6379/0?protocol=3`.
fn wants_resp3(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|parameter| parameter == "protocol=3")
}

fn config(endpoint: &Endpoint) -> Result<Config, CallError> {
    let told = |error: fred::error::Error| CallError(error.to_string());
    let Some(pem) = &endpoint.ca_pem else {
        return Config::from_url(&endpoint.url).map_err(told);
    };
    // Without its TLS, for which fred would read the system's authorities: there may be none.
    let plain = endpoint.url.replacen("rediss", "redis", 1);
    let mut config = Config::from_url(&plain).map_err(told)?;
    config.tls = Some(TlsConfig {
        connector: connector(pem)?,
        hostnames: host_mapping(&config.server),
    });
    Ok(config)
}

fn connector(pem: &[u8]) -> Result<TlsConnector, CallError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| CallError(format!("ca: {error}")))?;
        let added = roots.add(certificate);
        added.map_err(|error| CallError(format!("ca: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| CallError(format!("tls: {error}")))?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(config))
}

/// A cluster's nodes tell each other by address. Where we know it by a name, its certificates are for that name.
fn host_mapping(server: &ServerConfig) -> TlsHostMapping {
    let ServerConfig::Clustered { hosts, .. } = server else {
        return TlsHostMapping::None;
    };
    let is_address = |host: &str| host.parse::<IpAddr>().is_ok();
    match hosts.first() {
        Some(first) if !is_address(&first.host) => TlsHostMapping::DefaultHost,
        Some(_) | None => TlsHostMapping::None,
    }
}

impl Script {
    /// A script of this text.
    pub const fn new(text: &'static str) -> Self {
        Script {
            text,
            digest: OnceLock::new(),
        }
    }

    /// Asks the server for the digest, once.
    pub async fn load(&self, client: &Client) {
        if self.digest.get().is_none()
            && let Ok(digest) = client.script_load::<String, _>(self.text).await
        {
            // Another was quicker with the same digest.
            let _ = self.digest.set(digest);
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// If there is no answer in time, or none of this kind.
    pub async fn run<T: FromValue>(
        &self,
        client: &Client,
        timeout: Duration,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(timeout, self.call(client, keys, arguments)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(CallError(error.to_string())),
            Err(_) => Err(CallError(format!("no answer within {timeout:?}"))),
        }
    }

    async fn call<T: FromValue>(
        &self,
        client: &Client,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Result<T, fred::error::Error> {
        if let Some(digest) = self.digest.get() {
            let answer = client
                .evalsha(digest.as_str(), keys.clone(), arguments.clone())
                .await;
            match answer {
                Err(error) if error.details().starts_with("NOSCRIPT") => {}
                Ok(_) | Err(_) => return answer,
            }
        }
        client.eval(self.text, keys, arguments).await
    }
}
