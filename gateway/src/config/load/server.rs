//! `[server]` and `[gateway]`: addresses parsed and held against each other, defaults filled in.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use filters::auth::Digest;

use super::super::error::Located;
use super::super::file::server as written;
use super::super::plan::tls::ServerTls;
use super::super::plan::{Gateway, Limits, Network, Server};
use super::{Loader, or};

/// The server's part of the plan.
pub(super) fn server(loader: &Loader<'_>) -> Option<Server> {
    let file = &loader.file.server;
    let listeners = listeners(loader, file);
    let admin = match &file.admin {
        Some(text) => address(loader, text),
        None => Some(ADMIN),
    };
    let networks = file.trusted_proxies.iter();
    let max_request_body = or(file.max_request_body.as_ref(), MAX_REQUEST_BODY_BYTES);
    let server = Server {
        listen: listeners.plain,
        h2c: listeners.h2c,
        tls: file
            .tls
            .as_ref()
            .and_then(|tls| server_tls(loader, tls, listeners.tls)),
        admin: admin.unwrap_or(ADMIN),
        admin_token: admin_token(loader, file, admin),
        threads: file
            .threads
            .as_ref()
            .map_or_else(|| loader.environment.cores(), |n| count(n.value)),
        max_request_body_bytes: count(max_request_body),
        max_buffered_bodies_bytes: count(buffered(loader, file, max_request_body)),
        shutdown_delay: or(file.shutdown_delay.as_ref(), Duration::ZERO),
        drain_timeout: or(file.drain_timeout.as_ref(), DRAIN_TIMEOUT),
        upgrade_socket: upgrade_socket(loader, file),
        watch: or(file.watch.as_ref(), false),
        trusted_proxies: networks.filter_map(|text| network(loader, text)).collect(),
        limits: limits(&file.limits),
    };
    refuse_overlaps(loader, file, &server);
    admin.map(|_| server)
}

/// The gateway's names.
pub(super) fn gateway(loader: &Loader<'_>) -> Gateway {
    let file = &loader.file.gateway;
    let text = |written: &Option<Located<String>>| written.as_ref().map(|text| text.value.clone());
    Gateway {
        id: text(&file.id).unwrap_or_else(|| loader.environment.host_name()),
        location: text(&file.location).unwrap_or_default(),
    }
}

struct Listeners {
    plain: Vec<SocketAddr>,
    h2c: Option<SocketAddr>,
    tls: Vec<SocketAddr>,
}

fn listeners(loader: &Loader<'_>, file: &written::Server) -> Listeners {
    let all = |texts: &Vec<Located<String>>| -> Vec<SocketAddr> {
        texts
            .iter()
            .filter_map(|text| address(loader, text))
            .collect()
    };
    let plain = match (&file.listen, &file.tls) {
        (Some(texts), _) => all(texts),
        // Whoever asks for TLS alone doesn't want a plain listener beside it.
        (None, Some(_)) => Vec::new(),
        (None, None) => vec![LISTEN],
    };
    let none_written = file.listen.as_ref().is_some_and(Vec::is_empty);
    if none_written && file.tls.is_none() && file.h2c.is_none() {
        let message =
            "found no listener at all, expected an address in listen, h2c or [server.tls]";
        loader.findings.error(&file.listen_place, message);
    }
    let h2c = file.h2c.as_ref();
    let h2c = h2c.and_then(|text| Some((text, address(loader, text)?)));
    if let Some((text, _)) = h2c.filter(|(_, address)| address.ip().is_unspecified()) {
        let message = "h2c on every address of this host: it is for a mesh's inside, strangers can hold it up";
        loader.findings.warn(&text.place, message);
    }
    Listeners {
        plain,
        h2c: h2c.map(|(_, address)| address),
        tls: file
            .tls
            .as_ref()
            .map(|tls| all(&tls.listen))
            .unwrap_or_default(),
    }
}

fn address(loader: &Loader<'_>, text: &Located<String>) -> Option<SocketAddr> {
    let address = text.value.parse().ok();
    if address.is_none() {
        let message = format!(
            "found \"{}\", expected an IP address with a port, such as \"0.0.0.0:8080\" or \"[::]:8080\"",
            text.value
        );
        loader.findings.error(&text.place, message);
    }
    address
}

/// The kernel takes no longer path of a socket.
fn upgrade_socket(loader: &Loader<'_>, file: &written::Server) -> Option<PathBuf> {
    let text = file.upgrade_socket.as_ref()?;
    let bytes = text.value.len();
    if !(1..=SOCKET_PATH_MAX_BYTES).contains(&bytes) {
        let message = format!(
            "found a path of {bytes} bytes, expected one of 1 to {SOCKET_PATH_MAX_BYTES}, such as \"/run/tollgate/upgrade.sock\""
        );
        loader.findings.error(&text.place, message);
    }
    Some(PathBuf::from(&text.value))
}

/// Two listeners can't have one port of one address. Port 0 is any free one.
fn refuse_overlaps(loader: &Loader<'_>, file: &written::Server, server: &Server) {
    let listen = file.listen.iter().flatten();
    let tls = file.tls.iter().flat_map(|tls| &tls.listen);
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    if file.listen.is_none() {
        let defaults = server.listen.iter();
        taken.extend(defaults.map(|address| (*address, "server.listen (default)".to_owned())));
    }
    if file.admin.is_none() {
        taken.push((ADMIN, "server.admin (default)".to_owned()));
    }
    for text in listen.chain(&file.h2c).chain(&file.admin).chain(tls) {
        let Ok(address) = text.value.parse::<SocketAddr>() else {
            continue;
        };
        if let Some((other, owner)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
            let message = format!(
                "found \"{address}\", which overlaps with \"{other}\" of {owner}; expected another port"
            );
            loader.findings.error(&text.place, message);
        }
        taken.push((address, text.place.path.clone()));
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

fn server_tls(
    loader: &Loader<'_>,
    file: &written::Tls,
    listen: Vec<SocketAddr>,
) -> Option<ServerTls> {
    let certificate = file.certificate.as_ref();
    let key = file.key.as_ref();
    let chain = certificate.and_then(|path| loader.pem(path, "CERTIFICATE"));
    let key = key.and_then(|path| loader.private_key(path));
    let client_ca = file.client_ca.as_ref();
    let client_ca_pem = client_ca.map(|path| loader.pem(path, "CERTIFICATE"));
    let tls = ServerTls {
        listen,
        certificate_pem: chain?,
        key_pem: key?,
        client_ca_pem: match client_ca_pem {
            Some(pem) => Some(pem?),
            None => None,
        },
    };
    let told = |written: &Option<Located<String>>, error: &str| {
        if let Some(written) = written {
            loader.findings.error(&written.place, error);
        }
    };
    if let Err(error) = tls.certified() {
        told(&file.certificate, &error);
    }
    if let Err(error) = tls.callers() {
        told(&file.client_ca, &error);
    }
    Some(tls)
}

/// Kept as a digest, as keys are.
fn admin_token(
    loader: &Loader<'_>,
    file: &written::Server,
    admin: Option<SocketAddr>,
) -> Option<Digest> {
    if let (Some(text), Some(address), None) = (&file.admin, admin, &file.admin_token)
        && !address.ip().is_loopback()
    {
        let message = "the admin listener can be reached from other hosts, and asks for nothing: whoever reaches it sees what the gateway does and can empty its caches; add admin-token, or see to it that only probes and Prometheus get there";
        loader.findings.warn(&text.place, message);
    }
    let token = loader.credential(file.admin_token.as_ref()?)?;
    Some(Digest::of_key(token.expose()))
}

/// Reads `10.0.0.0/8`; an address alone is a network of one.
fn network(loader: &Loader<'_>, text: &Located<String>) -> Option<Network> {
    let (address, bits) = match text.value.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text.value.as_str(), None),
    };
    let parsed = address.parse::<IpAddr>().ok().and_then(|address| {
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.map_or(Some(width), |bits| bits.parse().ok())?;
        (prefix_bits <= width).then_some(Network {
            address,
            prefix_bits,
        })
    });
    let Some(network) = parsed else {
        let message = format!(
            "found \"{}\", expected a network such as \"10.0.0.0/8\" or \"fd00::/8\"",
            text.value
        );
        loader.findings.error(&text.place, message);
        return None;
    };
    let first = first_address(network);
    if first != network.address {
        let bits = network.prefix_bits;
        let message = format!(
            "found \"{}\", whose address has bits beyond /{bits}; did you mean \"{first}/{bits}\"?",
            text.value
        );
        loader.findings.error(&text.place, message);
    }
    Some(network)
}

fn first_address(network: Network) -> IpAddr {
    let bits = u32::from(network.prefix_bits);
    match network.address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
    }
}

/// All bodies together can't be fewer bytes than one: no body of that size would ever be taken.
fn buffered(loader: &Loader<'_>, file: &written::Server, max_request_body: u64) -> u64 {
    let bytes = or(file.max_buffered_bodies.as_ref(), MAX_BUFFERED_BODIES_BYTES);
    let culprit = file
        .max_buffered_bodies
        .as_ref()
        .or(file.max_request_body.as_ref());
    if let Some(culprit) = culprit.filter(|_| bytes < max_request_body) {
        let size = super::super::file::units::write_size;
        let (all, one) = (size(bytes), size(max_request_body));
        let message = format!(
            "max-buffered-bodies is \"{all}\", expected at least max-request-body, which is \"{one}\""
        );
        loader.findings.error(&culprit.place, message);
    }
    bytes
}

fn limits(file: &written::Limits) -> Limits {
    let seconds = |written: &Option<Located<Duration>>, default| {
        or(written.as_ref(), Duration::from_secs(default))
    };
    Limits {
        max_headers: count(or(file.max_headers.as_ref(), 100)),
        max_header_bytes: count(or(file.max_header_bytes.as_ref(), 32 << 10)),
        header_timeout: seconds(&file.header_timeout, 10),
        body_timeout: seconds(&file.body_timeout, 60),
        idle_timeout: seconds(&file.idle_timeout, 75),
        write_timeout: seconds(&file.write_timeout, 60),
        max_concurrent_requests: count(or(file.max_concurrent_requests.as_ref(), 1_000)),
        max_concurrent_streams: count(or(file.max_concurrent_streams.as_ref(), 100)),
        max_connections: count(or(file.max_connections.as_ref(), 10_000)),
    }
}

/// The reader bounds every count far below what a `usize` of 64 bits holds.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8080);
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);
/// Larger than any chat with pictures; 16 of them fit into the default of all bodies.
const MAX_REQUEST_BODY_BYTES: u64 = 32 << 20;
/// A quarter of a small container's memory.
const MAX_BUFFERED_BODIES_BYTES: u64 = 512 << 20;
/// `sun_path` of Linux, without its end.
const SOCKET_PATH_MAX_BYTES: usize = 107;
/// As long as Kubernetes waits before it kills.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_network_s_first_address_has_no_bit_beyond_its_prefix() {
        let first = |address: &str, prefix_bits| {
            let address = address.parse().unwrap();
            first_address(Network {
                address,
                prefix_bits,
            })
            .to_string()
        };
        assert_eq!(first("10.1.2.3", 8), "10.0.0.0");
        assert_eq!(first("10.1.2.3", 32), "10.1.2.3");
        assert_eq!(first("10.1.2.3", 0), "0.0.0.0");
        assert_eq!(first("fd00:1::1", 16), "fd00::");
        assert_eq!(first("fd00:1::1", 0), "::");
    }

    #[test]
    fn listeners_overlap_on_one_port_of_one_address_or_of_any() {
        let meet = |one: &str, other: &str| overlap(one.parse().unwrap(), other.parse().unwrap());
        assert!(meet("127.0.0.1:1", "127.0.0.1:1"));
        assert!(meet("0.0.0.0:1", "127.0.0.1:1"));
        assert!(!meet("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!meet("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!meet("127.0.0.1:0", "127.0.0.1:0"));
    }
}
