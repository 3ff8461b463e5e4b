//! The head of a request over HTTP/1.1 whose framing leaves no question.
//!
//! What is read here is a narrow part of HTTP: one line ending, one `Host`, at most one length, no transfer encoding, no
//! upgrade, nothing to wait for. All else, a mistake or not, is left to Pingora's reader, which knows the whole of it. So there is
//! one place that has to be right about what is ambiguous, and this isn't it. Values stay slices of what was read.
//! Never reads from a connection, never refuses.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Uri};
use httparse::{ParserConfig, Request, Status};
use pingora::http::RequestHeader;

/// More fields than callers send. A head with more isn't looked at here.
const FIELDS_MAX: usize = 64;
/// Digits of a length; no body has more. As many as surely fit into 64 bits.
const LENGTH_DIGITS_MAX: usize = 18;

/// A head, and what follows from it.
#[derive(Debug)]
pub struct Head {
    /// The request line and the fields.
    pub request: RequestHeader,
    /// The length of the body. Bytes.
    pub body_bytes: usize,
    /// Whether another request may follow.
    pub keeps_alive: bool,
}

/// Where the head at the beginning of `bytes` ends, if it does.
pub fn end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a whole head; `None` if it isn't plain.
pub fn plain(bytes: &Bytes) -> Option<Head> {
    if memchr::memchr_iter(b'\n', bytes).any(|at| at == 0 || bytes[at - 1] != b'\r') {
        return None;
    }
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = Request::new(&mut []);
    let config = ParserConfig::default();
    match config.parse_request_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(Status::Complete(length)) if length == bytes.len() => {}
        Ok(Status::Complete(_) | Status::Partial) | Err(_) => return None,
    }
    if parsed.version != Some(1) {
        return None;
    }
    let mut request = http::Request::new(()).into_parts().0;
    request.method = method(parsed.method?)?;
    request.uri = target(bytes, parsed.path?)?;
    request.headers.reserve(parsed.headers.len());
    let mut said = Said::default();
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        said.hear(&name, field.value)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        request.headers.append(name, value);
    }
    said.has_host.then_some(Head {
        request: RequestHeader::from(request),
        body_bytes: said.body_bytes.unwrap_or(0),
        keeps_alive: !said.closes,
    })
}

/// `HEAD` is answered without a body, and `CONNECT` is no request to us.
fn method(name: &str) -> Option<Method> {
    let method = Method::from_bytes(name.as_bytes()).ok()?;
    (method != Method::HEAD && method != Method::CONNECT).then_some(method)
}

/// A path with its query. One that might be taken for an address is left to Pingora.
fn target(bytes: &Bytes, target: &str) -> Option<Uri> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#' && *byte != b'\\';
    let is_path = target.starts_with('/') && !target.starts_with("//");
    if !is_path || !target.as_bytes().iter().all(is_plain) {
        return None;
    }
    Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).ok()
}

/// What the fields say of framing.
#[derive(Debug, Default)]
struct Said {
    has_host: bool,
    body_bytes: Option<usize>,
    closes: bool,
}

impl Said {
    /// Takes in a field; `None` if it isn't plain any more.
    fn hear(&mut self, name: &HeaderName, value: &[u8]) -> Option<()> {
        match *name {
            header::HOST if self.has_host || !is_host(value) => return None,
            header::HOST => self.has_host = true,
            header::CONTENT_LENGTH if self.body_bytes.is_some() => return None,
            header::CONTENT_LENGTH => self.body_bytes = Some(length(value)?),
            header::CONNECTION if value.eq_ignore_ascii_case(b"keep-alive") => {}
            header::CONNECTION if value.eq_ignore_ascii_case(b"close") => self.closes = true,
            header::CONNECTION
            | header::TRANSFER_ENCODING
            | header::TRAILER
            | header::EXPECT
            | header::UPGRADE => return None,
            _ => {}
        }
        Some(())
    }
}

/// A name or address with its port.
fn is_host(value: &[u8]) -> bool {
    let is_plain = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'_' | b'[' | b']')
    };
    !value.is_empty() && value.iter().all(is_plain)
}

/// Digits alone: no sign, no blank, no list.
fn length(value: &[u8]) -> Option<usize> {
    let is_plain = (1..=LENGTH_DIGITS_MAX).contains(&value.len());
    if !is_plain || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pingora::protocols::http::ServerSession;
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Head> {
        plain(&Bytes::from(text.to_owned()))
    }

    fn with(fields: &str) -> Option<Head> {
        read(&format!(
            "POST /v1/x?y=1 HTTP/1.1\r\nHost: a.test:80\r\n{fields}\r\n"
        ))
    }

    #[test]
    fn a_plain_head_is_read() {
        let head =
            with("Content-Length: 12\r\nX-Two: 1\r\nx-two:  2 \r\nconnection: Keep-Alive\r\n");
        let head = head.unwrap();
        assert_eq!((head.body_bytes, head.keeps_alive), (12, true));
        assert_eq!(head.request.method, "POST");
        assert_eq!(head.request.uri, "/v1/x?y=1");
        assert_eq!(head.request.raw_path(), b"/v1/x?y=1");
        let twice: Vec<_> = head.request.headers.get_all("x-two").iter().collect();
        assert_eq!(twice, ["1", "2"]);
        let head = with("connection: close\r\n").unwrap();
        assert_eq!((head.body_bytes, head.keeps_alive), (0, false));
    }

    #[test]
    fn whatever_might_be_read_in_two_ways_is_not_read_here() {
        for fields in [
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: +1\r\n",
            "content-length: 1, 1\r\n",
            "content-length:\r\n",
            "content-length: 1234567890123456789\r\n",
            "content-length : 1\r\n",
            "transfer-encoding: chunked\r\n",
            "transfer-encoding: identity\r\n",
            "trailer: x\r\n",
            "expect: 100-continue\r\n",
            "upgrade: websocket\r\n",
            "connection: upgrade\r\n",
            "connection: keep-alive, content-length\r\n",
            "host: b\r\n",
            "x: 1\n",
            "x: 1\r\n y: 2\r\n",
            "x: a\0b\r\n",
            "x y: 1\r\n",
            ": 1\r\n",
        ] {
            assert!(with(fields).is_none(), "{fields:?}");
        }
        for line in [
            "GET / HTTP/1.0",
            "GET / HTTP/2.0",
            "HEAD / HTTP/1.1",
            "CONNECT a:1 HTTP/1.1",
            "GET http://a/ HTTP/1.1",
            "GET //a/ HTTP/1.1",
            "GET * HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /a\\b HTTP/1.1",
            "GET /ä HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /",
            "",
        ] {
            let text = format!("{line}\r\nhost: a\r\n\r\n");
            assert!(read(&text).is_none(), "{line:?}");
        }
        for host in ["", "user@a", "a/b", "a,b", "ä"] {
            let text = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
            assert!(read(&text).is_none(), "{host:?}");
        }
        assert!(read("GET / HTTP/1.1\r\nx: 1\r\n\r\n").is_none());
        let many: String = (0..FIELDS_MAX).map(|at| format!("x-{at}: 1\r\n")).collect();
        assert!(with(&many).is_none());
    }

    const METHODS: &[&str] = &["GET", "POST", "HEAD", "CONNECT", "X-Y", "get", " GET"];
    const TARGETS: &[&str] = &[
        "/",
        "/v1/x?y=1",
        "//a/b",
        "/a//b",
        "/%2f",
        "/a%",
        "/a|b",
        "/a{b}",
        "/a\"b",
        "/a?b?c#d",
        "*",
        "?a",
        "http://a/b",
        "a:1",
        "",
        "/a;b=c",
        "/a\\b",
        "/\u{e4}",
        "/a b",
        "/a@b",
        "/a:b//c",
    ];
    const LINES: &[&str] = &[
        "Host: a\r\n",
        "host:a.test:80\r\n",
        "Host: b@a\r\n",
        "Content-Length: 5\r\n",
        "content-length: 05\r\n",
        "Content-Length: 5,5\r\n",
        "content-length:6 \r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Connection: Keep-Alive\r\n",
        "connection: te\r\n",
        "x: 1\r\n",
        "X:\t2\t\r\n",
        "x:\r\n",
        "x-\u{e4}: 1\r\n",
        "x: \u{e4}\r\n",
        " folded: 1\r\n",
        "x : 1\r\n",
        "x\r\n",
        "x: 1\n",
        "x: a\rb\r\n",
        "Expect: 100-continue\r\n",
        "Upgrade: h2c\r\n",
        "_x: 1\r\n",
        "x: \x7f\r\n",
    ];

    /// What Pingora reads.
    fn pingora(text: &[u8]) -> Option<ServerSession> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut caller, stream) = tokio::io::duplex(1 << 16);
            tokio::io::AsyncWriteExt::write_all(&mut caller, text)
                .await
                .unwrap();
            let mut session = ServerSession::new_http1(Box::new(stream));
            let read = session.read_request().await;
            read.ok().filter(|has_come| *has_come).map(|_| session)
        })
    }

    proptest! {
        /// What is read here is what another reader of HTTP sees: the same fields, in the same order.
        #[test]
        fn nothing_is_added_and_nothing_is_lost(fields in prop::collection::vec(("x-[a-z]{1,8}", "[!-~]{0,12}"), 0..20)) {
            let text: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let head = with(&text).unwrap();
            let count = head.request.headers.len();
            prop_assert_eq!(count, fields.len() + 1);
            for (name, _) in &fields {
                let read: Vec<_> = head.request.headers.get_all(name.as_str()).iter().map(|value| value.to_str().unwrap()).collect();
                let sent: Vec<_> = fields.iter().filter(|field| field.0 == *name).map(|field| field.1.as_str()).collect();
                prop_assert_eq!(read, sent);
            }
        }

        /// Whatever is read here Pingora reads in the same way: there is no request that one sees and the other doesn't.
        #[test]
        fn pingora_reads_the_same(lines in prop::collection::vec(prop::sample::select(LINES), 0..4), method in prop::sample::select(METHODS), target in prop::sample::select(TARGETS), noise in any::<(bool, prop::sample::Index, u8)>()) {
            let mut text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.concat()).into_bytes();
            if let (true, at, byte) = noise {
                let at = at.index(text.len());
                text[at] = byte;
            }
            let whole = end(&text) == Some(text.len());
            if let Some(head) = plain(&Bytes::from(text.clone())).filter(|_| whole) {
                let theirs = pingora(&text).unwrap();
                let theirs = theirs.req_header();
                prop_assert_eq!(&head.request.method, &theirs.method);
                prop_assert_eq!(head.request.raw_path(), theirs.raw_path());
                prop_assert_eq!(&head.request.uri, &theirs.uri);
                prop_assert_eq!(&head.request.headers, &theirs.headers);
                let stated = theirs.headers.get(header::CONTENT_LENGTH);
                let stated = stated.map_or(0, |value| value.to_str().unwrap().parse().unwrap());
                prop_assert_eq!(head.body_bytes, stated);
                prop_assert!(!theirs.headers.contains_key(header::TRANSFER_ENCODING));
            }
        }

        #[test]
        fn whatever_comes_is_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            plain(&Bytes::from(bytes));
        }
    }
}
