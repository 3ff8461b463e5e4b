//! Answers to whatever has no maker of its own: what came in, by length and SHA-256.
//!
//! So that a test can show that a file, a form or an unknown operation passed through unharmed. It never sends the body
//! itself back.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::journal::ReceivedBody;

/// SHA-256 in hex.
pub(crate) fn hex_digest(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Describes a request.
pub(crate) fn describe(method: &str, path: &str, query: &str, body: &ReceivedBody) -> Value {
    json!({"object": "simulator.echo", "method": method, "path": path, "query": query,
        "length": body.length, "sha256": body.sha256})
}

/// The boundary of a multipart content type.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let found = parameters
        .split(';')
        .find_map(|parameter| parameter.trim().strip_prefix("boundary="))?;
    Some(found.trim_matches('"'))
}

/// The fields of a form: text by its text if it is short, files by name, length and SHA-256.
pub(crate) fn form(body: &[u8], boundary: &str) -> Map<String, Value> {
    let mark = format!("--{boundary}");
    let mut fields = Map::new();
    for part in parts(body, mark.as_bytes()).into_iter().take(MAX_PARTS) {
        let Some(end) = find(part, b"\r\n\r\n") else {
            continue;
        };
        let (head, content) = part.split_at(end);
        let content = content.get(4..).unwrap_or_default();
        let head = String::from_utf8_lossy(head);
        let Some(name) = parameter(&head, "name") else {
            continue;
        };
        fields.insert(name, field(parameter(&head, "filename"), content));
    }
    fields
}

/// Parts of one form that are read.
const MAX_PARTS: usize = 1000;
/// A field longer than this is told by its digest.
const MAX_TEXT: usize = 1000;

fn field(file: Option<String>, content: &[u8]) -> Value {
    match (file, std::str::from_utf8(content)) {
        (None, Ok(text)) if text.len() <= MAX_TEXT => json!(text),
        (file, _) => {
            json!({"filename": file, "length": content.len(), "sha256": hex_digest(&Sha256::digest(content))})
        }
    }
}

fn parts<'body>(mut body: &'body [u8], mark: &[u8]) -> Vec<&'body [u8]> {
    let mut parts = Vec::new();
    let Some(start) = find(body, mark) else {
        return parts;
    };
    body = body.get(start + mark.len()..).unwrap_or_default();
    let separator = [b"\r\n", mark].concat();
    while let Some(end) = find(body, &separator) {
        let (part, rest) = body.split_at(end);
        parts.push(part.strip_prefix(b"\r\n").unwrap_or(part));
        body = rest.get(separator.len()..).unwrap_or_default();
    }
    parts
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|byte| *byte == first) {
        if haystack.get(from + at..)?.starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn parameter(head: &str, name: &str) -> Option<String> {
    let mark = format!("; {name}=\"");
    let (_, rest) = head.split_once(&mark)?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_form_is_told_by_its_fields() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--x\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n\r\n--y\r\n\r\n--x--\r\n";
        let fields = form(body, boundary("multipart/form-data; boundary=x").unwrap());
        assert_eq!(fields["model"], "whisper");
        assert_eq!(fields["file"]["filename"], "a.wav");
        assert_eq!(fields["file"]["length"], 7);
    }
}
