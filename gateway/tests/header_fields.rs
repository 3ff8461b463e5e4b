//! Header fields: what belongs to one hop, or is a credential, stays at the gateway; the rest passes both ways.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Write};

use support::backend::{After, Backend};
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::plain::{self, BACKEND_KEY, KEY};

#[test]
fn fields_of_the_callers_hop_and_its_credentials_stay_at_the_gateway() {
    let (gateway, backend) = gateway();
    let kept = [
        ("x-custom", "1"),
        ("openai-organization", "org"),
        ("x-ms-client-request-id", "id"),
        ("user-agent", "test"),
    ];
    let dropped = [
        ("connection", "x-hop, keep-alive"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "secret"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("cookie", "session=secret"),
        ("authorization", "Bearer secret"),
        ("ocp-apim-subscription-key", "secret"),
        ("expect", "something-else"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
    ];
    let headers = [&kept[..], &dropped[..]].concat();
    let answer = call(&gateway, "POST", "/v1/files", &headers, b"{}");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = &backend.received()[0];
    for (name, value) in kept {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    for (name, _) in dropped {
        let expected = (name == "authorization").then(|| format!("Bearer {BACKEND_KEY}"));
        assert_eq!(received.header(name).map(str::to_owned), expected, "{name}");
    }
    let text = format!("{received:?}");
    assert!(!text.contains(KEY) && !text.contains("secret"), "{text}");
}

#[test]
fn a_key_in_the_query_stays_at_the_gateway() {
    let (gateway, backend) = gateway();
    for name in ["subscription-key", "api-key"] {
        let url = format!("{}/v1/models?a=1&{name}={KEY}&b=2", gateway.url);
        let answer = http::get(&url);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    for received in backend.received() {
        assert_eq!(received.path(), "/v1/models?a=1&b=2");
    }
    assert!(!gateway.log().contains(KEY), "{}", gateway.log());
}

#[test]
fn the_most_talkative_log_holds_no_key_whatever_goes_wrong() {
    let backend = Backend::start(|_, _| Ok(After::Close));
    let server = "max-request-body = \"1KiB\"\nmax-buffered-bodies = \"1MiB\"";
    let config = plain::config(server, &plain::openai(&backend.url));
    let gateway = Gateway::start_with(&config, &[("TOLLGATE_LOG", "debug")]);
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
    let large = vec![b'x'; 10_000];
    let query = format!("subscription-key={KEY}&x=1");
    for (method, path, headers, body) in [
        ("GET", format!("/v1/models?{query}"), &[][..], &b""[..]),
        ("POST", format!("/v1/files?{query}"), &[], &large),
        ("POST", format!("/v1/chat/completions?{query}"), &[], &large),
        (
            "GET",
            format!("/v1/realtime?model=m&{query}"),
            &upgrade,
            b"",
        ),
        (
            "GET",
            format!("/nowhere?{query}"),
            &[("authorization", KEY)],
            b"",
        ),
    ] {
        let answer = call(&gateway, method, &path, headers, body);
        assert!(answer.status >= 400, "{method} {path}");
        assert!(!answer.text().contains(KEY));
    }
    gateway.wait_for_metric("tollgate_refusals_total", &[], 5.0);
    let log = gateway.log();
    for secret in [KEY, BACKEND_KEY] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}

#[test]
fn fields_of_the_backends_hop_and_its_own_limits_stay_behind() {
    let backend = Backend::fixed(
        200,
        &[
            ("content-type", "application/json"),
            ("connection", "x-hop, keep-alive"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("alt-svc", "h3=\":443\""),
            ("x-ratelimit-remaining-tokens", "7"),
            ("X-RateLimit-Limit-Requests", "7"),
            ("x-ms-region", "East US"),
            ("apim-request-id", "a-1"),
            ("x-request-id", "r-1"),
            ("x-custom", "1"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ],
        "{}",
    );
    let gateway = before(&backend);
    let answer = get(&gateway, "/v1/models", &[]);
    for (name, value) in [
        ("x-ms-region", "East US"),
        ("apim-request-id", "a-1"),
        ("x-request-id", "r-1"),
        ("x-custom", "1"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    for name in [
        "x-hop",
        "keep-alive",
        "proxy-authenticate",
        "alt-svc",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-limit-requests",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    let cookies = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    assert_eq!(
        cookies.map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
        ["a=1", "b=2"]
    );
}

#[test]
fn an_answer_without_an_id_has_that_of_its_line_in_the_usage_log() {
    let json = [("content-type", "application/json")];
    let backend = Backend::fixed(200, &json, "{}");
    let folder = tempfile::tempdir().unwrap();
    let config = plain::config("max-request-body = \"1KiB\"", &plain::openai(&backend.url));
    let log = format!("\n[usage-log]\ndirectory = {:?}\n", folder.path());
    let gateway = Gateway::start(&format!("{config}{log}"));
    let chat = b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}";
    let understood = call(&gateway, "POST", "/v1/chat/completions", &[], chat);
    let carried = call(&gateway, "POST", "/v1/files", &[], &[b'x'; 4 << 10]);
    gateway.stop();
    let written: String = std::fs::read_dir(folder.path())
        .unwrap()
        .filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok())
        .collect();
    for answer in [understood, carried] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(id.len(), 32);
        let field = format!("\"request_id\":\"{id}\"");
        assert_eq!(written.matches(&field).count(), 1, "{id} in {written}");
    }
}

#[test]
fn answers_without_a_body_have_none() {
    let backend = Backend::start(|request, stream| {
        let head = match request.path() {
            "/v1/files/gone" => "HTTP/1.1 204 No Content\r\nx-kept: 1\r\n\r\n",
            "/v1/files/same" => {
                "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 9\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n",
        };
        stream.write_all(head.as_bytes())?;
        Ok(After::Keep)
    });
    let gateway = before(&backend);
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for (line, status) in [
        ("DELETE /v1/files/gone", 204),
        ("GET /v1/files/same", 304),
        ("HEAD /v1/files/head", 200),
    ] {
        write!(
            stream,
            "{line} HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n\r\n"
        )
        .unwrap();
        let (found, headers) = http::read_head(&mut answers).unwrap();
        assert_eq!(found, status, "{line}");
        assert!(
            !headers.iter().any(|(name, _)| name == "transfer-encoding"),
            "{line}: {headers:?}"
        );
        let stated = headers.iter().find(|(name, _)| name == "content-length");
        let expected = (status == 200).then_some("12345");
        if status != 304 {
            assert_eq!(stated.map(|(_, value)| value.as_str()), expected, "{line}");
        }
    }
    // The connection is in step: the next answer begins where it should.
    write!(
        stream,
        "HEAD /v1/unknown/.. HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n\r\n"
    )
    .unwrap();
    assert_eq!(http::read_head(&mut answers).unwrap().0, 404);
    write!(
        stream,
        "DELETE /v1/files/gone HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n\r\n"
    )
    .unwrap();
    assert_eq!(http::read_head(&mut answers).unwrap().0, 204);
}

#[test]
fn an_offer_to_speak_http_2_instead_is_ignored_and_the_call_is_metered() {
    let backend = Backend::fixed(
        200,
        &[("content-type", "application/json")],
        "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}",
    );
    let gateway = before(&backend);
    for upgrade in ["h2c", "websocket"] {
        let body = b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}";
        let headers = [("upgrade", upgrade), ("connection", "upgrade")];
        let answer = call(&gateway, "POST", "/v1/chat/completions", &headers, body);
        assert_eq!(answer.status, 200, "{upgrade}");
    }
    gateway.wait_for_metric(
        "tollgate_usage_records_total",
        &[("source", "upstream")],
        2.0,
    );
    for received in backend.received() {
        assert_eq!(received.header("upgrade"), None);
    }
}

fn gateway() -> (Gateway, Backend) {
    let backend = Backend::fixed(200, &[("content-type", "application/json")], "{}");
    (before(&backend), backend)
}

fn before(backend: &Backend) -> Gateway {
    Gateway::start(&plain::config("", &plain::openai(&backend.url)))
}

fn get(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    call(gateway, "GET", path, headers, b"")
}

fn call(
    gateway: &Gateway,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let headers = [&[("api-key", KEY)], headers].concat();
    http::request(method, &format!("{}{path}", gateway.url), &headers, body)
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}
