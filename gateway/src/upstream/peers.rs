//! Where each backend is, and the settings of connections to it.
//!
//! `HttpPeer::new` with a host name would block the event loop, so peers are made from addresses (`addresses.rs`).
//! A connection is only shared by requests to the same backend of the same plan: `group_key` holds the
//! name, the credentials and the authorities, which Pingora's own pool key doesn't.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use parking_lot::Mutex;
use pingora::protocols::ALPN;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::addresses::Addresses;
use crate::config::plan::{Backend, Endpoint, Plan};

/// Unused connections are closed before the usual 60 s of the other side, or a request meets a closing one.
const POOLED_IDLE: Duration = Duration::from_secs(50);
/// A backend that takes no bytes of a request for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams that share one HTTP/2 connection; a lost connection costs all of them.
const STREAMS_PER_CONNECTION: usize = 64;
/// Peers kept of one name: those of its addresses, and of some that it had.
const MADE_MAX: usize = 32;

/// The backends' addresses and settings, by name; replaced when a plan is.
#[derive(Debug)]
pub struct Peers(ArcSwap<Sites>);

/// One backend's addresses and settings.
pub struct Site {
    place: Place,
    template: Arc<HttpPeer>,
    /// Of a name: made once for each address, since a peer is some forty fields.
    made: Mutex<Vec<Arc<HttpPeer>>>,
}

#[derive(Clone)]
enum Place {
    Fixed(SocketAddr),
    Named {
        host: String,
        port: u16,
        addresses: Arc<Addresses>,
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

    /// The backends of another plan. Addresses of a name that stays are kept: DNS may be down just then. Names that are new
    /// are asked for, so that no request has to.
    pub async fn prepare(&self, plan: &Plan) -> Sites {
        let sites = sites(plan, &self.0.load());
        resolve(sites.iter().filter(|(_, site)| site.is_unresolved())).await;
        sites
    }

    /// Takes them.
    pub fn replace(&self, sites: Sites) {
        self.0.store(Arc::new(sites));
    }

    /// Asks DNS for every name once more.
    pub async fn resolve(&self) {
        resolve(self.0.load_full().iter()).await;
    }

    /// Takes in that no connection came about: its address is left out for a while. Whether there is another to try.
    pub fn leave_out(&self, backend: &Backend, peer: &HttpPeer) -> bool {
        let site = self.0.load().get(&backend.name).cloned();
        match site.as_deref().map(|site| &site.place) {
            Some(Place::Named { addresses, .. }) => addresses.leave_out(&peer._address),
            Some(Place::Fixed(_)) | None => false,
        }
    }

    /// A peer for the next attempt at a backend, to be connected to within this time.
    ///
    /// # Errors
    /// When its name has no address.
    pub async fn peer(
        &self,
        backend: &Backend,
        within: Duration,
    ) -> pingora::Result<Arc<HttpPeer>> {
        let site = self.0.load().get(&backend.name).cloned();
        let site = match site {
            Some(site) => site,
            None => Arc::new(Site::new(backend, None)),
        };
        site.peer(within).await
    }
}

impl Peers {
    /// A peer for one that no plan names. Its name is looked up each time.
    ///
    /// # Errors
    /// As [`peer`](Self::peer).
    pub async fn of(backend: &Backend) -> pingora::Result<Arc<HttpPeer>> {
        let within = backend.timeouts.connect;
        Site::new(backend, None).peer(within).await
    }
}

/// Where the backends are, by name.
pub type Sites = HashMap<Arc<str>, Arc<Site>>;

/// All at once: one name that isn't answered mustn't keep the others waiting.
async fn resolve(sites: impl Iterator<Item = (&Arc<str>, &Arc<Site>)>) {
    let resolve = |(backend, site): (&Arc<str>, &Arc<Site>)| {
        let (backend, site) = (backend.clone(), site.clone());
        async move {
            let Place::Named { addresses, .. } = &site.place else {
                return;
            };
            if let Err(error) = addresses.ask().await {
                tracing::warn!(%backend, %error, "the backend's name wasn't resolved; the last addresses stay");
            }
        }
    };
    join_all(sites.map(resolve)).await;
}

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
            made: Mutex::default(),
        }
    }

    fn is_unresolved(&self) -> bool {
        match &self.place {
            Place::Fixed(_) => false,
            Place::Named { addresses, .. } => addresses.are_unknown(),
        }
    }

    async fn peer(&self, within: Duration) -> pingora::Result<Arc<HttpPeer>> {
        let addresses = match &self.place {
            Place::Fixed(_) => return Ok(self.template.clone()),
            Place::Named { addresses, .. } => addresses,
        };
        let (address, others) = addresses.next(within).await?;
        // One that takes no connection mustn't use up the others' time.
        let within = if others { within / 2 } else { within };
        Ok(self.at(&address, within))
    }

    fn at(&self, address: &PingoraAddress, within: Duration) -> Arc<HttpPeer> {
        let mut made = self.made.lock();
        let is_it = |peer: &&Arc<HttpPeer>| {
            peer.options.total_connection_timeout == Some(within) && peer._address == *address
        };
        if let Some(peer) = made.iter().find(is_it) {
            return peer.clone();
        }
        let mut peer = HttpPeer::clone(&self.template);
        peer._address = address.clone();
        peer.options.connection_timeout = Some(within);
        peer.options.total_connection_timeout = Some(within);
        let peer = Arc::new(peer);
        if made.len() >= MADE_MAX {
            made.clear();
        }
        made.push(peer.clone());
        peer
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
    Place::Named {
        host: url.host.clone(),
        port: url.port,
        addresses: Arc::new(Addresses::of(&url.host, url.port)),
    }
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

/// The certificates of a PEM text, as a connection trusts them.
pub(super) fn authorities(pem: &[u8]) -> Arc<[WrappedX509]> {
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

impl Endpoint {
    /// `scheme://authority`, for HTTP/2's pseudo-headers.
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            true => "https",
            false => "http",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::super::addresses::tests::known;
    use super::*;
    use crate::config::secret::System;
    use crate::config::{self, Source};

    /// A plan with the backend `east`.
    pub fn plan(host: &str, first_byte: &str) -> Plan {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(
            file,
            "[server]\nlisten = \"127.0.0.1:1\"\n[backends.east]\nurl = \"http://{host}:9\"\ntimeouts = {{ first-byte = \"{first_byte}\" }}\n"
        )
        .unwrap();
        let source = Source::read(file.path().to_str().unwrap()).unwrap();
        config::load(&source, &System::at(0)).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The backend `east`, with these addresses.
    pub async fn at(backend: &Backend, addresses: &[&str]) -> Peers {
        let addresses = Arc::new(known(addresses).await);
        let place = Place::Named {
            host: backend.url.host.clone(),
            port: backend.url.port,
            addresses,
        };
        let site = Site {
            place,
            template: Arc::new(template(backend)),
            made: Mutex::default(),
        };
        let sites = HashMap::from([(backend.name.clone(), Arc::new(site))]);
        Peers(ArcSwap::from_pointee(sites))
    }

    fn place(peers: &Peers) -> Place {
        peers.0.load().get("east").unwrap().place.clone()
    }

    fn addresses(peers: &Peers) -> Arc<Addresses> {
        match place(peers) {
            Place::Named { addresses, .. } => addresses,
            Place::Fixed(address) => panic!("a fixed place: {address}"),
        }
    }

    #[tokio::test]
    async fn a_name_that_is_new_is_resolved_before_a_request_needs_it() {
        let peers = Peers::new(&plan("127.0.0.1", "1s"));
        assert!(matches!(place(&peers), Place::Fixed(_)));
        let sites = peers.prepare(&plan("localhost", "1s")).await;
        peers.replace(sites);
        assert!(!addresses(&peers).are_unknown());
    }

    #[tokio::test]
    async fn a_peer_is_made_once_for_each_address_and_time() {
        let plan = plan("models.example", "1s");
        let backend = &plan.backends[0];
        let peers = at(backend, &["127.0.0.1:1"]).await;
        let peer = async |within| peers.peer(backend, within).await.unwrap();
        let first = peer(Duration::from_secs(1)).await;
        assert!(Arc::ptr_eq(&first, &peer(Duration::from_secs(1)).await));
        for milliseconds in 1..100 {
            let within = Duration::from_millis(milliseconds);
            let timeout = peer(within).await.options.total_connection_timeout;
            assert_eq!(timeout, Some(within));
        }
        let site = peers.0.load().get("east").unwrap().clone();
        assert!(site.made.lock().len() <= MADE_MAX);
    }

    #[tokio::test]
    async fn addresses_outlive_a_reload_and_what_is_new_in_it_is_taken() {
        let peers = Peers::new(&plan("localhost", "1s"));
        peers.resolve().await;
        let before = addresses(&peers);
        let plan = plan("localhost", "2s");
        let sites = peers.prepare(&plan).await;
        peers.replace(sites);
        assert!(Arc::ptr_eq(&before, &addresses(&peers)));
        let peer = peers.peer(&plan.backends[0], Duration::from_secs(1)).await;
        let read_timeout = peer.unwrap().options.read_timeout;
        assert_eq!(read_timeout, Some(Duration::from_secs(2)));
    }
}
