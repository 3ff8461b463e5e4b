//! A backend that does what a test writes, byte by byte, and keeps what it was sent.
//!
//! The simulator is the backend for whole conversations. This one is for what a simulator shouldn't do: half an
//! answer, an odd line end, a wait until the test has seen the first event.

use std::io::{self, BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::{DEADLINE, http};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST /path?query HTTP/1.1`
    pub line: String,
    /// Its header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, with the chunked coding taken off.
    pub body: Vec<u8>,
}

impl Received {
    /// The first field of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The next request is awaited on it.
    Keep,
    /// It is closed.
    Close,
}

/// A listening backend. It listens until the test process ends.
pub struct Backend {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    journal: Arc<Journal>,
}

#[derive(Default)]
struct Journal {
    received: Mutex<Vec<Received>>,
    connections: Mutex<usize>,
    grown: Condvar,
}

impl Backend {
    /// Listens, and has `answer` write to the connection for each request, which is read whole before.
    pub fn start<F>(answer: F) -> Backend
    where
        F: Fn(&Received, &mut TcpStream) -> io::Result<After> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let journal = Arc::new(Journal::default());
        let answer = Arc::new(answer);
        let shared = journal.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (journal, answer) = (shared.clone(), answer.clone());
                *journal.connections.lock().unwrap() += 1;
                // An error is the other side's end of the connection: the test sees that at its own end.
                std::thread::spawn(move || drop(serve(stream, &journal, answer.as_ref())));
            }
        });
        Backend { url, journal }
    }

    /// Answers every request with this status, these header fields and this body.
    pub fn fixed(status: u16, headers: &[(&str, &str)], body: &str) -> Backend {
        let mut head = format!("HTTP/1.1 {status} Status\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        Backend::start(move |_, stream| {
            io::Write::write_all(stream, whole.as_bytes())?;
            Ok(After::Keep)
        })
    }

    /// The requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.journal.received.lock().unwrap().clone()
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        *self.journal.connections.lock().unwrap()
    }

    /// Waits until there were this many requests, and returns them.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        let received = self.journal.received.lock().unwrap();
        let (received, late) = self
            .journal
            .grown
            .wait_timeout_while(received, DEADLINE, |all| all.len() < count)
            .unwrap();
        assert!(
            !late.timed_out(),
            "the backend got {} of {count} requests",
            received.len()
        );
        received.clone()
    }
}

fn serve(
    stream: TcpStream,
    journal: &Journal,
    answer: &dyn Fn(&Received, &mut TcpStream) -> io::Result<After>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let received = read_request(&mut reader)?;
        journal.received.lock().unwrap().push(received.clone());
        journal.grown.notify_all();
        if answer(&received, &mut writer)? == After::Close {
            return writer.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Received> {
    let mut received = Received {
        line: http::read_line(reader)?,
        headers: http::read_fields(reader)?,
        body: Vec::new(),
    };
    if received.header("transfer-encoding") == Some("chunked") {
        loop {
            let chunk = http::read_chunk(reader)?;
            if chunk.is_empty() {
                return Ok(received);
            }
            received.body.extend(chunk);
        }
    }
    let length = received.header("content-length").unwrap_or("0");
    let length = length.parse().map_err(io::Error::other)?;
    received.body.resize(length, 0);
    reader.read_exact(&mut received.body)?;
    Ok(received)
}
