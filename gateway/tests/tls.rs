//! The listener with TLS: versions of TLS and HTTP, and callers that must show a certificate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, HandshakeKind, RootCertStore, StreamOwned,
};
use support::backend::Backend;
use support::certificates::{Authority, Identity};
use support::curl;
use support::gateway::{Gateway, free_address};
use support::http;
use support::plain::{self, KEY};
use support::wait_until;

#[test]
fn each_version_of_http_and_tls_is_served_on_every_address() {
    let authority = Authority::new("ours");
    let served = Served::start(&authority, "");
    for address in &served.addresses {
        for (options, version) in [
            (&["--http2"][..], "2"),
            (&["--http1.1"], "1.1"),
            (&["--no-alpn"], "1.1"),
            (&["--http2", "--tls-max", "1.2"], "2"),
            (&["--http2", "--tlsv1.3"], "2"),
        ] {
            let seen = served.curl(
                address,
                &[options, &["--cacert", &path(&authority)]].concat(),
            );
            assert_eq!(seen.answer.status, 200, "{options:?}");
            assert_eq!(seen.version, version, "{options:?}");
        }
    }
    // The plain listener is there as well.
    let url = format!("{}/v1/models?api-key={KEY}", served.gateway.url);
    assert_eq!(http::get(&url).status, 200);
}

#[test]
fn older_tls_and_plain_text_arent_served_there() {
    let authority = Authority::new("ours");
    let served = Served::start(&authority, "");
    let (address, count) = (&served.addresses[0], served.backend.received().len());
    let url = format!("https://{address}/v1/models?api-key={KEY}");
    let trusted = ["--cacert", &path(&authority), &url];
    curl::curl_fails(
        &[
            &trusted[..],
            &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"],
        ]
        .concat(),
    );
    curl::curl_fails(&[&url]);
    curl::curl_fails(&[&url.replace("https:", "http:")]);
    let failed = [("reason", "failed")];
    let name = "tollgate_tls_handshakes_failed_total";
    served.gateway.wait_for_metric(name, &failed, 3.0);
    let log = served.gateway.log();
    assert!(
        !log.contains("handshake"),
        "whoever scans ports fills no log: {log}"
    );
    assert_eq!(served.backend.received().len(), count);
    let seen = served.curl(address, &["--cacert", &path(&authority)]);
    assert_eq!(seen.answer.status, 200, "the listener is unharmed");
}

#[test]
fn where_an_authority_for_callers_is_named_only_its_callers_come_in() {
    let (authority, callers, strangers) = (
        Authority::new("ours"),
        Authority::new("callers"),
        Authority::new("strangers"),
    );
    let served = Served::start(
        &authority,
        &format!("client-ca = {:?}", callers.certificate),
    );
    let address = &served.addresses[0];
    let (friend, stranger) = (
        callers.issue(&["friend.example"]),
        strangers.issue(&["friend.example"]),
    );
    for version in ["--http2", "--http1.1"] {
        for tls in ["1.2", "1.3"] {
            let options = [version, "--tls-max", tls, "--cacert", &path(&authority)];
            let shown = |identity: &support::certificates::Identity| {
                [
                    identity.certificate.display().to_string(),
                    identity.key.display().to_string(),
                ]
            };
            let [certificate, key] = shown(&friend);
            let seen = served.curl(
                address,
                &[&options[..], &["--cert", &certificate, "--key", &key]].concat(),
            );
            assert_eq!(seen.answer.status, 200);
            let url = format!("https://{address}/v1/models?api-key={KEY}");
            curl::curl_fails(&[&options[..], &[&url]].concat());
            let [certificate, key] = shown(&stranger);
            curl::curl_fails(
                &[&options[..], &[&url, "--cert", &certificate, "--key", &key]].concat(),
            );
        }
    }
    assert_eq!(served.backend.received().len(), 4);
}

#[test]
fn many_calls_share_one_connection_over_http_2() {
    let authority = Authority::new("ours");
    let served = Served::start(&authority, "");
    let url = format!("https://{}/v1/models?api-key={KEY}", served.addresses[0]);
    let ca = path(&authority);
    let mut arguments = vec!["--http2", "--cacert", &ca, &url];
    for _ in 0..9 {
        arguments.extend(["--output", "/dev/null", &url]);
    }
    let seen = curl::curl(&arguments);
    assert_eq!(seen.connections, 1);
    assert_eq!(seen.heads.matches("HTTP/2 200").count(), 10);
}

#[test]
fn a_sessions_cookie_is_for_tls_only_where_it_came_by_tls() {
    let authority = Authority::new("ours");
    let served = Served::start(&authority, "");
    let is_for_tls_only = |answer: &http::Answer| {
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.starts_with("SessionId="), "{cookie}");
        cookie.split("; ").any(|attribute| attribute == "Secure")
    };
    for version in ["--http2", "--http1.1"] {
        let options = [version, "--cacert", &path(&authority)];
        let seen = served.curl(&served.addresses[0], &options);
        assert!(is_for_tls_only(&seen.answer), "{version}");
    }
    let url = format!("{}/v1/models?api-key={KEY}", served.gateway.url);
    assert!(!is_for_tls_only(&http::get(&url)));
}

#[test]
fn a_reload_takes_another_certificate_and_other_authorities_for_callers() {
    let (former, next, callers) = (
        Authority::new("former"),
        Authority::new("next"),
        Authority::new("callers"),
    );
    let served = Served::start(&former, "");
    let url = format!("https://{}/v1/models?api-key={KEY}", served.addresses[0]);
    let (by_former, by_next) = (path(&former), path(&next));
    let reload = |result: &str, count: f64| {
        served.gateway.signal("HUP");
        let labels = [("result", result)];
        let name = "tollgate_config_reloads_total";
        served.gateway.wait_for_metric(name, &labels, count);
    };
    curl::curl(&["--cacert", &by_former, &url]);
    let other = next.issue(&["localhost"]);
    std::fs::copy(&other.certificate, &served.identity.certificate).unwrap();
    // A certificate without its key is found before anything is taken.
    reload("failed", 1.0);
    // It is told after it is counted.
    served
        .gateway
        .wait_for_log("the key isn't the certificate's");
    curl::curl(&["--cacert", &by_former, &url]);
    std::fs::copy(&other.key, &served.identity.key).unwrap();
    reload("ok", 1.0);
    for tls in ["1.2", "1.3"] {
        curl::curl(&["--tls-max", tls, "--cacert", &by_next, &url]);
        curl::curl_fails(&["--tls-max", tls, "--cacert", &by_former, &url]);
    }
    let friend = callers.issue(&["friend.example"]);
    let client_ca = format!("client-ca = {:?}", callers.certificate);
    served.gateway.rewrite(&served.config(&client_ca));
    reload("ok", 2.0);
    curl::curl_fails(&["--cacert", &by_next, &url]);
    let shown = [friend.certificate, friend.key].map(|file| file.display().to_string());
    let with = ["--cert", &shown[0], "--key", &shown[1]];
    curl::curl(&[&with[..], &["--cacert", &by_next, &url]].concat());
    served.gateway.rewrite(&served.config(""));
    reload("ok", 3.0);
    curl::curl(&["--cacert", &by_next, &url]);
    assert!(!served.gateway.log().contains("only a restart takes it"));
}

#[test]
fn a_resumed_session_is_judged_by_the_authorities_of_now() {
    let (authority, callers, others) = (
        Authority::new("ours"),
        Authority::new("callers"),
        Authority::new("others"),
    );
    let named = |authority: &Authority| format!("client-ca = {:?}", authority.certificate);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let served = Served::start(&authority, &named(&callers));
        let reload = |more: &str, count: f64| {
            served.gateway.rewrite(&served.config(more));
            served.gateway.signal("HUP");
            let name = "tollgate_config_reloads_total";
            let labels = [("result", "ok")];
            served.gateway.wait_for_metric(name, &labels, count);
        };
        let friend = Resuming::new(&authority, &callers.issue(&["friend.example"]), version);
        let address = &served.addresses[0];
        assert_eq!(friend.call(address), (HandshakeKind::Full, Some(200)));
        assert_eq!(friend.call(address), (HandshakeKind::Resumed, Some(200)));
        reload(&named(&others), 1.0);
        assert_eq!(friend.call(address), (HandshakeKind::Resumed, None));
        // Without an authority everybody comes in, and takes a session without a certificate along.
        reload("", 2.0);
        let nobody = Resuming::anonymous(&authority, version);
        assert_eq!(nobody.call(address), (HandshakeKind::Full, Some(200)));
        reload(&named(&others), 3.0);
        assert_eq!(nobody.call(address), (HandshakeKind::Resumed, None));
        assert_eq!(served.backend.received().len(), 3);
    }
}

#[test]
fn whoever_says_nothing_after_the_handshake_is_closed() {
    let authority = Authority::new("ours");
    let limits = "[server.limits]\nheader-timeout = \"300ms\"\nidle-timeout = \"300ms\"";
    let served = Served::start(&authority, limits);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (protocol, said) in [
        (&b"h2"[..], &b""[..]),
        (b"h2", &preface[..23]),
        (b"h2", preface),
        // A frame that says it is longer than what comes of it.
        (
            b"h2",
            &[&preface[..], &[0, 0, 9, 1, 4, 0, 0, 0, 1]].concat(),
        ),
        (b"http/1.1", b""),
        (b"http/1.1", b"GET /v1/models HTTP/1.1\r\n"),
    ] {
        let client = Resuming::anonymous(&authority, &rustls::version::TLS13);
        let mut stream = client.connect(&served.addresses[0], protocol);
        stream.write_all(said).unwrap();
        // Its settings may come first; to read them to the end is to see the connection closed.
        let ended = stream.read_to_end(&mut Vec::new());
        let kind = ended.err().map(|error| error.kind());
        let late = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
        assert!(
            kind.is_none_or(|kind| !late.contains(&kind)),
            "{said:?}: {kind:?}"
        );
    }
    assert_eq!(served.backend.received().len(), 0);
}

#[test]
fn a_handshake_that_does_not_end_is_cut_in_the_time_of_a_head() {
    let authority = Authority::new("ours");
    let limits = "[server.limits]\nheader-timeout = \"300ms\"";
    let served = Served::start(&authority, limits);
    let hello = Resuming::anonymous(&authority, &rustls::version::TLS13).hello();
    for said in [&b""[..], &hello[..1], &hello[..hello.len() / 2], &hello] {
        let mut stream = served.connect();
        stream.write_all(said).unwrap();
        // What the gateway says to a whole greeting comes first.
        let ended = stream.read_to_end(&mut Vec::new());
        let kind = ended.err().map(|error| error.kind());
        let is_cut = kind.is_none_or(|kind| kind == ErrorKind::ConnectionReset);
        assert!(is_cut, "{} bytes: {kind:?}", said.len());
    }
    let late = [("reason", "timeout")];
    let name = "tollgate_tls_handshakes_failed_total";
    served.gateway.wait_for_metric(name, &late, 4.0);
    served.curl(
        &served.addresses[0],
        &["--cacert", &path(&authority), "--http2"],
    );
}

#[test]
fn connections_in_their_handshake_count_as_connections() {
    let authority = Authority::new("ours");
    let limits = "[server.limits]\nheader-timeout = \"1h\"\nmax-connections = 1";
    let served = Served::start(&authority, limits);
    let silent = served.connect();
    let refused = || {
        let name = "tollgate_connections_refused_total";
        served.gateway.metric(name, &[])
    };
    // Which of the two is let in is the gateway's to say; neither ends its handshake.
    let second = served.connect();
    wait_until("one is refused", || (refused() >= 1.0).then_some(()));
    drop((silent, second));
    let address = &served.addresses[0];
    wait_until("there is room again", || {
        let client = Resuming::anonymous(&authority, &rustls::version::TLS13);
        let mut stream = client.connect(address, b"http/1.1");
        let call = format!("GET /v1/models HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n\r\n");
        stream.write_all(call.as_bytes()).ok()?;
        let answer = http::read_answer(&mut BufReader::new(stream)).ok()?;
        assert_eq!(answer.status, 200);
        Some(())
    });
}

type Version = &'static rustls::SupportedProtocolVersion;

/// A caller that resumes its sessions where it can.
struct Resuming(ClientConfig);

impl Resuming {
    fn new(authority: &Authority, own: &Identity, version: Version) -> Resuming {
        let chain = CertificateDer::from_pem_file(&own.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
        let trusting = Resuming::trusting(authority, version);
        Resuming(trusting.with_client_auth_cert(vec![chain], key).unwrap())
    }

    fn anonymous(authority: &Authority, version: Version) -> Resuming {
        Resuming(Resuming::trusting(authority, version).with_no_client_auth())
    }

    fn trusting(
        authority: &Authority,
        version: Version,
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(&authority.certificate).unwrap();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        builder.with_root_certificates(roots)
    }

    fn connect(&self, address: &str, protocol: &[u8]) -> StreamOwned<ClientConnection, TcpStream> {
        let mut config = self.0.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = http::connect(&address.replace("localhost", "127.0.0.1")).unwrap();
        StreamOwned::new(connection, stream)
    }

    /// What a connection begins with.
    fn hello(&self) -> Vec<u8> {
        let name = "localhost".try_into().unwrap();
        let mut connection = ClientConnection::new(Arc::new(self.0.clone()), name).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        hello
    }

    /// How the handshake went, and the status of the answer, if there was one.
    fn call(&self, address: &str) -> (HandshakeKind, Option<u16>) {
        let mut stream = self.connect(address, b"http/1.1");
        let call = format!("GET /v1/models HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n\r\n");
        let sent = stream.write_all(call.as_bytes());
        let mut stream = BufReader::new(stream);
        let answer = sent.and_then(|()| http::read_answer(&mut stream));
        let kind = stream.get_ref().conn.handshake_kind().unwrap();
        (kind, answer.ok().map(|answer| answer.status))
    }
}

/// A gateway with two addresses for TLS, and its backend.
struct Served {
    gateway: Gateway,
    backend: Backend,
    addresses: [String; 2],
    identity: Identity,
}

impl Served {
    fn start(authority: &Authority, more: &str) -> Served {
        let identity = authority.issue(&["localhost"]);
        let listen = [free_address(), free_address()];
        let backend = Backend::fixed(200, &[("content-type", "application/json")], "{}");
        let config = config(&listen, &identity, &backend, more);
        Served {
            gateway: Gateway::start(&config),
            backend,
            addresses: listen.map(|address| address.replace("127.0.0.1", "localhost")),
            identity,
        }
    }

    /// The configuration that it was started with, but for `more`.
    fn config(&self, more: &str) -> String {
        let listen = self.addresses.clone();
        let listen = listen.map(|address| address.replace("localhost", "127.0.0.1"));
        config(&listen, &self.identity, &self.backend, more)
    }

    /// To the first address, without a word.
    fn connect(&self) -> TcpStream {
        http::connect(&self.addresses[0].replace("localhost", "127.0.0.1")).unwrap()
    }

    fn curl(&self, address: &str, options: &[&str]) -> curl::Seen {
        let url = format!("https://{address}/v1/models?api-key={KEY}");
        curl::curl(&[options, &[&url]].concat())
    }
}

fn config(listen: &[String; 2], identity: &Identity, backend: &Backend, more: &str) -> String {
    let server = format!(
        "[server.tls]\nlisten = {listen:?}\ncertificate = {:?}\nkey = {:?}\n{more}\n",
        identity.certificate, identity.key
    );
    plain::config(&server, &plain::openai(&backend.url)).replace(
        "[pools.all]",
        "[pools.all]\nsession-affinity = { cookie = \"SessionId\" }",
    )
}

fn path(authority: &Authority) -> String {
    authority.certificate.display().to_string()
}
