//! The upstream of all contestants: fixed answers, one thread, as little work as possible.
//!
//! It runs in a process of its own (`bench upstream ...`), so that its CPU time is nobody else's.

mod vectors;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::net::tcp::WriteHalf;
use tokio::net::{TcpListener, TcpStream};

use crate::wire::Reader;
use crate::workload::{Answer, STAMP_DIGITS, STAMP_MARK};

use vectors::Vectors;

struct Answers {
    chat: Vec<u8>,
    vectors: Vec<u8>,
    stream: Vec<u8>,
    paced: Vec<Vec<u8>>,
    held: Vec<u8>,
    single: Vectors,
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
        let chunks = |answer: Answer| -> Vec<Vec<u8>> {
            let chunk = |event: &String| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes();
            answer.parts().iter().map(chunk).collect()
        };
        let head = STREAM_HEAD.as_bytes();
        let mut paced = chunks(Answer::Paced);
        if let Some(last) = paced.last_mut() {
            last.extend_from_slice(LAST_CHUNK);
        }
        Self {
            chat: whole(&Answer::Chat.parts().concat()),
            vectors: whole(&Answer::Vectors.parts().concat()),
            stream: [head, &chunks(Answer::Stream).concat(), LAST_CHUNK].concat(),
            paced,
            held: [head, &chunks(Answer::Held).concat()].concat(),
            single: Vectors::new(),
            event_delay,
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.split();
        let mut reader = Reader::new(read);
        while let Some(request) = reader.next().await? {
            match Answer::of_request(&request.body) {
                Answer::Chat => write.write_all(&self.chat).await?,
                Answer::Vectors => write.write_all(&self.vectors).await?,
                Answer::Single => {
                    let body = self.single.answer(&request.body);
                    write.write_all(&whole(&body)).await?;
                }
                Answer::Stream => write.write_all(&self.stream).await?,
                Answer::Paced => self.pace(&mut write).await?,
                // It stays open until the caller goes, which the next read notices.
                Answer::Held => write.write_all(&self.held).await?,
                Answer::Silent => {}
            }
        }
        Ok(())
    }

    /// Each event bears the time at which it was written.
    async fn pace(&self, write: &mut WriteHalf<'_>) -> io::Result<()> {
        let mut write = BufWriter::new(write);
        write.write_all(STREAM_HEAD.as_bytes()).await?;
        let began = tokio::time::Instant::now();
        for (event, number) in self.paced.iter().zip(0..) {
            tokio::time::sleep_until(began + self.event_delay * number).await;
            let mut event = event.clone();
            stamp(&mut event);
            write.write_all(&event).await?;
            write.flush().await?;
        }
        Ok(())
    }
}

fn whole(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{STATUS}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn stamp(event: &mut [u8]) {
    let Some(mark) = memmem::find(event, STAMP_MARK.as_bytes()) else {
        return;
    };
    let start = mark + STAMP_MARK.len();
    let digits = format!("{:0width$}", now_us(), width = STAMP_DIGITS);
    if let Some(place) = event.get_mut(start..start + digits.len()) {
        place.copy_from_slice(digits.as_bytes());
    }
}

/// Microseconds since 1970: the one clock that two processes share.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

const STATUS: &str = "HTTP/1.1 200 OK\r\nserver: bench-upstream\r\n";
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nserver: bench-upstream\r\ncontent-type: text/event-stream\r\n\
    transfer-encoding: chunked\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
