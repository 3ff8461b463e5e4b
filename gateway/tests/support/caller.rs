//! A caller with one connection that it keeps, and whose answers it can read piece by piece.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::before::KEY;
use super::http::{self, Answer};

/// A connection to a gateway.
pub struct Caller {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Caller {
    /// Connects to `http://AUTHORITY`.
    pub fn connect(url: &str) -> Caller {
        let stream = http::connect(http::split(url).0).unwrap();
        let reader = BufReader::with_capacity(64 << 10, stream.try_clone().unwrap());
        Caller { stream, reader }
    }

    /// Sends a POST of a JSON body with the key of the tests. The answer is read by one of the functions below.
    pub fn post(&mut self, path: &str, case: &str, body: &[u8]) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: tests\r\napi-key: {KEY}\r\nx-case: {case}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream
            .write_all(&[head.as_bytes(), body].concat())
            .unwrap();
    }

    /// The whole answer; the connection can be used again.
    pub fn answer(&mut self) -> io::Result<Answer> {
        http::read_answer(&mut self.reader)
    }

    /// Status and header fields.
    pub fn head(&mut self) -> (u16, Vec<(String, String)>) {
        http::read_head(&mut self.reader).unwrap()
    }

    /// The next chunk of a chunked body; empty at its proper end.
    pub fn chunk(&mut self) -> io::Result<Vec<u8>> {
        http::read_chunk(&mut self.reader)
    }

    /// Reads chunks until the body so far ends in these bytes.
    pub fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        while !body.ends_with(end) {
            let chunk = self.chunk().unwrap();
            assert!(!chunk.is_empty(), "the body ended before: {body:?}");
            body.extend(chunk);
        }
        body
    }

    /// The rest of what comes on the connection, to its end: proper (`Ok`) or not.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).map(|_| rest)
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes the connection in order (FIN).
    pub fn close(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }

    /// Closes the connection out of order (RST). Needs a tokio runtime.
    pub fn reset(self) {
        drop(self.reader);
        self.stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::TcpStream::from_std(self.stream).unwrap();
        stream.set_zero_linger().unwrap();
    }
}
