//! Backends over HTTP/2 that end a shared connection in every way there is: their callers see nothing of it, and it isn't
//! held against them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::gateway::Gateway;
use support::http::{self, Answer};
use support::plain::{self, KEY};

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// After an answer it says that it takes no more (`GOAWAY`, no error), and stays open for a moment.
    Gracefully,
    /// After an answer it says that it has had enough (`GOAWAY`, `ENHANCE_YOUR_CALM`), and is closed.
    Calming,
    /// A second call is refused (`RST_STREAM`, `REFUSED_STREAM`).
    Refusing,
    /// A second call is met by the connection's end.
    Closing,
}

/// A server of HTTP/2 by hand: frames, and no more of them than an answer takes.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(ends: Option<Ends>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
                // An error is the gateway's end of the connection.
                std::thread::spawn(move || drop(serve(stream, ends)));
            }
        });
        Server { url, connections }
    }

    fn gateway(&self) -> Gateway {
        let backend = format!(
            "{}http2 = true\n[backends.only.circuit-breaker]\nfailure-condition = {{ count = 1, interval = \"60s\" }}\ntrip-duration = \"60s\"\n",
            plain::openai(&self.url)
        );
        Gateway::start(&plain::config("", &backend))
    }
}

fn serve(mut stream: TcpStream, ends: Option<Ends>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_exact(&mut [0; 24])?;
    frame(&mut stream, SETTINGS, 0, 0, &[])?;
    let mut calls = 0;
    loop {
        let mut head = [0; 9];
        reader.read_exact(&mut head)?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        reader.read_exact(&mut payload)?;
        let id = u32::from_be_bytes(id);
        match kind {
            SETTINGS if flags & ACK == 0 => frame(&mut stream, SETTINGS, ACK, 0, &[])?,
            PING if flags & ACK == 0 => frame(&mut stream, PING, ACK, 0, &payload)?,
            HEADERS | DATA if flags & END_STREAM != 0 => {
                calls += 1;
                match (ends, calls) {
                    (Some(Ends::Refusing), 2..) => {
                        frame(
                            &mut stream,
                            RST_STREAM,
                            0,
                            id,
                            &REFUSED_STREAM.to_be_bytes(),
                        )?;
                    }
                    (Some(Ends::Closing), 2..) => return Ok(()),
                    (None | Some(_), _) => answer(&mut stream, id)?,
                }
                let away = |reason: u32| [id.to_be_bytes(), reason.to_be_bytes()].concat();
                match ends {
                    Some(Ends::Gracefully) => frame(&mut stream, GOAWAY, 0, 0, &away(0))?,
                    Some(Ends::Calming) => {
                        frame(&mut stream, GOAWAY, 0, 0, &away(ENHANCE_YOUR_CALM))?;
                        // Closed with something unread, it would be reset, and the answer with it.
                        stream.shutdown(std::net::Shutdown::Write)?;
                        return io::copy(&mut reader, &mut io::sink()).map(drop);
                    }
                    Some(Ends::Refusing | Ends::Closing) | None => {}
                }
            }
            _ => {}
        }
    }
}

/// `:status: 200`, `content-type: application/json`, and `{}`.
fn answer(stream: &mut TcpStream, id: u32) -> io::Result<()> {
    let head = [&[0x88, 0x0f, 0x10, 0x10], &b"application/json"[..]].concat();
    frame(stream, HEADERS, END_HEADERS, id, &head)?;
    frame(stream, DATA, END_STREAM, id, b"{}")
}

fn frame(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
    stream.write_all(&[&head, payload].concat())
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn chat(gateway: &Gateway) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[("api-key", KEY)], CHAT)
}

#[test]
fn a_shared_connection_that_ends_costs_neither_a_caller_nor_its_backend_anything() {
    for ends in [
        Ends::Gracefully,
        Ends::Calming,
        Ends::Refusing,
        Ends::Closing,
    ] {
        let server = Server::start(Some(ends));
        let gateway = server.gateway();
        for call in 0..12 {
            let answer = chat(&gateway);
            assert_eq!(
                answer.status,
                200,
                "{ends:?}, call {call}: {}",
                answer.text()
            );
        }
        let well = [("status", "2xx")];
        gateway.wait_for_metric("tollgate_backend_attempts_total", &well, 12.0);
        assert_eq!(gateway.metric("tollgate_backend_attempts_total", &[]), 12.0);
        assert_eq!(gateway.metric("tollgate_backend_trips_total", &[]), 0.0);
    }
}

#[test]
fn a_connection_that_stays_is_shared() {
    let server = Server::start(None);
    let gateway = server.gateway();
    for _ in 0..12 {
        assert_eq!(chat(&gateway).status, 200);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}
