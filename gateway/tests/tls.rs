//! The listener with TLS: versions of TLS and HTTP, and callers that must show a certificate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use support::backend::Backend;
use support::certificates::{Authority, Identity};
use support::curl;
use support::gateway::{Gateway, free_address};
use support::http;
use support::plain::{self, KEY};

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
    assert!(
        served
            .gateway
            .log()
            .contains("the key isn't the certificate's")
    );
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
