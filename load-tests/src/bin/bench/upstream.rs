//! The upstream of all contestants: fixed answers, one thread, as little work as possible.
//!
//! It runs in a process of its own (`bench upstream ...`), so that its CPU time is nobody else's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::wire::Reader;
use crate::workload::Workload;

struct Answers {
    chat: Vec<u8>,
    head: Vec<u8>,
    events: Vec<Vec<u8>>,
    whole_stream: Vec<u8>,
    event_delay: Duration,
}

/// Serves until the process is ended.
pub(crate) async fn serve(listen: SocketAddr, event_delay: Duration) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let answers = Arc::new(Answers::new(event_delay));
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = Arc::clone(&answers);
        // A connection that breaks is the caller's to notice and count.
        tokio::spawn(async move { drop(answers.converse(stream).await) });
    }
}

impl Answers {
    fn new(event_delay: Duration) -> Self {
        let body = Workload::Chat.answer().concat();
        let length = body.len();
        let chat = format!(
            "{}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}",
            STATUS
        );
        let head = format!(
            "{STATUS}content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let chunk = |event: &String| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes();
        let mut events: Vec<Vec<u8>> = Workload::Stream.answer().iter().map(chunk).collect();
        if let Some(last) = events.last_mut() {
            last.extend_from_slice(b"0\r\n\r\n");
        }
        let whole_stream = [head.clone().into_bytes(), events.concat()].concat();
        Self {
            chat: chat.into_bytes(),
            head: head.into_bytes(),
            events,
            whole_stream,
            event_delay,
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.split();
        let mut reader = Reader::new(read);
        while let Some(request) = reader.next().await? {
            match Workload::of_request(&request.body) {
                Workload::Chat => write.write_all(&self.chat).await?,
                Workload::Stream if self.event_delay.is_zero() => {
                    write.write_all(&self.whole_stream).await?
                }
                Workload::Stream => {
                    write.write_all(&self.head).await?;
                    for event in &self.events {
                        tokio::time::sleep(self.event_delay).await;
                        write.write_all(event).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

const STATUS: &str = "HTTP/1.1 200 OK\r\nserver: bench-upstream\r\n";
