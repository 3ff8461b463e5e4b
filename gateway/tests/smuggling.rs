//! Requests that two servers would read differently: none reaches a backend as two, and nobody gets another's answer.
//!
//! The mutations of `Transfer-Encoding` are those of smuggler.py's exhaustive set: each byte in each place where a
//! server might skip it. Over HTTP/2 the frames are written by hand, since a proper client refuses to send such fields.
//! While they arrive, others call on connections of their own and must get their own answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use support::backend::{After, Backend, Received};
use support::gateway::Gateway;
use support::http;
use support::plain::{self, KEY};

/// What would be a second request if somebody took the end of the first one's body for its beginning.
const SMUGGLED: &str = "GET /v1/smuggled HTTP/1.1\r\nHost: a\r\nX-Rest: ";

#[test]
fn no_mutation_of_transfer_encoding_makes_two_requests_of_one() {
    let (gateway, backend) = gateway();
    with_victims(&gateway, || {
        let mutations = mutations();
        assert!(mutations.len() > 1_000, "{}", mutations.len());
        for field in &mutations {
            attack(&gateway, &length_first(field));
            attack(&gateway, &chunks_first(field));
        }
    });
    judge(&backend.received());
}

#[test]
fn lengths_and_chunks_that_are_written_oddly_make_no_second_request() {
    let (gateway, backend) = gateway();
    let lengths = [
        "5\r\nContent-Length: 50",
        "5\r\nContent-Length: 5",
        "5, 5",
        "5,50",
        "+5",
        "-5",
        "0x5",
        "5 5",
        "5;50",
        "05",
        "\t5",
        "5\t",
        "5.0",
        "5e0",
        "",
        "18446744073709551621",
        "99999999999999999999999",
    ];
    let folded = [
        "Content-Length: 5\r\n\tContent-Length: 50",
        "Content-Length:\r\n 50",
        "X-A: b\r\n Content-Length: 50",
        " Content-Length: 50",
        "Content-Length : 50",
        "Content-Length\t: 50",
        "Content\u{b}-Length: 50",
        "Content-Length: 50\r",
        "Content-Length: 50\rX: a",
        "X: a\rContent-Length: 50",
        "X: a\nContent-Length: 50",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: ",
    ];
    let chunks = [
        "5;a=b\r\nhello\r\n0\r\n\r\n".to_owned(),
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(1 << 20)),
        "5\nhello\n0\n\n".to_owned(),
        "5\rhello\r\n0\r\n\r\n".to_owned(),
        "0x5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "+5\r\nhello\r\n0\r\n\r\n".to_owned(),
        " 5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5 \r\nhello\r\n0\r\n\r\n".to_owned(),
        "5\r\nhelloXX0\r\n\r\n".to_owned(),
        "5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\n\r\n".to_owned(),
        "10000000000000005\r\nhello\r\n0\r\n\r\n".to_owned(),
        format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(4_000)),
        "5\r\nhello\r\n0\r\n".to_owned(),
        "00\r\n\r\n".to_owned(),
        "\r\n\r\n".to_owned(),
    ];
    with_victims(&gateway, || {
        for length in lengths {
            attack(
                &gateway,
                format!("{}Content-Length: {length}\r\n\r\nhello{SMUGGLED}", head()).as_bytes(),
            );
        }
        for fields in folded {
            for body in ["hello", "5\r\nhello\r\n0\r\n\r\n"] {
                attack(
                    &gateway,
                    format!("{}{fields}\r\n\r\n{body}{SMUGGLED}", head()).as_bytes(),
                );
                attack(
                    &gateway,
                    format!(
                        "{}Content-Length: 5\r\n{fields}\r\n\r\n{body}{SMUGGLED}",
                        head()
                    )
                    .as_bytes(),
                );
            }
        }
        for body in &chunks {
            attack(
                &gateway,
                format!(
                    "{}Transfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}",
                    head()
                )
                .as_bytes(),
            );
        }
    });
    judge(&backend.received());
}

#[test]
fn heads_that_are_written_oddly_make_no_second_request() {
    let (gateway, backend) = gateway();
    let body = "Content-Length: 5\r\n\r\nhello";
    let chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let lines = [
        "POST /v1/files HTTP/1.0",
        "POST /v1/files HTTP/0.9",
        "POST /v1/files HTTP/1.2",
        "POST /v1/files HTTP/2.0",
        "POST /v1/files HTTP/1.1 ",
        "POST /v1/files\tHTTP/1.1",
        "POST  /v1/files HTTP/1.1",
        "POST /v1/files  HTTP/1.1",
        "POST /v1/files /v1/smuggled HTTP/1.1",
        "POST /v1/files",
        "POST http://elsewhere/v1/files HTTP/1.1",
        "POST http://a@elsewhere/v1/files HTTP/1.1",
        "POST //elsewhere/v1/files HTTP/1.1",
        "POST /v1/files%20HTTP/1.1%0d%0aHost:%20a HTTP/1.1",
        "\r\nPOST /v1/files HTTP/1.1",
        "\nPOST /v1/files HTTP/1.1",
        "POST /v1/files HTTP/1.1\r",
        "PO\0ST /v1/files HTTP/1.1",
        "POST /v1/fi\0les HTTP/1.1",
        "POST /v1/fi\rles HTTP/1.1",
    ];
    let fields = [
        "Host: a\r\nHost: b",
        "Host: a, b",
        "Host: a\r\nExpect: 100-continue",
        "Host: a\r\nExpect: 100-continue\r\nExpect: x",
        "Host: a\r\nExpect: 200-ok",
        "Host: a\r\nConnection: Content-Length",
        "Host: a\r\nConnection: Transfer-Encoding, close",
        "Host: a\r\nConnection: Host",
        "Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket",
        "Host: a\r\n: x",
        "Host: a\r\nX\0: a",
        "Host: a\r\nX: a\0",
        "Host: a\r\nX: a\r\r",
        "Host: a\r\n\r: x",
        "Host: a\r\nTrailer: Content-Length",
        "Host: a\r\nTE: trailers, chunked",
    ];
    with_victims(&gateway, || {
        for rest in [body, chunks] {
            let own = format!("Api-Key: {KEY}\r\n{rest}{SMUGGLED}");
            for line in lines {
                attack(&gateway, format!("{line}\r\nHost: a\r\n{own}").as_bytes());
            }
            for fields in fields {
                let head = format!("POST /v1/files HTTP/1.1\r\n{fields}\r\n");
                attack(&gateway, format!("{head}{own}").as_bytes());
            }
        }
    });
    judge(&backend.received());
}

#[test]
fn nothing_in_http_2_becomes_a_second_request_of_http_1() {
    let (gateway, backend) = gateway();
    let control: &[(&str, &str)] = &[("x-case", "control")];
    let status = http2(&gateway, &fields(control), b"hello", None);
    assert_eq!(status, Some(true), "the frames of this test are no HTTP/2");
    let smuggled = format!("0\r\n\r\n{SMUGGLED}");
    let cases: Vec<Vec<(&str, &str)>> = vec![
        vec![("transfer-encoding", "chunked")],
        vec![("transfer-encoding", "chunked"), ("content-length", "5")],
        vec![("content-length", "0")],
        vec![("content-length", "5")],
        vec![("content-length", "500")],
        vec![("content-length", "5"), ("content-length", "500")],
        vec![("connection", "keep-alive, content-length")],
        vec![("Transfer-Encoding", "chunked")],
        vec![("x-a", "b\r\ncontent-length: 0")],
        vec![("x-a", "b\r\n\r\nGET /v1/smuggled HTTP/1.1\r\nhost: a")],
        vec![("x-a", "b\ntransfer-encoding: chunked")],
        vec![("x-a", "b\rtransfer-encoding: chunked")],
        vec![("x-a", "b\0c")],
        vec![("x-a: b\r\ntransfer-encoding", "chunked")],
        vec![("transfer-encoding: chunked\r\nx", "y")],
        vec![("x y", "z")],
        vec![("host", "elsewhere\r\ntransfer-encoding: chunked")],
        vec![("host", "elsewhere"), ("host", "third")],
        vec![(":path", "/v1/smuggled")],
        vec![(":unknown", "a")],
        vec![(":method", "POST")],
        vec![(":scheme", "http")],
        vec![(":authority", "elsewhere")],
        vec![(":status", "200")],
        vec![(":protocol", "websocket")],
        vec![("te", "chunked")],
        vec![("te", "trailers, chunked")],
        vec![("upgrade", "websocket"), ("connection", "upgrade")],
        vec![("upgrade", "h2c")],
        vec![("keep-alive", "timeout=5")],
        vec![("proxy-connection", "keep-alive")],
        vec![("trailer", "content-length")],
        vec![("expect", "100-continue"), ("content-length", "5")],
        vec![("", "empty")],
        vec![("x-a ", "b")],
        vec![("x-a", " b ")],
    ];
    let replaced: Vec<(&str, &str)> = vec![
        (
            ":path",
            "/v1/files HTTP/1.1\r\nhost: a\r\n\r\nGET /v1/smuggled",
        ),
        (":path", "/v1/files HTTP/1.1\r\ntransfer-encoding: chunked"),
        (":path", "/v1/files /v1/smuggled"),
        (":path", "v1/files"),
        (":path", ""),
        (
            ":method",
            "GET /v1/smuggled HTTP/1.1\r\nhost: a\r\n\r\nPOST",
        ),
        (":method", "POST "),
        (":authority", "a\r\ntransfer-encoding: chunked"),
        (":authority", "a b"),
        (":scheme", "http://a/v1/smuggled?"),
    ];
    with_victims(&gateway, || {
        for case in &cases {
            http2(&gateway, &fields(case), smuggled.as_bytes(), None);
        }
        for (name, value) in &replaced {
            let mut all = fields(&[]);
            let place = all.iter().position(|(field, _)| field == name).unwrap();
            all[place].1 = (*value).to_owned();
            http2(&gateway, &all, smuggled.as_bytes(), None);
        }
        for trailer in [
            ("content-length", "0"),
            ("transfer-encoding", "chunked"),
            ("x-a", "b\r\n\r\nGET /v1/smuggled HTTP/1.1"),
        ] {
            http2(&gateway, &fields(&[]), smuggled.as_bytes(), Some(trailer));
        }
    });
    judge(&backend.received());
}

/// Whatever came through is one whole request of a caller, in fields that nobody can read otherwise.
fn judge(received: &[Received]) {
    assert!(!received.is_empty());
    for request in received {
        // Pingora escapes blanks in a target, which then is one, and known to nobody.
        let path = request.path().split("%20").next().unwrap();
        assert!(
            ["/v1/files", "/v1/end", "/v1/mine"].contains(&path),
            "{request:?}"
        );
        for (name, value) in &request.headers {
            // Some servers hand fields on by names in which these two are one.
            let dashed = name.replace('_', "-");
            assert_ne!(dashed, "transfer-encoding", "{request:?}");
            assert!(dashed == *name || dashed != "content-length", "{request:?}");
            let is_token = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
            let is_plain = value
                .bytes()
                .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
            assert!(is_token && is_plain, "{name:?}: {value:?} in {request:?}");
        }
    }
}

fn gateway() -> (Gateway, Backend) {
    let backend = Backend::start(|request, stream| {
        let said = request.header("x-mine").unwrap_or("nobody");
        let length = said.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{said}"
        )?;
        Ok(After::Keep)
    });
    let config = plain::config("h2c = \"@H2C@\"", &plain::openai(&backend.url));
    (Gateway::start(&config), backend)
}

/// Runs `attacks` while others call, who must get their own answers.
fn with_victims(gateway: &Gateway, attacks: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for victim in 0..2 {
            let over = &over;
            scope.spawn(move || {
                let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
                let mut answers = BufReader::new(stream.try_clone().unwrap());
                let mut count = 0;
                while !over.load(Ordering::Relaxed) || count < 50 {
                    count += 1;
                    let mine = format!("{victim}-{count}");
                    write!(stream, "GET /v1/mine HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\nx-mine: {mine}\r\n\r\n")
                        .unwrap();
                    let answer = http::read_answer(&mut answers).unwrap();
                    assert_eq!((answer.status, answer.text()), (200, mine));
                }
            });
        }
        attacks();
        over.store(true, Ordering::Relaxed);
    });
}

fn head() -> String {
    format!("POST /v1/files HTTP/1.1\r\nHost: a\r\nApi-Key: {KEY}\r\n")
}

/// Who goes by the length sees one request, who goes by the chunks two.
fn length_first(field: &[u8]) -> Vec<u8> {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    let length = format!("\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    [head().as_bytes(), field, length.as_bytes()].concat()
}

/// Who goes by the chunks sees one request, who goes by the length two.
fn chunks_first(field: &[u8]) -> Vec<u8> {
    let chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    let length = format!("\r\nContent-Length: 4\r\n\r\n{chunk}");
    [head().as_bytes(), field, length.as_bytes()].concat()
}

/// Sends it, and one request more, and reads until the gateway closes the connection.
fn attack(gateway: &Gateway, request: &[u8]) {
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let end = format!(
        "\r\n\r\nGET /v1/end HTTP/1.1\r\nHost: a\r\nApi-Key: {KEY}\r\nConnection: close\r\n\r\n"
    );
    // The gateway may have closed by then.
    let _ = stream.write_all(&[request, end.as_bytes()].concat());
    // What waits for more of a body that was announced isn't waited for.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    let text = String::from_utf8_lossy(&answers);
    assert!(!text.contains("smuggled"), "{text}");
}

fn mutations() -> Vec<Vec<u8>> {
    let fixed = [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:[tab]chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding: chunked, cow",
        "Transfer-Encoding: cow, chunked",
        "Transfer-Encoding: CHUNKED",
        "TRANSFER-ENCODING: chunked",
        "Transfer-Encoding: chunk",
        "Transfer_Encoding: chunked",
        "X: X[\nTransfer-Encoding: chunked",
        "Content-Encoding: chunked",
        "Transfer-Encoding: 'chunked'",
        "Transfer-Encoding: identity, chunked",
    ];
    let mut all: Vec<Vec<u8>> = fixed
        .iter()
        .map(|field| field.as_bytes().to_vec())
        .collect();
    for byte in (1..=0x7f).chain([0x80, 0x85, 0xa0, 0xff]) {
        let one = [byte];
        let one = one.as_slice();
        let places: [&[&[u8]]; 10] = [
            &[b"Transfer-Encoding:", one, b"chunked"],
            &[b"Transfer-Encoding", one, b": chunked"],
            &[one, b"Transfer-Encoding: chunked"],
            &[b"Transfer-Encoding: chunked", one],
            &[b"X: X", one, b"Transfer-Encoding: chunked"],
            &[b"Transfer-Encoding: chunked", one, b"X: X"],
            &[b"X: X\r", one, b"Transfer-Encoding: chunked"],
            &[b"X: X", one, b"\nTransfer-Encoding: chunked"],
            &[b"Transfer-Encoding: chunked\r", one, b"X: X"],
            &[b"Transfer-Encoding: chunked", one, b"\nX: X"],
        ];
        all.extend(places.iter().map(|parts| parts.concat()));
    }
    all
}

/// The fields of a good request, and these behind them.
fn fields(more: &[(&str, &str)]) -> Vec<(String, String)> {
    let good = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/v1/files"),
        ("api-key", KEY),
    ];
    let all = good.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Sends one request as frames of a new connection, and reads until its stream or the connection ends. Whether the
/// answer's status was 200; `None`: there was no answer.
fn http2(
    gateway: &Gateway,
    fields: &[(String, String)],
    body: &[u8],
    trailer: Option<(&str, &str)>,
) -> Option<bool> {
    let mut stream = http::connect(&gateway.h2c_url["http://".len()..]).unwrap();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut sent, Kind::Settings, 0, 0, b"");
    let fields = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    frame(&mut sent, Kind::Headers, END_HEADERS, 1, &block(fields));
    let last = if trailer.is_none() { END_STREAM } else { 0 };
    frame(&mut sent, Kind::Data, last, 1, body);
    if let Some(trailer) = trailer {
        let fields = block([trailer].into_iter());
        frame(
            &mut sent,
            Kind::Headers,
            END_HEADERS | END_STREAM,
            1,
            &fields,
        );
    }
    // The gateway may have closed by then.
    let _ = stream.write_all(&sent);
    let mut is_ok = None;
    while let Some((kind, flags, of_stream, payload)) = next_frame(&mut stream) {
        let (headers, reset, goaway) = (1, 3, 7);
        if kind == headers && of_stream == 1 {
            // Index 8 of the static table, behind changes of the dynamic one's size.
            is_ok = payload
                .iter()
                .find(|byte| **byte >> 5 != 1)
                .map(|byte| *byte == 0x88);
        }
        let is_over =
            of_stream == 1 && (kind == reset || (kind <= headers && flags & END_STREAM != 0));
        if is_over || kind == goaway {
            break;
        }
    }
    is_ok
}

#[derive(Clone, Copy)]
enum Kind {
    Data = 0,
    Headers = 1,
    Settings = 4,
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(to: &mut Vec<u8>, kind: Kind, flags: u8, of_stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap();
    to.extend(&length.to_be_bytes()[1..]);
    to.extend([kind as u8, flags]);
    to.extend(of_stream.to_be_bytes());
    to.extend(payload);
}

/// Literal fields without indexing and without Huffman: bytes as they are.
fn block<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).unwrap();
            assert!(length < 0x7f, "{text}");
            block.push(length);
            block.extend(text.as_bytes());
        }
    }
    block
}

fn next_frame(stream: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let of_stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], head[4], of_stream, payload))
}
