//! Passes an answer on to the caller as it comes, and reads what it used.
//!
//! While the backend is silent the caller is watched: one that leaves ends the call at once, which stops
//! the backend from making tokens that nobody reads. Streams are passed on event by event; an event that
//! isn't complete yet waits, so that a stream can always be ended by an error event of our own.
//! Never retries: once a byte has gone out, the answer is this one.

mod body;
mod stream;

use std::time::Duration;

use bytes::Bytes;
use filters::answer::StreamMeter;
use filters::route::Shape;
use filters::usage::Usage;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::client::HttpSession;

use self::stream::{Stopped, Stream};
use crate::affinity::Holder;
use crate::clock::Moment;
use crate::context::End;
use crate::stage::respond::{self, Framing};
use crate::upstream::fault::Fault;

/// How long the usage of a finished stream is waited for when its caller has left.
const USAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// How the relay of one answer went.
#[derive(Debug)]
pub struct Relayed {
    /// How it ended.
    pub end: End,
    /// The backend's figures.
    pub usage: Option<Usage>,
    /// The model that the backend named.
    pub model: Option<String>,
    /// What was streamed, for counting where `usage` is missing.
    pub meter: Option<StreamMeter>,
    /// When the first event that a user sees was passed on.
    pub first_token: Option<Moment>,
    /// The answer was read to its end: the connection can be used again.
    pub drained: bool,
    /// The answer broke off in a way that only a closed connection can tell the caller.
    pub abort: bool,
    /// The head went out.
    pub committed: bool,
}

impl Relayed {
    fn new(end: End) -> Self {
        Relayed {
            end,
            usage: None,
            model: None,
            meter: None,
            first_token: None,
            drained: end == End::Complete,
            abort: end != End::Complete,
            committed: true,
        }
    }
}

/// The two connections of a relay, and what is known of the answer.
pub struct Relay<'a> {
    /// To the caller.
    pub session: &'a mut ServerSession,
    /// To the backend; its head is read.
    pub upstream: &'a mut HttpSession,
    /// The answer's head.
    pub answer: ResponseHeader,
    /// The operation's shape.
    pub shape: Shape,
    /// Whether the extra usage chunk is kept from the caller.
    pub keeps_usage_chunk: bool,
    /// Learns the id of what the answer names, once; absent if there is nothing to learn.
    pub holder: Option<Holder<'a>>,
}

enum Next {
    Chunk(Bytes),
    End,
    Cut,
    Gone,
}

impl Relay<'_> {
    /// Passes the whole answer on.
    pub async fn run(mut self) -> Relayed {
        let method = self.session.req_header().method.clone();
        if respond::is_bodyless(&method, self.answer.status) {
            return self.bodyless().await;
        }
        match respond::relay(&self.answer, self.shape) {
            respond::Relay::Events => self.events().await,
            respond::Relay::Whole => self.whole().await,
            respond::Relay::Untouched => self.untouched(Bytes::new()).await,
        }
    }

    async fn next(&mut self) -> Next {
        tokio::select! {
            // First the caller: events that never cease mustn't hide that it left.
            biased;
            _ = self.session.read_body_or_idle(true) => Next::Gone,
            chunk = self.upstream.read_response_body() => match chunk {
                Ok(Some(chunk)) => Next::Chunk(chunk),
                Ok(None) => Next::End,
                Err(error) => {
                    tracing::debug!(error = %Fault(&error), "the backend broke off");
                    Next::Cut
                }
            },
        }
    }

    async fn send_head(&mut self, framing: Framing) -> Result<(), Relayed> {
        let version = self.session.req_header().version;
        let head = respond::head(&self.answer, framing, version);
        let Ok(head) = head else {
            return Err(Relayed::new(End::UpstreamCut));
        };
        let closes = version < http::Version::HTTP_11
            && framing != Framing::Bodyless
            && !head.headers.contains_key(http::header::CONTENT_LENGTH);
        if closes {
            self.session.set_keepalive(None);
        }
        let sent = self.session.write_response_header(Box::new(head)).await;
        sent.map_err(|_| Relayed::new(End::ClientGone))
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), ()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let sent = self.session.write_response_body(bytes, false).await;
        sent.map_err(|_| ())
    }

    /// Before the caller can ask for it.
    fn learn(&mut self, id: Option<&str>) {
        if let Some(id) = id
            && let Some(holder) = self.holder.take()
        {
            holder.made(id);
        }
    }

    async fn finish(&mut self) -> End {
        match self.session.write_response_body(Bytes::new(), true).await {
            Ok(()) => End::Complete,
            Err(_) => End::ClientGone,
        }
    }

    async fn events(&mut self) -> Relayed {
        if let Err(relayed) = self.send_head(Framing::Unknown).await {
            return relayed;
        }
        let mut stream = Stream::new(
            self.shape,
            respond::own_end(&self.answer, self.shape),
            self.keeps_usage_chunk,
        );
        loop {
            let stopped = match self.next().await {
                Next::Chunk(chunk) => {
                    let bytes = stream.take(chunk);
                    self.learn(stream.id());
                    if self.send(bytes).await.is_err() {
                        return self.left(stream).await;
                    }
                    stream.passed_on();
                    continue;
                }
                Next::Gone => return self.left(stream).await,
                Next::End => Stopped::Cleanly,
                Next::Cut => Stopped::Broken,
            };
            return match stream.end(stopped) {
                Some(rest) => self.end_stream(rest, stream).await,
                None => self.break_off(stream).await,
            };
        }
    }

    /// The caller left. If it had all that it wanted, the usage that follows is still read, for a moment.
    async fn left(&mut self, mut stream: Stream) -> Relayed {
        if stream.lacks_only_usage() {
            let read = async {
                while let Ok(Some(chunk)) = self.upstream.read_response_body().await {
                    stream.take(chunk);
                }
            };
            let _late = tokio::time::timeout(USAGE_TIMEOUT, read).await;
        }
        stream.into_relayed(End::ClientGone)
    }

    async fn end_stream(&mut self, rest: Bytes, stream: Stream) -> Relayed {
        let end = match self.send(rest).await {
            Ok(()) => self.finish().await,
            Err(()) => End::ClientGone,
        };
        stream.into_relayed(end)
    }

    /// The caller gets an error event and a proper end of the body, so that its SDK raises instead of hanging. Inside an
    /// event that is partly sent nothing can be said: there the connection is closed.
    async fn break_off(&mut self, stream: Stream) -> Relayed {
        let mute = stream.is_inside_unread();
        let event = respond::broken_stream_event(self.shape);
        let told = !mute && self.send(event).await.is_ok() && self.finish().await == End::Complete;
        let mut relayed = stream.into_relayed(End::UpstreamCut);
        relayed.abort = !told;
        relayed
    }
}
