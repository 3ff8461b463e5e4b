//! What the program uses: the configuration after every name was resolved and every value parsed.
//!
//! A plan is immutable. A request takes one `Arc<Plan>` on arrival and keeps it until it is accounted,
//! so a reload can't change the rules under it. Nothing here is deserialized and nothing holds live
//! state (counters, connections): live state is kept by name in `state`.

pub mod cache;
pub mod identity;
pub mod jwt;
mod limit;
mod records;
pub mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use filters::auth::{Digest, Keys};
use filters::balance::affinity::Cookies;
use filters::dimensions::Dimension;
use filters::pattern::Pattern;
use filters::price::PriceList;
use filters::route::{ApiPaths, Listed, Schema};
use filters::{balance, breaker, retry};

pub use self::limit::{LimitHeaders, Redis, TokenLimit};
pub use self::records::{
    AccessLog, LineFormat, MessageLog, Otlp, OtlpProtocol, Place, UsageLog, UsageStream,
};
use super::inputs::Input;
use super::outline::Outline;
use super::secret::Secret;

/// Everything that a request is decided by.
#[derive(Debug)]
pub struct Plan {
    /// Short hash of the text that this was loaded from.
    pub revision: String,
    /// Where it was loaded from, as the user named it.
    pub source: String,
    /// What it says, without its secrets.
    pub outline: Outline,
    /// The files that it was loaded from.
    pub inputs: Vec<Input>,
    /// Seconds since 1970 at which it was loaded.
    pub loaded_at: u64,
    /// Listeners and bounds.
    pub server: Server,
    /// The names of this gateway in metrics.
    pub gateway: Gateway,
    /// Path prefix -> index into `apis`; the longest prefix wins.
    pub paths: ApiPaths,
    /// The APIs, in file order.
    pub apis: Vec<Arc<Api>>,
    /// Key digest -> index into `subscriptions`.
    pub keys: Keys,
    /// The subscriptions, in file order.
    pub subscriptions: Vec<Arc<Subscription>>,
    /// How many keys each subscription has, in the same order.
    pub key_counts: Vec<usize>,
    /// The products, in file order.
    pub products: Vec<Arc<Product>>,
    /// The backends, in file order.
    pub backends: Vec<Arc<Backend>>,
    /// The pools, in file order.
    pub pools: Vec<Arc<Pool>>,
    /// Whose tokens are taken; `None`: keys only.
    pub jwt: Option<Arc<jwt::Jwt>>,
    /// Where counters are shared; `None`: they live in this process.
    pub redis: Option<Redis>,
    /// The token limits in file order, then the budgets.
    pub token_limits: Vec<Arc<TokenLimit>>,
    /// The token metrics, in file order.
    pub token_metrics: Vec<Arc<TokenMetric>>,
    /// The semantic caches, in file order.
    pub semantic_caches: Vec<Arc<cache::SemanticCache>>,
    /// Where usage is written down; `None`: nowhere.
    pub usage_log: Option<UsageLog>,
    /// Where each request gets a line; `None`: nowhere.
    pub access_log: Option<AccessLog>,
    /// Which prompts and answers are written down; `None`: none.
    pub message_log: Option<MessageLog>,
    /// Where traces go; `None`: there are none.
    pub otlp: Option<Otlp>,
    /// What tokens cost; `None`: nothing has a price.
    pub prices: Option<Arc<PriceList>>,
    /// What `check` warns of and `run` logs once (literal secrets, ...), in file order.
    pub warnings: Vec<String>,
    /// What this version doesn't do yet, in file order. `run` refuses a plan where this isn't empty.
    pub pending: Vec<PendingFeature>,
}

/// Something that the file asks for, that is understood and checked, and that nothing here does yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingFeature {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// As the file names it: `[[token-limit]]`.
    pub what: String,
}

impl Plan {
    /// Why `run` refuses this plan, one line a feature: `FILE:LINE:COLUMN: WHAT is not in this version yet`.
    pub fn refusals(&self) -> Vec<String> {
        let line = |pending: &PendingFeature| {
            let PendingFeature { line, column, what } = pending;
            format!(
                "{}:{line}:{column}: {what} is not in this version yet",
                self.source
            )
        };
        self.pending.iter().map(line).collect()
    }
}

/// Listeners and the bounds on what callers may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Plain HTTP/1.1 listeners.
    pub listen: Vec<SocketAddr>,
    /// HTTP/2 with prior knowledge, for inside a mesh.
    pub h2c: Option<SocketAddr>,
    /// The TLS listener.
    pub tls: Option<tls::ServerTls>,
    /// `/livez`, `/readyz`, `/metrics`, `/status`.
    pub admin: SocketAddr,
    /// What is asked for there, but for the probes; `None`: nothing.
    pub admin_token: Option<Digest>,
    /// Worker threads.
    pub threads: usize,
    /// A larger request body is refused with 413. Bytes.
    pub max_request_body_bytes: usize,
    /// All request bodies held at once. Bytes.
    pub max_buffered_bodies_bytes: usize,
    /// On SIGTERM, how long calls are still taken while `/readyz` says 503.
    pub shutdown_delay: Duration,
    /// How long streams in flight get after that.
    pub drain_timeout: Duration,
    /// Where this process waits for one that takes over; `None`: none can.
    pub upgrade_socket: Option<PathBuf>,
    /// Whether a changed file is taken without being told.
    pub watch: bool,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Bounds per caller.
    pub limits: Limits,
}

/// An address range, `10.0.0.0/8` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Any address of it.
    pub address: std::net::IpAddr,
    /// How many leading bits count.
    pub prefix_bits: u8,
}

/// `[server.limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Request header lines.
    pub max_headers: usize,
    /// Bytes of all request header names and values.
    pub max_header_bytes: usize,
    /// For the request's head, from its first byte or a new connection's beginning.
    pub header_timeout: Duration,
    /// For the whole request body.
    pub body_timeout: Duration,
    /// An unused connection of a caller is closed after this.
    pub idle_timeout: Duration,
    /// A reader that takes nothing for this long is cut.
    pub write_timeout: Duration,
    /// Per subscription.
    pub max_concurrent_requests: usize,
    /// Requests at once on one connection of HTTP/2.
    pub max_concurrent_streams: usize,
    /// Connections of callers, over all listeners.
    pub max_connections: usize,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Default: the host's name.
    pub id: String,
    /// Empty where not set.
    pub location: String,
}

/// `[apis.NAME]`
#[derive(Debug)]
pub struct Api {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Normalised: starts with `/`, no `/` at the end, empty for the root.
    pub path: String,
    /// How callers call it.
    pub schema: Schema,
    /// Deployment or model name -> pool; see [`filters::pattern::best`].
    pub models: Vec<(Pattern, Arc<Pool>)>,
    /// For operations without a model.
    pub default_pool: Option<Arc<Pool>>,
    /// Whether a key is asked for.
    pub subscription_required: bool,
    /// `None`: every operation of the schema.
    pub operations: Option<Operations>,
}

/// The operations that an API offers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// By id, of those that the schema has.
    pub known: Vec<&'static str>,
    /// By id, method and path. Those with more literal segments first, so the first that fits is meant.
    pub listed: Vec<Listed>,
}

impl Operations {
    /// What a call is named here; `None`: it isn't offered. `operation` is the schema's id for it, `rest` the path
    /// below the API's.
    pub fn name(&self, operation: &'static str, method: &str, rest: &str) -> Option<&'static str> {
        let listed = self.listed.iter().find(|listed| listed.fits(method, rest));
        let known = || self.known.contains(&operation).then_some(operation);
        listed.map(Listed::id).or_else(known)
    }
}

/// `[products.NAME]`
#[derive(Debug)]
pub struct Product {
    /// Its name in the file.
    pub name: Arc<str>,
    /// API names; `None`: every API.
    pub apis: Option<Vec<Arc<str>>>,
    /// `None`: every model.
    pub models: Option<Vec<Pattern>>,
}

/// `[subscriptions.NAME]`
#[derive(Debug)]
pub struct Subscription {
    /// Its name in the file: `subscription.id`.
    pub name: Arc<str>,
    /// What it may call; `None`: everything.
    pub product: Option<Arc<Product>>,
    /// Whether its keys are honoured.
    pub state: SubscriptionState,
    /// `subscription.attributes`.
    pub attributes: BTreeMap<String, String>,
}

/// Whether a subscription's keys are honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionState {
    /// They are.
    Active,
    /// 401.
    Suspended,
}

/// `[backends.NAME]`
#[derive(Debug)]
pub struct Backend {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Where it is.
    pub url: Endpoint,
    /// How to call it; `None`: as the API is called.
    pub schema: Option<Schema>,
    /// The deployment's name there; `None`: the name that the caller used.
    pub deployment: Option<String>,
    /// `None`: the caller's, else [`DEFAULT_API_VERSION`].
    pub api_version: Option<String>,
    /// Our credential there.
    pub auth: Auth,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Private authorities and client certificates.
    pub tls: UpstreamTls,
    /// `Some(false)`: HTTP/1.1 only; `Some(true)`: HTTP/2 only (prior knowledge on plain text); `None`: negotiated under TLS.
    pub http2: Option<bool>,
    /// When it is left alone; `None`: never.
    pub breaker: Option<breaker::Rule>,
}

/// The `api-version` that a classic Azure OpenAI backend is called with where neither it nor the caller names one.
pub const DEFAULT_API_VERSION: &str = "2024-10-21";

/// A backend's URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https`.
    pub tls: bool,
    /// Without brackets for IPv6.
    pub host: String,
    /// Explicit or the scheme's own.
    pub port: u16,
    /// No `/` at the end; empty for the root.
    pub base_path: String,
    /// `Host` header: with the port unless it is the scheme's own.
    pub authority: String,
}

/// How the gateway proves itself to a backend.
#[derive(Debug)]
pub enum Auth {
    /// It doesn't.
    None,
    /// `api-key: KEY` where the backend speaks an Azure schema, else `Authorization: Bearer KEY`.
    ApiKey(Secret),
    /// `Authorization: Bearer TOKEN`.
    Bearer(Secret),
    /// The same, with a token that is fetched.
    ManagedIdentity(Arc<identity::Identity>),
}

/// `timeouts` of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// From the request's last byte to the answer's first.
    pub first_byte: Duration,
    /// Between two reads of the answer.
    pub between_bytes: Duration,
}

/// `tls` of a backend; files are read when loaded.
#[derive(Debug, Default)]
pub struct UpstreamTls {
    /// PEM of the authorities to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Instead of the URL's host.
    pub server_name: Option<String>,
    /// PEM chain and PEM key.
    pub client_identity: Option<(Vec<u8>, Secret)>,
}

/// `[pools.NAME]`
#[derive(Debug)]
pub struct Pool {
    /// Its name in the file.
    pub name: Arc<str>,
    /// At least one.
    pub members: Vec<Member>,
    /// The same members, by their place in `members`, ready to be chosen from.
    pub balance: balance::Pool,
    /// What follows an attempt that fails.
    pub retry: retry::Rule,
    /// What keeps a caller with a member; `None`: nothing does.
    pub session_affinity: Option<SessionAffinity>,
}

/// `session-affinity` of a pool.
#[derive(Debug)]
pub struct SessionAffinity {
    /// The cookie's name.
    pub cookie: String,
    /// Its value for each member, by the place in `members`.
    pub signed: Cookies,
}

/// One entry of `members`.
#[derive(Debug)]
pub struct Member {
    /// Where calls go.
    pub backend: Arc<Backend>,
    /// Lower first.
    pub priority: u32,
    /// Share within a priority.
    pub weight: u32,
}

/// `[[token-metric]]`
#[derive(Debug)]
pub struct TokenMetric {
    /// Prefix of the metric names.
    pub namespace: String,
    /// At most ten.
    pub dimensions: Vec<Dimension>,
    /// Beyond it new label sets fall into `other`.
    pub max_series: usize,
}
