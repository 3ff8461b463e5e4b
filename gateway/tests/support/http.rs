//! A small HTTP/1.1 client: one connection a request, or the raw bytes that a test wants to send.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

use super::DEADLINE;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, with the chunked coding taken off.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// `error.code` of a refusal.
    pub fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// GET, or a panic that says why there was no answer.
pub fn get(url: &str) -> Answer {
    try_get(url).unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

/// GET.
pub fn try_get(url: &str) -> io::Result<Answer> {
    request("GET", url, &[], b"")
}

/// POST of a JSON body.
pub fn post(url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    request("POST", url, &all, body.as_bytes())
        .unwrap_or_else(|error| panic!("POST {url}: {error}"))
}

/// Any request, with `Content-Length` and `Connection: close`.
pub fn request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let (authority, path) = split(url);
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method != "GET" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = connect(authority)?;
    stream.write_all(head.as_bytes())?;
    // A refusal may come, and the connection end, before the whole body was taken.
    let sent = stream.write_all(body);
    match read_answer(&mut BufReader::new(stream)) {
        Ok(answer) => Ok(answer),
        Err(error) => Err(sent.err().unwrap_or(error)),
    }
}

/// A connection with both time-outs set.
pub fn connect(authority: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one answer, past any `1xx`, and leaves the connection where it ends.
pub fn read_answer(reader: &mut impl BufRead) -> io::Result<Answer> {
    loop {
        let (status, headers) = read_head(reader)?;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        answer.body = read_body(reader, &answer)?;
        return Ok(answer);
    }
}

/// `http://AUTHORITY/PATH` in its two parts.
pub fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").expect("http:// URLs only");
    match rest.find('/') {
        Some(slash) => (&rest[..slash], &rest[slash..]),
        None => (rest, "/"),
    }
}

/// A status and header fields, from their first line to the empty one.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let first = read_line(reader)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
    Ok((status, read_fields(reader)?))
}

/// Header fields up to the empty line; names in lower case.
pub fn read_fields(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| io::Error::other(format!("no header field: {line:?}")))?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// One line without its end; an error where the connection ended before it.
pub fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// One chunk of a chunked body; empty at its end.
pub fn read_chunk(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let line = read_line(reader)?;
    let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
        .map_err(|_| io::Error::other(format!("no chunk size: {line:?}")))?;
    if size == 0 {
        read_fields(reader)?;
        return Ok(Vec::new());
    }
    let mut chunk = vec![0; size];
    reader.read_exact(&mut chunk)?;
    read_line(reader)?;
    Ok(chunk)
}

fn read_body(reader: &mut impl BufRead, answer: &Answer) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if matches!(answer.status, 101 | 204 | 304) {
        return Ok(body);
    }
    if answer.header("transfer-encoding") == Some("chunked") {
        loop {
            let chunk = read_chunk(reader)?;
            if chunk.is_empty() {
                return Ok(body);
            }
            body.extend(chunk);
        }
    }
    match answer.header("content-length") {
        Some(length) => {
            body.resize(length.parse().map_err(io::Error::other)?, 0);
            reader.read_exact(&mut body)?;
        }
        None => {
            reader.read_to_end(&mut body)?;
        }
    }
    Ok(body)
}
