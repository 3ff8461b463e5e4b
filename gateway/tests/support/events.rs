//! The events of the admin page, read without a browser.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::gateway::Gateway;
use super::http;

/// An open page.
pub struct Events(BufReader<TcpStream>);

/// What a page shows that is opened now.
pub fn picture(gateway: &Gateway) -> Value {
    Events::open(gateway).picture()
}

impl Events {
    /// Opens one, or panics where there is no room.
    pub fn open(gateway: &Gateway) -> Events {
        Events::try_open(gateway).expect("there is room")
    }

    /// Opens one, if there is room.
    pub fn try_open(gateway: &Gateway) -> Option<Events> {
        let (authority, _) = http::split(&gateway.admin_url);
        let mut stream = http::connect(authority).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let (status, _) = http::read_head(&mut reader).unwrap();
        (status == 200).then_some(Events(reader))
    }

    /// The next picture.
    pub fn picture(&mut self) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.0.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the events ended");
            if line.starts_with("event: now") {
                line.clear();
                self.0.read_line(&mut line).unwrap();
                let data = line.strip_prefix("data: ").unwrap();
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}
