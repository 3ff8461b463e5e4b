//! The gateway shows backends a token of its own: one call for it however many wait, renewed ahead, never sent when it
//! has expired, never to another backend, and asked for as each of Azure's services wants it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::collections::HashMap;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use load_tests::simulator::{Options, Simulator};
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::backend::{After, Backend, Received};
use support::certificates::Authority;
use support::command;
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::plain::KEY;
use support::tls_front::TlsFront;
use support::token_service::{Mode, TOKEN, TokenService};

const IMDS: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
const RESOURCE: &str = "https://cognitiveservices.azure.com";
const CALLERS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_at_the_start_make_one_call_for_a_token() {
    let service = TokenService::start(Mode::Stalled);
    // The simulator takes a thousand connections at once, and this token alone.
    let options = Options {
        api_key: Some(format!("{TOKEN}1")),
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let config = CONFIG
        .replace("@URL@", &simulator.url())
        .replace("@TABLES@", "")
        .replace("@MEMBERS@", "")
        .replace("connect = \"3s\"", "connect = \"60s\"");
    let gateway = Gateway::start_with(&config, &[(IMDS, &service.url)]);
    let url = format!("{}/v1/chat/completions", gateway.url);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let url = url.clone();
            let thread = std::thread::Builder::new().stack_size(256 << 10);
            thread
                .spawn(move || http::post(&url, &[("api-key", KEY)], CALL))
                .unwrap()
        })
        .collect();
    support::wait_until("every call waits", || {
        let status = http::get(&format!("{}/status", gateway.admin_url)).json();
        (status["in_flight"] == CALLERS).then_some(())
    });
    assert_eq!(simulator.requests().len(), 0);
    service.set(Mode::Well(3600));
    for caller in callers {
        let answer = caller.join().unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), gateway.log());
    }
    assert_eq!(service.received().len(), 1, "calls for a token");
    assert_eq!(simulator.requests().len(), CALLERS);
}

#[test]
fn an_outage_that_is_shorter_than_a_tokens_life_isnt_noticed() {
    let service = TokenService::start(Mode::Well(8));
    let backend = checking(&service);
    let gateway = start(&backend, &[(IMDS, &service.url)]);
    assert_eq!(call(&gateway).status, 200);
    service.set(Mode::Failing(503, ""));
    // Until the token is asked for again, in vain.
    support::wait_until("a renewal fails", || {
        assert_eq!(call(&gateway).status, 200);
        (service.received().len() > 1).then_some(())
    });
    service.set(Mode::Well(3600));
    let renewed = format!("Bearer {TOKEN}2");
    support::wait_until("the next token is sent", || {
        assert_eq!(call(&gateway).status, 200);
        let received = backend.received();
        (received.last()?.header("authorization") == Some(&renewed)).then_some(())
    });
    gateway.wait_for_log("the one at hand is still good");
    gateway.wait_for_log("there is a token again");
}

#[test]
fn an_expired_token_is_never_sent() {
    let service = TokenService::start(Mode::Well(3));
    let backend = checking(&service);
    let gateway = start(&backend, &[(IMDS, &service.url)]);
    assert_eq!(call(&gateway).status, 200);
    service.set(Mode::Failing(500, ""));
    let refused = support::wait_until("there is no token any more", || {
        let answer = call(&gateway);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.code(), "no_backend_available");
    let sent = backend.received().len();
    assert_eq!(call(&gateway).status, 503);
    assert_eq!(backend.received().len(), sent, "the backend was asked");
    // The checking backend answers 401 to a token that isn't good: nobody saw one.
    assert_eq!(refusals(&gateway), 0.0);
    let state = ("backend", "only");
    assert_eq!(
        gateway.metric("tollgate_backend_trips_total", &[state]),
        0.0
    );
    service.set(Mode::Well(3600));
    support::wait_until("there is a token again", || {
        (call(&gateway).status == 200).then_some(())
    });
}

#[test]
fn a_call_that_finds_no_token_goes_to_another_backend_without_one() {
    let service = TokenService::start(Mode::Failing(
        400,
        r#"{"error":"invalid_request","error_description":"planted Identity not found"}"#,
    ));
    let (first, second) = (checking(&service), Backend::fixed(200, &[], "{}"));
    let second_too = format!(
        "[backends.second]\nurl = \"{}/v1\"\nauth = {{ api-key = \"{OTHER_KEY}\" }}\n",
        second.url
    );
    let gateway = Gateway::start_with(
        &config(
            &first,
            &second_too,
            ", { backend = \"second\", priority = 2 }",
        ),
        &[(IMDS, &service.url)],
    );
    assert_eq!(call(&gateway).status, 200);
    assert_eq!(first.received().len(), 0);
    let received = &second.received()[0];
    assert_eq!(
        received.header("authorization"),
        Some(format!("Bearer {OTHER_KEY}").as_str())
    );
    let labels = [("backend", "only"), ("status", "no_credential")];
    gateway.wait_for_metric("tollgate_backend_attempts_total", &labels, 1.0);
    let failure = &identity(&gateway)["failure"]["why"];
    assert_eq!(failure, "refused with status 400: invalid_request");
    let log = gateway.log();
    assert!(log.contains("refused with status 400: invalid_request"));
    assert!(!log.contains("planted"), "{log}");
}

#[test]
fn a_token_doesnt_go_to_the_backend_that_a_call_fails_over_to() {
    let service = TokenService::start(Mode::Well(3600));
    let first = Backend::fixed(503, &[("location", "/elsewhere")], "{}");
    let second = Backend::fixed(200, &[], "{}");
    let third = Backend::fixed(200, &[], "{}");
    let more = format!(
        "[backends.second]\nurl = \"{}/v1\"\nauth = \"none\"\n\
         [backends.third]\nurl = \"{}/v1\"\nauth = {{ managed-identity = {{ resource = \"https://other.example\" }} }}\n\
         [pools.third]\nmembers = [{{ backend = \"third\" }}]\n",
        second.url, third.url
    );
    let config = config(&first, &more, ", { backend = \"second\", priority = 2 }")
        .replace("\"*\" = \"all\"", "\"*\" = \"all\", \"third\" = \"third\"");
    let gateway = Gateway::start_with(&config, &[(IMDS, &service.url)]);
    assert_eq!(call(&gateway).status, 200);
    let bearer = |backend: &Backend| {
        let received = backend.received();
        assert_eq!(received.len(), 1);
        received[0].header("authorization").map(str::to_owned)
    };
    let sent = bearer(&first).unwrap();
    assert_eq!(bearer(&second), None);
    let url = format!("{}/v1/chat/completions", gateway.url);
    let answer = http::post(&url, &[("api-key", KEY)], &CALL.replace("gpt-4o", "third"));
    assert_eq!(answer.status, 200);
    let other = bearer(&third).unwrap();
    assert_ne!(sent, other, "two resources share a token");
    assert!(service.knows(&sent) && service.knows(&other));
    assert_eq!(service.received().len(), 2);
}

#[test]
fn a_refused_token_is_fetched_again_once_a_minute_at_most() {
    let service = TokenService::start(Mode::Well(3600));
    let backend = Backend::fixed(401, &[], "{}");
    let gateway = start(&backend, &[(IMDS, &service.url)]);
    for _ in 0..3 {
        assert_eq!(call(&gateway).status, 401);
    }
    service.wait_for(2);
    let renewed = format!("Bearer {TOKEN}2");
    support::wait_until("the next token is sent", || {
        assert_eq!(call(&gateway).status, 401);
        let received = backend.received();
        (received.last()?.header("authorization") == Some(&renewed)).then_some(())
    });
    assert_eq!(service.received().len(), 2);
}

#[test]
fn a_token_that_is_refused_to_a_carried_call_is_fetched_again_too() {
    let file = "x".repeat(64 << 10);
    let upgrade = [
        ("api-key", KEY),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (method, path, fields, body) in [
        ("POST", "/v1/files", &upgrade[..1], file.as_bytes()),
        ("GET", "/v1/realtime?model=gpt-4o", &upgrade[..], b""),
    ] {
        let service = TokenService::start(Mode::Well(3600));
        let backend = Backend::fixed(401, &[], "{}");
        let text = config(&backend, "", "").replace(
            "[apis.openai]",
            "max-request-body = \"16KiB\"\n[apis.openai]\ndefault-pool = \"all\"",
        );
        let gateway = Gateway::start_with(&text, &[(IMDS, &service.url)]);
        let url = format!("{}{path}", gateway.url);
        let refused = || http::request(method, &url, fields, body).unwrap().status;
        assert_eq!(refused(), 401, "{path}");
        service.wait_for(2);
        let renewed = format!("Bearer {TOKEN}2");
        support::wait_until("the next token is sent", || {
            assert_eq!(refused(), 401);
            let received = backend.received();
            (received.last()?.header("authorization") == Some(&renewed)).then_some(())
        });
        assert_eq!(service.received().len(), 2);
    }
}

#[test]
fn two_backends_with_one_identity_share_its_token_and_status_tells_of_it() {
    let service = TokenService::start(Mode::Well(3600));
    let backend = checking(&service);
    let second = format!(
        "[backends.second]\nurl = \"{}/v1\"\nauth = {{ managed-identity = {{ resource = \"{RESOURCE}\" }} }}\n",
        backend.url
    );
    let config = config(&backend, &second, ", { backend = \"second\" }");
    let gateway = Gateway::start_with(&config, &[(IMDS, &service.url)]);
    for _ in 0..4 {
        assert_eq!(call(&gateway).status, 200);
    }
    assert_eq!(service.received().len(), 1);
    let status = http::get(&format!("{}/status", gateway.admin_url));
    assert!(!status.text().contains(TOKEN));
    let identities = &status.json()["identities"];
    assert_eq!(identities.as_array().unwrap().len(), 1);
    assert_eq!(identities[0]["source"], "imds");
    assert_eq!(identities[0]["resource"], RESOURCE);
    assert!(identities[0]["expires_at"].as_u64() > status.json()["time"].as_u64());
    assert_eq!(identities[0]["failure"], Value::Null);
    let labels = [("source", "imds"), ("result", "ok")];
    assert_eq!(gateway.metric("tollgate_token_fetches_total", &labels), 1.0);
}

#[test]
fn the_metadata_service_is_asked_as_it_wants() {
    let service = TokenService::start(Mode::Well(3600));
    let asked = asked(&service, "", &[(IMDS, &service.url)]);
    assert_eq!(
        asked.line,
        "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fcognitiveservices.azure.com HTTP/1.1"
    );
    assert_eq!(asked.header("metadata"), Some("true"));
    let service = TokenService::start(Mode::Well(3600));
    let user = asked_for_user(&service, &[(IMDS, &service.url)]);
    assert!(user.path().ends_with("&client_id=user-assigned-id"));
}

#[test]
fn the_sidecar_of_app_service_is_asked_as_it_wants() {
    let service = TokenService::start(Mode::Well(3600));
    let endpoint = format!("{}/msi/token/", service.url);
    let asked = asked_for_user(
        &service,
        &[
            ("IDENTITY_ENDPOINT", &endpoint),
            ("IDENTITY_HEADER", "planted-header"),
        ],
    );
    assert_eq!(
        asked.path(),
        "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fcognitiveservices.azure.com&client_id=user-assigned-id"
    );
    assert_eq!(asked.header("x-identity-header"), Some("planted-header"));
    assert_eq!(asked.header("metadata"), None);
}

#[test]
fn entra_is_shown_a_client_secret() {
    let service = TokenService::start(Mode::Well(3600));
    let secret = ("AZURE_CLIENT_SECRET", "planted~secret+&=");
    let asked = asked(
        &service,
        "",
        &[&entra(&service.url)[..], &[secret]].concat(),
    );
    assert_eq!(asked.line, "POST /tenant-1/oauth2/v2.0/token HTTP/1.1");
    let form = form(&asked);
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["client_id"], "client-1");
    assert_eq!(
        form["scope"],
        "https://cognitiveservices.azure.com/.default"
    );
    assert_eq!(form["client_secret"], "planted~secret+&=");
}

#[test]
fn entra_is_shown_a_statement_signed_with_the_certificates_key() {
    let service = TokenService::start(Mode::Well(3600));
    let path = format!(
        "{}/tests/managed_identity/client.pem",
        env!("CARGO_MANIFEST_DIR")
    );
    let certificate = ("AZURE_CLIENT_CERTIFICATE_PATH", path.as_str());
    let asked = asked(
        &service,
        "",
        &[&entra(&service.url)[..], &[certificate]].concat(),
    );
    let form = form(&asked);
    assert_eq!(
        form["client_assertion_type"],
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    let parts: Vec<&str> = form["client_assertion"].split('.').collect();
    let json = |part: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (head, claims) = (json(parts[0]), json(parts[1]));
    let der = CertificateDer::from_pem_file(&path).unwrap();
    assert_eq!(head["alg"], "PS256");
    assert_eq!(
        head["x5t#S256"],
        URL_SAFE_NO_PAD.encode(Sha256::digest(&der))
    );
    assert_eq!(claims["iss"], "client-1");
    assert_eq!(claims["sub"], "client-1");
    assert_eq!(
        claims["aud"],
        format!("{}/tenant-1/oauth2/v2.0/token", service.url)
    );
    assert!(claims["exp"].as_u64() > claims["nbf"].as_u64());
    assert!(claims["jti"].as_str().unwrap().len() >= 16);
    let signed = format!("{}.{}", parts[0], parts[1]);
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, public_key(&path));
    key.verify(signed.as_bytes(), &signature).unwrap();
}

#[test]
fn a_federated_token_is_read_again_for_each_call() {
    let service = TokenService::start(Mode::Well(3600));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "planted.first.token\n").unwrap();
    let path = file.display().to_string();
    let variables = entra(&service.url);
    let federated = ("AZURE_FEDERATED_TOKEN_FILE", path.as_str());
    let backend = Backend::fixed(401, &[], "{}");
    let gateway = start(&backend, &[&variables[..], &[federated]].concat());
    let shown = |asked: &Received| form(asked)["client_assertion"].clone();
    assert_eq!(shown(&service.wait_for(1)[0]), "planted.first.token");
    std::fs::write(&file, "planted.second.token").unwrap();
    // A refused token is one reason to ask again.
    assert_eq!(call(&gateway).status, 401);
    assert_eq!(shown(&service.wait_for(2)[1]), "planted.second.token");
    assert!(!gateway.log().contains("planted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn entra_behind_a_private_authority_is_trusted_where_it_is_named() {
    let service = TokenService::start(Mode::Well(3600));
    let authority = Authority::new("private");
    let target = http::split(&service.url).0.parse().unwrap();
    let shown = authority.issue(&["localhost"]);
    let front = TlsFront::start(target, &shown, &["http/1.1"], None).await;
    let url = format!("https://localhost:{}", front.port);
    let secret = ("AZURE_CLIENT_SECRET", "planted-secret");
    let variables = [&entra(&url)[..], &[secret]].concat();
    let backend = checking(&service);
    let trusting = config(&backend, "", "").replace(
        IDENTITY,
        &format!("{IDENTITY}, ca = {:?}", authority.certificate),
    );
    let gateway = Gateway::start_with(&trusting, &variables);
    assert_eq!(call(&gateway).status, 200);
    let gateway = start(&backend, &variables);
    assert_eq!(
        call(&gateway).status,
        503,
        "an unknown authority is trusted"
    );
    assert_eq!(identity(&gateway)["failure"]["why"], "no answer");
}

#[test]
fn a_reload_takes_another_identity_and_tries_a_failing_one_at_once() {
    let service = TokenService::start(Mode::Failing(403, ""));
    let backend = checking(&service);
    let gateway = start(&backend, &[(IMDS, &service.url)]);
    assert_eq!(call(&gateway).status, 503);
    service.set(Mode::Well(3600));
    // After a refusal the pause is a minute: the reload doesn't wait for its end.
    gateway.signal("HUP");
    support::wait_until("there is a token", || {
        (call(&gateway).status == 200).then_some(())
    });
    let count = service.received().len();
    gateway.rewrite(&config(&backend, "", "").replace(
        IDENTITY,
        &format!("{IDENTITY}, client-id = \"user-assigned-id\""),
    ));
    gateway.signal("HUP");
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 2.0);
    assert_eq!(call(&gateway).status, 200);
    let asked = service.wait_for(count + 1);
    assert!(asked[count].path().ends_with("&client_id=user-assigned-id"));
    assert_eq!(identity(&gateway)["client_id"], "user-assigned-id");
}

#[test]
fn half_of_the_variables_is_told_by_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    let backend = Backend::fixed(200, &[], "{}");
    let text = config(&backend, "", "")
        .replace(IDENTITY, &format!("{IDENTITY}, client-id = \"another\""))
        .replace("@LISTEN@", "127.0.0.1:1")
        .replace("@ADMIN@", "127.0.0.1:2");
    std::fs::write(&file, text).unwrap();
    let told = |variables: &[(&str, &str)]| {
        let mut command = command::tollgate();
        let output = command
            .args(["check", "--config"])
            .arg(&file)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&told).into_owned(),
        )
    };
    let secret = ("AZURE_CLIENT_SECRET", "planted-secret");
    let tenant = ("AZURE_TENANT_ID", "tenant-1");
    for (variables, expected) in [
        (
            vec![secret],
            "the variable AZURE_CLIENT_SECRET is set and AZURE_TENANT_ID isn't, expected both or neither",
        ),
        (
            vec![secret, tenant, ("AZURE_CLIENT_ID", "client-1")],
            "found another client than AZURE_CLIENT_ID names, whose AZURE_CLIENT_SECRET is; expected the same or none",
        ),
        (
            vec![secret, tenant, (AUTHORITY, "http://entra.example")],
            "begins with http://",
        ),
        (
            vec![("IDENTITY_HEADER", "planted-header")],
            "the variable IDENTITY_HEADER is set and IDENTITY_ENDPOINT isn't, expected both or neither",
        ),
        (
            vec![tenant, ("AZURE_CLIENT_CERTIFICATE_PATH", "/nowhere")],
            "can't read the file \"/nowhere\" of AZURE_CLIENT_CERTIFICATE_PATH: no such file or directory",
        ),
    ] {
        let (status, text) = told(&variables);
        assert_eq!(status, Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("planted"), "{text}");
    }
    let (status, text) = told(&[secret, tenant]);
    assert_eq!(status, Some(0), "{text}");
    let line = format!("managed identity (client-secret, client another) for {RESOURCE}");
    assert!(text.contains(&line), "{text}");
}

/// A backend that knows the service's tokens: 401 to any other, and to one that has expired.
fn checking(service: &TokenService) -> Backend {
    let service = service.clone();
    Backend::start(move |received, stream| {
        let shown = received.header("authorization").unwrap_or_default();
        let status = match service.knows(shown) {
            true => 200,
            false => 401,
        };
        let head = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        stream.write_all(head.as_bytes())?;
        Ok(After::Keep)
    })
}

fn start(backend: &Backend, variables: &[(&str, &str)]) -> Gateway {
    Gateway::start_with(&config(backend, "", ""), variables)
}

/// The first call that a gateway makes for a token.
fn asked(service: &TokenService, more: &str, variables: &[(&str, &str)]) -> Received {
    let backend = checking(service);
    let config = config(&backend, "", "").replace(IDENTITY, &format!("{IDENTITY}{more}"));
    let gateway = Gateway::start_with(&config, variables);
    assert_eq!(call(&gateway).status, 200);
    assert!(!gateway.log().contains("planted"), "{}", gateway.log());
    service.received().remove(0)
}

fn asked_for_user(service: &TokenService, variables: &[(&str, &str)]) -> Received {
    asked(service, ", client-id = \"user-assigned-id\"", variables)
}

fn entra(url: &str) -> [(&str, &str); 3] {
    [
        (AUTHORITY, url),
        ("AZURE_TENANT_ID", "tenant-1"),
        ("AZURE_CLIENT_ID", "client-1"),
    ]
}

fn form(asked: &Received) -> HashMap<String, String> {
    let text = String::from_utf8_lossy(&asked.body).into_owned();
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let decoded = |text: &str| filters::route::decoded(text).unwrap().into_owned();
    pairs
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect()
}

/// As DER: what is behind a certificate's RSA key.
fn public_key(path: &str) -> Vec<u8> {
    let key = PrivateKeyDer::from_pem_file(path).unwrap();
    let pair = ring::signature::RsaKeyPair::from_pkcs8(key.secret_der()).unwrap();
    pair.public().as_ref().to_vec()
}

fn call(gateway: &Gateway) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[("api-key", KEY)], CALL)
}

fn refusals(gateway: &Gateway) -> f64 {
    let labels = [("backend", "only"), ("status", "4xx")];
    gateway.metric("tollgate_backend_attempts_total", &labels)
}

fn identity(gateway: &Gateway) -> Value {
    let status = http::get(&format!("{}/status", gateway.admin_url)).json();
    status["identities"][0].clone()
}

/// `more` holds further tables, `members` further members of the pool.
fn config(backend: &Backend, more: &str, members: &str) -> String {
    CONFIG
        .replace("@URL@", &backend.url)
        .replace("@TABLES@", more)
        .replace("@MEMBERS@", members)
}

/// What is written of the identity; further keys follow it.
const IDENTITY: &str = "resource = \"https://cognitiveservices.azure.com\"";
const OTHER_KEY: &str = "key-of-the-other";
const CALL: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"

[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "all" }

[subscriptions.caller]
keys = ["key-of-the-caller"]

[backends.only]
url = "@URL@/v1"
auth = { managed-identity = { resource = "https://cognitiveservices.azure.com" } }
timeouts = { connect = "3s" }

[pools.all]
members = [{ backend = "only" }@MEMBERS@]

@TABLES@
"#;
