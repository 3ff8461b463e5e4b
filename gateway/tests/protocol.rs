//! HTTP itself: what can be read in two ways is refused, and everything else passes as it came.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Read, Write};

use support::backend::{After, Backend};
use support::curl;
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::plain::{self, KEY};

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused_and_the_connection_ends() {
    let (gateway, backend) = gateway();
    let ambiguous = [
        "POST /v1/files HTTP/1.1\r\nHost: a\r\nApi-Key: @KEY@\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nHost: a\r\nApi-Key: @KEY@\r\nTransfer-Encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nApi-Key: @KEY@\r\n\r\n",
        "GET /v1/models HTTP/1.1\nHost: a\nApi-Key: @KEY@\n\n",
        "GET /v1/models HTTP/1.1\r\nHost: a\nApi-Key: @KEY@\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: a b\r\nApi-Key: @KEY@\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: a/b\r\nApi-Key: @KEY@\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: a, b\r\nApi-Key: @KEY@\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nHost: a\r\nApi-Key: @KEY@\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nHost: a\r\nApi-Key: @KEY@\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ];
    for request in ambiguous {
        let text = raw(&gateway, &request.replace("@KEY@", KEY));
        assert!(text.starts_with("HTTP/1.1 400 "), "{request}{text}");
        assert!(text.contains("\"code\":\"bad_request\""), "{request}{text}");
    }
    assert!(backend.received().is_empty());
}

#[test]
fn heads_that_are_no_http_are_refused_by_whoever_reads_them_first() {
    let (gateway, backend) = gateway();
    let broken = [
        "POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked, x\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "POST /v1/files HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /v1/models HTTP/3.0\r\nHost: a\r\n\r\n",
        "nonsense\r\n\r\n",
        "\x16\x03\x01\x02\x00",
    ];
    for request in broken {
        let text = raw(&gateway, request);
        declined(&text, "400", "bad_request");
    }
    assert!(backend.received().is_empty());
    let reason = [("reason", "bad_request")];
    let counted = gateway.metric("tollgate_refusals_total", &reason);
    assert_eq!(counted, broken.len() as f64);
}

#[test]
fn a_head_that_is_longer_than_any_is_refused_before_it_is_read_to_its_end() {
    let (gateway, backend) = gateway();
    let start = "GET /v1/models HTTP/1.1\r\nHost: a\r\n";
    let long = format!("{start}x-long: {}", "x".repeat(80 << 10));
    let many: String = (0..300)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect();
    for request in [long, format!("{start}{many}\r\n")] {
        let text = raw(&gateway, &request);
        declined(&text, "431", "request_head_too_large");
    }
    assert!(backend.received().is_empty());
}

/// An answer in the form of every refusal, after which the connection ended.
fn declined(text: &str, status: &str, code: &str) {
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(!head.contains("\r\nserver:"), "{text}");
    for field in [
        "connection: close",
        "content-type: application/json",
        "x-request-id: ",
    ] {
        assert!(head.contains(field), "{text}");
    }
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], code);
    assert_eq!(body["error"]["type"], "invalid_request_error");
}

#[test]
fn chunks_that_are_none_are_refused() {
    let (gateway, backend) = gateway();
    let head = "POST /v1/files HTTP/1.1\r\nHost: a\r\nApi-Key: @KEY@\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "fffffffffffffffff\r\nabc",
        "3\nabc\n0\n\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
    ] {
        let text = raw(&gateway, &format!("{}{chunks}", head.replace("@KEY@", KEY)));
        declined(&text, "400", "bad_request");
    }
    assert!(backend.received().is_empty());
}

#[test]
fn heads_beyond_the_bounds_are_refused_in_the_form_of_every_refusal() {
    let (gateway, backend) = gateway();
    let many: Vec<String> = (0..110).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let long = "x".repeat(40 << 10);
    for headers in [many, vec![("x-long", long.as_str())]] {
        let answer =
            http::request("GET", &format!("{}/v1/models", gateway.url), &headers, b"").unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (431, "request_head_too_large")
        );
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
    assert!(backend.received().is_empty());
    let query = format!("x={}", "y".repeat(20 << 10));
    let answer = get(&gateway, &format!("/v1/models?{query}"), &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(backend.received()[0].path(), format!("/v1/models?{query}"));
}

#[test]
fn bounds_that_were_raised_are_those_of_each_version() {
    let backend = Backend::fixed(200, &[], "{}");
    let server = "h2c = \"@H2C@\"\nlimits = { max-header-bytes = \"256KiB\", max-headers = 256 }";
    let gateway = Gateway::start(&plain::config(server, &plain::openai(&backend.url)));
    // With what HTTP/2 counts for each field that is more than 64 KiB, and less than curl sends.
    let (key, long) = (
        format!("api-key: {KEY}"),
        format!("x-long: {}", "x".repeat(58 << 10)),
    );
    for (base, version) in [
        (&gateway.url, "--http1.1"),
        (&gateway.h2c_url, "--http2-prior-knowledge"),
    ] {
        let url = format!("{base}/v1/models");
        let mut arguments = vec![version, &url, "-H", &key, "-H", &long];
        let many: Vec<String> = (0..240).map(|number| format!("x-{number}: 1")).collect();
        many.iter()
            .for_each(|field| arguments.extend(["-H", field]));
        assert_eq!(curl::curl(&arguments).answer.status, 200, "{version}");
    }
    assert_eq!(backend.received().len(), 2);
}

#[test]
fn paths_that_another_server_could_read_otherwise_arent_there() {
    let (gateway, backend) = gateway();
    let odd = [
        "/v1/files/../models",
        "/v1/files/%2e%2e/models",
        "/v1/files/..%2fmodels",
        "/v1/./models",
        "/v1//models",
        "//v1/models",
        "/v1/files/a%00b",
        "/v1/files/a%0d%0ab",
        "/v1/files/a%5cb",
        "/v1/files/a%zz",
        "/v1/files/a;b",
        "/v12/models",
        "/",
    ];
    for path in odd {
        let answer = get(&gateway, path, &[]);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "not_found"),
            "{path}"
        );
    }
    assert!(backend.received().is_empty());
}

#[test]
fn a_path_that_isnt_text_reaches_no_backend() {
    let (gateway, backend) = gateway();
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let mut request =
        b"GET /v1/files/\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\napi-key: ".to_vec();
    request.extend(format!("{KEY}\r\n\r\n").as_bytes());
    stream.write_all(&request).unwrap();
    let answer = http::read_answer(&mut BufReader::new(stream)).unwrap();
    assert!(matches!(answer.status, 400 | 404), "{}", answer.status);
    assert!(backend.received().is_empty());
}

#[test]
fn methods_pass_with_their_paths_and_queries() {
    let (gateway, backend) = gateway();
    let calls = [
        ("GET", "/v1/files?limit=3&after=a%2Fb&x=%C3%A9"),
        ("DELETE", "/v1/files/file-1"),
        ("POST", "/v1/files/file%2D1"),
        ("PUT", "/v1/unheard/of"),
        ("PATCH", "/v1/unheard/of?a"),
        ("OPTIONS", "/v1/files"),
    ];
    for (count, (method, path)) in calls.into_iter().enumerate() {
        let answer = call(&gateway, method, path, &[], b"");
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        let received = backend.received();
        assert_eq!(received.len(), count + 1);
        assert_eq!(received[count].line, format!("{method} {path} HTTP/1.1"));
    }
}

#[test]
fn a_target_with_scheme_and_host_is_read_as_its_path() {
    let (gateway, backend) = gateway();
    let request = format!(
        "GET http://elsewhere.example/v1/models?a=b HTTP/1.1\r\nHost: elsewhere.example\r\napi-key: {KEY}\r\nConnection: close\r\n\r\n"
    );
    assert!(raw(&gateway, &request).starts_with("HTTP/1.1 200 "));
    let received = &backend.received()[0];
    assert_eq!(received.path(), "/v1/models?a=b");
    assert_eq!(
        received.header("host"),
        Some(&backend.url["http://".len()..])
    );
}

#[test]
fn a_tunnel_is_refused() {
    let (gateway, backend) = gateway();
    let text = raw(
        &gateway,
        "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example:443\r\n\r\n",
    );
    declined(&text, "405", "method_not_allowed");
    assert!(
        text.to_ascii_lowercase().contains("\r\nallow: get, "),
        "{text}"
    );
    assert!(backend.received().is_empty());
}

#[test]
fn a_backend_is_never_asked_to_send_back_what_it_got() {
    let (gateway, backend) = gateway();
    let answer = call(&gateway, "TRACE", "/v1/files", &[], b"");
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    assert!(backend.received().is_empty());
}

#[test]
fn a_compressed_body_is_refused_by_its_name() {
    let (gateway, _backend) = gateway();
    let packed = [0x1f, 0x8b, 8, 0, 0xff];
    let headers = [("content-encoding", "gzip")];
    let answer = call(&gateway, "POST", "/v1/chat/completions", &headers, &packed);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "invalid_request_body")
    );
    assert!(
        answer.text().contains("Content-Encoding"),
        "{}",
        answer.text()
    );
    let plain = br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let headers = [("content-encoding", "identity")];
    let answer = call(&gateway, "POST", "/v1/chat/completions", &headers, plain);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn interim_answers_of_the_backend_arent_taken_for_the_answer() {
    let backend = Backend::start(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
        )?;
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok",
        )?;
        Ok(After::Keep)
    });
    let gateway = before(&backend);
    for _ in 0..5 {
        let answer = call(&gateway, "POST", "/v1/files", &[], b"abc");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
}

#[test]
fn a_backend_that_switches_protocols_unasked_has_failed() {
    let backend = Backend::start(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        )?;
        Ok(After::Keep)
    });
    let answer = call(&before(&backend), "POST", "/v1/files", &[], b"abc");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "no_backend_available")
    );
}

#[test]
fn a_caller_of_http_1_0_gets_bytes_until_the_end() {
    let backend = Backend::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")?;
        Ok(After::Keep)
    });
    let gateway = before(&backend);
    let text = raw(
        &gateway,
        &format!("GET /v1/files HTTP/1.0\r\napi-key: {KEY}\r\n\r\n"),
    );
    assert!(text.contains(" 200 "), "{text}");
    assert!(text.ends_with("\r\n\r\nabcdef"), "{text}");
    assert!(
        !text.to_ascii_lowercase().contains("transfer-encoding"),
        "{text}"
    );
}

#[test]
fn a_caller_of_http_1_0_sees_the_connection_closed_unless_it_asks_otherwise() {
    let (gateway, _backend) = gateway();
    let request = format!("GET /v1/files HTTP/1.0\r\napi-key: {KEY}\r\n\r\n");
    // To read to the end is to see it closed.
    let served = raw(&gateway, &request);
    let refused = raw(&gateway, "GET /v1/files HTTP/1.0\r\n\r\n");
    for (text, status) in [(served, " 200 "), (refused, " 401 ")] {
        assert!(text.contains(status), "{text}");
        assert!(
            text.to_ascii_lowercase().contains("connection: close"),
            "{text}"
        );
    }
    let kept = request.replace("\r\n\r\n", "\r\nconnection: keep-alive\r\n\r\n");
    let text = raw(&gateway, &format!("{kept}{request}"));
    assert_eq!(text.matches(" 200 ").count(), 2, "{text}");
}

#[test]
fn a_connection_whose_request_was_framed_in_two_ways_is_closed_after_it() {
    let (gateway, backend) = gateway();
    let head = format!("POST /v1/files HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n");
    let twice = "content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let text = raw(
        &gateway,
        &format!("{head}{twice}{head}content-length: 0\r\n\r\n"),
    );
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    assert!(backend.received().len() <= 1);
}

#[test]
fn a_pipelined_next_request_doesnt_cut_the_answer_before_it() {
    let backend = Backend::start(|request, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
        for _ in 0..50 {
            let event = format!("data: {}\n\n", request.body.len());
            write!(stream, "{:x}\r\n{event}\r\n", event.len())?;
            std::thread::yield_now();
        }
        stream.write_all(b"0\r\n\r\n")?;
        Ok(After::Keep)
    });
    let gateway = before(&backend);
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let one = |length: usize| {
        let body = "x".repeat(length);
        format!(
            "POST /v1/files HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    stream
        .write_all(format!("{}{}", one(1), one(2)).as_bytes())
        .unwrap();
    let head = http::read_head(&mut answers).unwrap();
    assert_eq!(head.0, 200);
    // The third comes while the first is on its way.
    stream.write_all(one(3).as_bytes()).unwrap();
    for length in 1..=3 {
        if length > 1 {
            assert_eq!(http::read_head(&mut answers).unwrap().0, 200);
        }
        let mut body = Vec::new();
        loop {
            let chunk = http::read_chunk(&mut answers).unwrap();
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        }
        let event = format!("data: {length}\n\n");
        assert_eq!(String::from_utf8(body).unwrap(), event.repeat(50));
    }
}

#[test]
fn many_requests_share_one_connection() {
    let (gateway, backend) = gateway();
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for number in 0..200 {
        let body = format!(
            "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{number}\"}}]}}"
        );
        let length = body.len();
        write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        assert_eq!(http::read_answer(&mut answers).unwrap().status, 200);
    }
    assert_eq!(backend.received().len(), 200);
    assert!(backend.connections() < 50, "{}", backend.connections());
}

#[test]
fn requests_of_all_forms_come_through_one_connection_in_order_however_they_are_cut() {
    let backend = Backend::start(|request, stream| {
        let seen = format!("{} {}", request.path(), request.body.len());
        let length = seen.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n"
        )?;
        if !request.line.starts_with("HEAD") {
            stream.write_all(seen.as_bytes())?;
        }
        Ok(After::Keep)
    });
    let gateway = before(&backend);
    let forms = 7;
    for cut in [1 << 20, 9000, 4096, 1000, 77] {
        let mut sent = Vec::new();
        let mut expected = Vec::new();
        for number in 0..5 * forms {
            // Long enough for several reads of a head, and for none.
            let length = [0, 3, 5000, 20_000][number % 4];
            let body = "x".repeat(length);
            let path = format!("/v1/files/{number}");
            let head = format!("{path} HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n");
            let (request, is_head, length) = match number % forms {
                0 => (
                    format!("POST {head}content-length: {length}\r\n\r\n{body}"),
                    false,
                    length,
                ),
                1 => (format!("GET {head}\r\n"), false, 0),
                2 => (
                    format!(
                        "POST {head}transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n1;x=y\r\nf\r\n0\r\n\r\n"
                    ),
                    false,
                    6,
                ),
                3 => (format!("HEAD {head}\r\n"), true, 0),
                4 => (
                    format!(
                        "POST {head}content-length: {length}\r\ncontent-length: {length}\r\n\r\n{body}"
                    ),
                    false,
                    length,
                ),
                5 => (
                    format!("GET {head}connection: keep-alive, x-hop\r\nx-hop: 1\r\n\r\n"),
                    false,
                    0,
                ),
                _ => (
                    format!(
                        "POST {head}x-long: {}\r\ncontent-length: {length}\r\n\r\n{body}",
                        "y".repeat(9000)
                    ),
                    false,
                    length,
                ),
            };
            sent.extend_from_slice(request.as_bytes());
            expected.push((is_head, format!("{path} {length}")));
        }
        let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let sending = std::thread::spawn(move || {
            for part in sent.chunks(cut) {
                stream.write_all(part).unwrap();
            }
            stream
        });
        for (is_head, seen) in expected {
            let (status, fields) = http::read_head(&mut answers).unwrap();
            assert_eq!(status, 200, "{seen}");
            let length = fields
                .iter()
                .find(|field| field.0.eq_ignore_ascii_case("content-length"));
            assert_eq!(
                length.unwrap().1,
                seen.len().to_string(),
                "{seen} cut by {cut}"
            );
            if !is_head {
                let mut body = vec![0; seen.len()];
                answers.read_exact(&mut body).unwrap();
                assert_eq!(String::from_utf8(body).unwrap(), seen, "cut by {cut}");
            }
        }
        sending.join().unwrap();
    }
}

#[test]
fn a_connection_ends_where_its_caller_asks_for_that() {
    let (gateway, _backend) = gateway();
    for request in [
        "GET /v1/files HTTP/1.1\r\nhost: a\r\nconnection: close\r\n",
        "GET /v1/files HTTP/1.1\r\nhost: a\r\nconnection: x, close\r\n",
        "GET /v1/files HTTP/1.0\r\n",
        "POST /v1/files HTTP/1.1\r\nhost: a\r\nConnection: Close\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let end = if request.contains("chunked") {
            "\r\n0\r\n\r\n"
        } else {
            "\r\n"
        };
        let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
        write!(stream, "{request}api-key: {KEY}\r\n{end}").unwrap();
        let mut text = String::new();
        // To the end of the connection, which comes.
        stream.read_to_string(&mut text).unwrap();
        assert!(
            text.contains(" 200 ") && text.ends_with("{}"),
            "{request}{text}"
        );
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

/// Sends these bytes, and reads until the gateway closes the connection.
fn raw(gateway: &Gateway, request: &str) -> String {
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    if let Err(error) = stream.read_to_end(&mut text) {
        panic!("{error} after {:?}", String::from_utf8_lossy(&text));
    }
    String::from_utf8_lossy(&text).into_owned()
}
