//! Requests that HTTP allows to be read in two ways are declined before anything believes one of them.
//!
//! Pingora lets pass: `Content-Length` beside `Transfer-Encoding` (it drops the first), codings before `chunked` (it undoes
//! none), a missing `Host` or one that is none, and lines that end in a bare line feed. Each has been used to smuggle a
//! request past a proxy.
//! Never reads a body.

use filters::refusal::Refusal;
use http::{HeaderValue, Version, header};

use crate::config::plan::Limits;
use crate::downstream::Downstream;

/// Declines a head that is ambiguous, or larger than a caller may send.
///
/// # Errors
/// 400 or 431 with what was wrong.
pub fn check(session: &Downstream<'_>, limits: &Limits) -> Result<(), Refusal> {
    let head = session.request();
    let fields = &head.headers;
    if fields.len() > limits.max_headers {
        return too_large(format!(
            "The request has {} header fields; at most {} are taken.",
            fields.len(),
            limits.max_headers
        ));
    }
    let bytes: usize = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > limits.max_header_bytes {
        return too_large(format!(
            "The request's header fields have {bytes} bytes; at most {} are taken.",
            limits.max_header_bytes
        ));
    }
    match session.raw_head() {
        Some(raw) => http1_framing(head, &raw),
        None => Ok(()),
    }
}

fn http1_framing(head: &pingora::http::RequestHeader, raw: &[u8]) -> Result<(), Refusal> {
    if head.version == Version::HTTP_11 && !head.headers.contains_key(header::HOST) {
        return bad("The request has no Host header.".into());
    }
    if !head.headers.get_all(header::HOST).iter().all(is_host) {
        return bad("The request's Host isn't the name of a host.".into());
    }
    let mut encodings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_known = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !encodings.next().is_none_or(is_known) || encodings.next().is_some() {
        return bad("The request's Transfer-Encoding isn't chunked, once and alone.".into());
    }
    if has_bare_line_feed(raw) {
        return bad("The request's header lines must end in CR LF.".into());
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING) && states_length(raw) {
        return bad("The request has both Content-Length and Transfer-Encoding.".into());
    }
    Ok(())
}

/// Whether only such bytes stand there as a host's name, an address and a port are made of; none at all is a host, too.
fn is_host(value: &HeaderValue) -> bool {
    let may_stand =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(byte);
    value.as_bytes().iter().all(may_stand)
}

fn has_bare_line_feed(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r')
}

fn states_length(raw: &[u8]) -> bool {
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.get(..15)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"))
    })
}

fn too_large(message: String) -> Result<(), Refusal> {
    Err(Refusal::HeadTooLarge { message })
}

fn bad(message: String) -> Result<(), Refusal> {
    Err(Refusal::BadRequest { message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_line_feed_is_found_wherever_it_stands() {
        assert!(!has_bare_line_feed(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(has_bare_line_feed(b"GET / HTTP/1.1\nhost: a\r\n\r\n"));
        assert!(has_bare_line_feed(b"GET / HTTP/1.1\r\nhost: a\r\n\n"));
    }

    #[test]
    fn a_stated_length_is_found_in_any_case() {
        assert!(states_length(
            b"POST / HTTP/1.1\r\nCONTENT-length: 3\r\n\r\n"
        ));
        assert!(!states_length(
            b"POST / HTTP/1.1\r\nx-content-length: 3\r\n\r\n"
        ));
    }
}
