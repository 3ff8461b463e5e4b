//! Where a backend is: its addresses, asked of DNS again and again in the background, and the settings of
//! connections to it.
//!
//! `pingora-load-balancing` keeps and rotates the addresses of one backend. Which backend is asked is
//! policy and not its business: its weighting isn't smooth, and it takes two backends at one address for
//! one. `HttpPeer::new` with a host name would block the event loop, so peers are made from addresses.
//! A connection is only shared by requests to the same backend of the same plan: `group_key` holds the
//! name, the credentials and the authorities, which Pingora's own pool key doesn't.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::protocols::ALPN;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509};
use pingora::{Error, ErrorType};
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend as Address, Backends, LoadBalancer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::plan::{Backend, Endpoint, Plan};

/// How often the names of backends are asked of DNS again.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(15);
/// A name that isn't answered by then counts as not found.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Unused connections are closed before the usual 60 s of the other side, or a request meets a closing one.
const POOLED_IDLE: Duration = Duration::from_secs(50);
/// A backend that takes no bytes of a request for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams that share one HTTP/2 connection; a lost connection costs all of them.
const STREAMS_PER_CONNECTION: usize = 64;
/// More addresses than this of one name aren't tried in one selection.
const ADDRESSES_TRIED: usize = 16;

/// The backends' addresses and settings, by name; replaced when a plan is.
#[derive(Debug)]
pub struct Peers(ArcSwap<HashMap<Arc<str>, Arc<Site>>>);

/// One backend's addresses and settings.
pub struct Site {
    place: Place,
    template: Arc<HttpPeer>,
}

#[derive(Clone)]
enum Place {
    Fixed(SocketAddr),
    Named {
        host: String,
        port: u16,
        addresses: Arc<LoadBalancer<RoundRobin>>,
    },
}

impl std::fmt::Debug for Site {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Site")
    }
}

impl Peers {
    /// The backends of a plan, with names not resolved yet.
    pub fn new(plan: &Plan) -> Self {
        Peers(ArcSwap::from_pointee(sites(plan, &HashMap::new())))
    }

    /// Takes the backends of another plan. Addresses of a name that stays are kept: DNS may be down just then.
    pub fn replace(&self, plan: &Plan) {
        let former = self.0.load_full();
        self.0.store(Arc::new(sites(plan, &former)));
    }

    /// Asks DNS for every name once more.
    pub async fn resolve(&self) {
        let sites = self.0.load_full();
        for (backend, site) in sites.iter() {
            let Place::Named { addresses, .. } = &site.place else {
                continue;
            };
            if let Err(error) = addresses.update().await {
                tracing::warn!(%backend, %error, "the backend's name wasn't resolved; the last addresses stay");
            }
        }
    }

    /// A peer for the next attempt at a backend.
    ///
    /// # Errors
    /// When its name has no address.
    pub async fn peer(&self, backend: &Backend) -> pingora::Result<Arc<HttpPeer>> {
        let site = self.0.load().get(&backend.name).cloned();
        let site = match site {
            Some(site) => site,
            None => Arc::new(Site::new(backend, None)),
        };
        site.peer().await
    }
}

type Sites = HashMap<Arc<str>, Arc<Site>>;

fn sites(plan: &Plan, former: &Sites) -> Sites {
    let backends = plan.backends.iter();
    backends
        .map(|backend| {
            let known = former.get(&backend.name).map(|site| &site.place);
            let site = Site::new(backend, known);
            (backend.name.clone(), Arc::new(site))
        })
        .collect()
}

impl Site {
    fn new(backend: &Backend, known: Option<&Place>) -> Self {
        let place = place(&backend.url, known);
        let mut template = template(backend);
        if let Place::Fixed(address) = &place {
            template._address = PingoraAddress::Inet(*address);
        }
        Site {
            place,
            template: Arc::new(template),
        }
    }

    async fn peer(&self) -> pingora::Result<Arc<HttpPeer>> {
        let address = match &self.place {
            Place::Fixed(_) => return Ok(self.template.clone()),
            Place::Named { addresses, .. } => match addresses.select(b"", ADDRESSES_TRIED) {
                Some(selected) => selected.addr,
                None => {
                    addresses.update().await?;
                    let selected = addresses.select(b"", ADDRESSES_TRIED);
                    selected.ok_or_else(no_address)?.addr
                }
            },
        };
        let mut peer = HttpPeer::clone(&self.template);
        peer._address = address;
        Ok(Arc::new(peer))
    }
}

/// Where a URL leads; the addresses known of the same name, if there are any.
fn place(url: &Endpoint, known: Option<&Place>) -> Place {
    if let Ok(address) = url.host.parse::<IpAddr>() {
        return Place::Fixed(SocketAddr::new(address, url.port));
    }
    let is_same = |place: &&Place| match place {
        Place::Named { host, port, .. } => *host == url.host && *port == url.port,
        Place::Fixed(_) => false,
    };
    known.filter(is_same).cloned().unwrap_or_else(|| named(url))
}

fn named(url: &Endpoint) -> Place {
    let name = Name {
        host: url.host.clone(),
        port: url.port,
    };
    let addresses = LoadBalancer::from_backends(Backends::new(Box::new(name)));
    Place::Named {
        host: url.host.clone(),
        port: url.port,
        addresses: Arc::new(addresses),
    }
}

fn no_address() -> Box<Error> {
    Error::explain(
        ErrorType::ConnectNoRoute,
        "the backend's name has no address",
    )
}

fn template(backend: &Backend) -> HttpPeer {
    let url = &backend.url;
    let unset = SocketAddr::from(([127, 0, 0, 1], url.port));
    let server_name = backend.tls.server_name.as_ref().unwrap_or(&url.host);
    let mut peer = HttpPeer::new(unset, url.tls, server_name.clone());
    peer.group_key = group_key(backend);
    let options = &mut peer.options;
    options.connection_timeout = Some(backend.timeouts.connect);
    options.total_connection_timeout = Some(backend.timeouts.connect);
    options.read_timeout = Some(backend.timeouts.first_byte);
    options.write_timeout = Some(WRITE_TIMEOUT);
    options.idle_timeout = Some(POOLED_IDLE);
    options.max_h2_streams = STREAMS_PER_CONNECTION;
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::ZERO,
    });
    options.alpn = match (backend.http2, url.tls) {
        (Some(true), _) => ALPN::H2,
        (None, true) => ALPN::H2H1,
        (Some(false), _) | (None, false) => ALPN::H1,
    };
    options.ca = backend.tls.ca_pem.as_deref().map(authorities);
    peer.client_cert_key = backend
        .tls
        .client_identity
        .as_ref()
        .and_then(|(chain, key)| client_identity(chain, key.expose().as_bytes()));
    peer
}

fn authorities(pem: &[u8]) -> Arc<[WrappedX509]> {
    certificates(pem)
        .into_iter()
        .map(|der| WrappedX509::new(der, pingora::utils::tls::parse_x509))
        .collect()
}

fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem)
        .filter_map(|certificate| certificate.ok())
        .map(|certificate| certificate.to_vec())
        .collect()
}

fn client_identity(chain: &[u8], key: &[u8]) -> Option<Arc<CertKey>> {
    let key = PrivateKeyDer::from_pem_slice(key).ok()?;
    let chain = certificates(chain);
    (!chain.is_empty()).then(|| Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
}

/// Two backends never share a connection, nor one backend before and after its credentials or authorities changed.
fn group_key(backend: &Backend) -> u64 {
    let mut hasher = DefaultHasher::new();
    backend.name.hash(&mut hasher);
    backend.tls.ca_pem.hash(&mut hasher);
    backend.tls.server_name.hash(&mut hasher);
    if let Some((chain, key)) = &backend.tls.client_identity {
        chain.hash(&mut hasher);
        key.expose().hash(&mut hasher);
    }
    hasher.finish()
}

/// A host name as the source of addresses.
struct Name {
    host: String,
    port: u16,
}

#[async_trait]
impl ServiceDiscovery for Name {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Address>, HashMap<u64, bool>)> {
        let looked_up = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, looked_up).await;
        let addresses = match found {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                return Error::e_because(ErrorType::ConnectNoRoute, "looking up a backend", error);
            }
            Err(_elapsed) => {
                return Error::e_explain(ErrorType::ConnectTimedout, "looking up a backend");
            }
        };
        let backends = addresses.filter_map(|address| Address::new(&address.to_string()).ok());
        Ok((backends.collect(), HashMap::new()))
    }
}

impl Endpoint {
    /// `scheme://authority`, for HTTP/2's pseudo-headers.
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            true => "https",
            false => "http",
        }
    }
}
