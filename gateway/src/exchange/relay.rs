//! Passes an answer on to the caller as it comes, and reads what it used.
//!
//! While the backend is silent the caller is watched: one that leaves ends the call at once, which stops
//! the backend from making tokens that nobody reads. Streams are passed on event by event; an event that
//! isn't complete yet waits, so that a stream can always be ended by an error event of our own. Before its head
//! goes out, `opening` waits for a first event that shows that there is an answer.
//! Never retries: once a byte has gone out, the answer is this one.

mod body;
mod opening;
mod pump;
mod stream;
mod upstream;
mod watch;

use std::future::poll_fn;
use std::ops::DerefMut;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use filters::answer::{Opening, StreamMeter};
use filters::route::Shape;
use filters::usage::Usage;
use futures_util::FutureExt;
use pingora::http::ResponseHeader;

pub use self::opening::{Begun, Trouble};
pub use self::upstream::Upstream;

use self::opening::Over;
use self::stream::{Stopped, Stream};
use self::upstream::Came;
use self::watch::{Ended, Watch};
use crate::affinity::Holder;
use crate::clock::Moment;
use crate::context::End;
use crate::downstream::Downstream;
use crate::stage::cache::{Keeping, Made};
use crate::stage::limit::Hold;
use crate::stage::respond::{self, BrokenBy, Failure, Framing};
use crate::stop::Stop;

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
    /// What was said, for counting where `usage` is missing.
    pub meter: Option<StreamMeter>,
    /// When the first event that a user sees was passed on.
    pub first_token: Option<Moment>,
    /// The status that an error in the stream stands for.
    pub error: Option<u16>,
    /// How the backend broke off, where it did.
    pub cut: Failure,
    /// The answer was read to its end: the connection can be used again.
    pub drained: bool,
    /// The answer broke off in a way that only a closed connection can tell the caller.
    pub abort: bool,
    /// The head went out.
    pub committed: bool,
    /// The body, where it was read whole.
    pub body: Option<Bytes>,
}

impl Relayed {
    fn new(end: End) -> Self {
        Relayed {
            end,
            usage: None,
            model: None,
            meter: None,
            first_token: None,
            error: None,
            cut: Failure::Reset,
            drained: end == End::Complete,
            abort: end != End::Complete,
            committed: true,
            body: None,
        }
    }

    /// Whether it was a stream that began with an error: it has used nothing.
    pub fn is_only_error(&self) -> bool {
        let opening = self.meter.as_ref().map(StreamMeter::opening);
        matches!(opening, Some(Opening::Failed { .. }))
    }
}

/// The two connections of a relay, and what is known of the answer.
pub struct Relay<'a> {
    /// To the caller.
    pub session: Downstream<'a>,
    /// To the backend; its head is read.
    pub upstream: Upstream<'a>,
    /// The answer's head.
    pub answer: Box<ResponseHeader>,
    /// The operation's shape.
    pub shape: Shape,
    /// Whether the extra usage chunk is kept from the caller.
    pub keeps_usage_chunk: bool,
    /// Learns the id of what the answer names, once; absent if there is nothing to learn.
    pub holder: Option<Holder<'a>>,
    /// What was read before the head went out, if it is a stream.
    pub begun: Option<Begun>,
    /// What is held of the call's limits: the answer's head tells what is left.
    pub hold: &'a mut Hold,
    /// Keeps a complete answer for callers to come; absent if there is no cache for it.
    pub keeping: Option<&'a mut Keeping>,
    /// Says when the process has no more time for it.
    pub stop: &'a Arc<Stop>,
}

enum Next {
    Chunk(Bytes),
    End,
    Cut(Failure),
    Gone,
    Stopped,
}

/// Why no more of a stream comes.
#[derive(Debug, Clone, Copy)]
enum Last {
    End,
    Cut(Failure),
    Gone,
    Stopped,
}

/// What follows from it for the stream.
fn finished(mut stream: Box<Stream>, last: Last) -> (Box<Stream>, Over, Failure) {
    let (over, cut) = match last {
        Last::Gone => (Over::Gone, Failure::Reset),
        Last::Stopped => (Over::Gateway, Failure::Reset),
        Last::End => (Over::Stopped(stream.end(Stopped::Cleanly)), Failure::Reset),
        Last::Cut(cut) => (Over::Stopped(stream.end(Stopped::Broken)), cut),
    };
    (stream, over, cut)
}

impl Next {
    fn of(came: Came) -> Self {
        match came {
            Came::Chunk(chunk) => Next::Chunk(chunk),
            Came::Over(over) => Next::over(over),
        }
    }

    fn over(over: upstream::Over) -> Self {
        match over {
            upstream::Over::End => Next::End,
            upstream::Over::Cut(failure) => Next::Cut(failure),
        }
    }
}

impl Relay<'_> {
    /// Passes the whole answer on.
    pub async fn run(&mut self) -> Relayed {
        if !respond::is_success(self.answer.status.as_u16()) {
            // A failed call costs nothing, and its caller sees so.
            self.hold.settle(None);
        }
        if self.is_bodyless() {
            return self.bodyless().await;
        }
        match respond::relay(&self.answer, self.shape) {
            respond::Relay::Events => self.events().await,
            respond::Relay::Whole => self.whole().await,
            respond::Relay::Untouched => self.untouched(Bytes::new()).await,
        }
    }

    fn is_bodyless(&self) -> bool {
        respond::is_bodyless(&self.session.request().method, self.answer.status)
    }

    async fn next(&mut self) -> Next {
        // What came with the last bytes is no reason to wait for the caller.
        if let Some(over) = self.upstream.over() {
            return Next::over(over);
        }
        tokio::select! {
            // First the caller: events that never cease mustn't hide that it left.
            biased;
            _ = self.session.leaves() => Next::Gone,
            came = self.upstream.next() => Next::of(came),
            // Last: it costs nothing as long as there is something to read.
            () = self.stop.cut() => Next::Stopped,
        }
    }

    /// The same of a stream, under a watch.
    async fn next_under<C>(&mut self, watch: &mut Watch<C>) -> Next
    where
        C: DerefMut<Target: Future<Output = ()>>,
    {
        if let Some(over) = self.upstream.over() {
            return Next::over(over);
        }
        let Relay {
            session, upstream, ..
        } = self;
        let mut came = pin!(upstream.next());
        poll_fn(
            |context| match watch.poll(context, |ringing| session.poll_leaves(ringing)) {
                // First the caller, as above.
                Poll::Ready(Ended::Gone) => Poll::Ready(Next::Gone),
                Poll::Ready(Ended::Stopped) => Poll::Ready(Next::Stopped),
                Poll::Pending => came.as_mut().poll(context).map(Next::of),
            },
        )
        .await
    }

    async fn send_head(&mut self, framing: Framing) -> Result<(), ()> {
        let version = self.session.request().version;
        let answer = respond::taken(&mut self.answer);
        let head = respond::head(answer, self.hold.fields(), framing, version);
        let closes = version < http::Version::HTTP_11
            && framing != Framing::Bodyless
            && !head.headers.contains_key(http::header::CONTENT_LENGTH);
        if closes {
            self.session.close();
        }
        let sent = self.session.write_head(head).await;
        sent.map_err(|_| ())
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), ()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.upstream.over() == Some(upstream::Over::End) && self.keeping.is_none() {
            // The end of the body follows at once, and takes this along.
            self.session.hold(true);
        }
        let sent = self.session.write_body(bytes, false).await;
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
        self.session.hold(false);
        match self.session.write_body(Bytes::new(), true).await {
            Ok(()) => End::Complete,
            Err(_) => End::ClientGone,
        }
    }

    /// Passed on from step to step, and to a task.
    fn stream(&self) -> Box<Stream> {
        let own_end = respond::own_end(&self.answer, self.shape);
        let stream = Stream::new(self.shape, own_end, self.keeps_usage_chunk);
        let mut stream = Box::new(stream);
        if let Some(keeping) = &self.keeping
            && respond::may_be_kept(self.answer.status)
        {
            stream.gather(keeping.gatherer());
        }
        stream
    }

    /// Keeps an answer that is complete, before the caller can ask for it again.
    async fn keep(&mut self, made: Option<Made>) {
        if let (Some(made), Some(keeping)) = (made, self.keeping.take()) {
            // Most answers aren't kept.
            Box::pin(keeping.keep(made)).await;
        }
    }

    async fn events(&mut self) -> Relayed {
        let begun = self.begun.take();
        let begun = begun.unwrap_or_else(|| Begun::nothing(self.stream()));
        if self.send_head(Framing::Unknown).await.is_err() {
            return Relayed::new(End::ClientGone);
        }
        let (mut stream, held, over) = begun.into_parts();
        self.learn(stream.id());
        if self.send(held).await.is_err() {
            return self.left(stream).await;
        }
        stream.passed_on();
        let (stream, over, cut) = match over {
            Some(over) => (stream, over, Failure::Reset),
            None => self.follow(stream).await,
        };
        match over {
            Over::Gone => self.left(stream).await,
            Over::Gateway => self.break_off(stream, BrokenBy::Gateway).await,
            Over::Stopped(Some(rest)) => self.end_stream(rest, stream).await,
            Over::Stopped(None) => self.break_off(stream, BrokenBy::Upstream(cut)).await,
        }
    }

    /// Passes events on until no more come: why, and how the backend broke off if it did.
    async fn follow(&mut self, mut stream: Box<Stream>) -> (Box<Stream>, Over, Failure) {
        let stop = self.stop;
        let cut = pin!(stop.cut());
        let mut watch = Watch::new(cut);
        loop {
            let next = match self.is_lendable() {
                true => pin!(self.next_under(&mut watch)).now_or_never(),
                false => None,
            };
            let next = match next {
                Some(next) => next,
                None => match self.pumped(stream).await {
                    Ok((stream, last)) => return finished(stream, last),
                    Err(same) => {
                        stream = same;
                        self.next_under(&mut watch).await
                    }
                },
            };
            let last = match next {
                Next::Chunk(chunk) => {
                    let bytes = stream.take(chunk);
                    self.learn(stream.id());
                    if self.send(bytes).await.is_ok() {
                        stream.passed_on();
                        continue;
                    }
                    Last::Gone
                }
                Next::End => Last::End,
                Next::Cut(cut) => Last::Cut(cut),
                Next::Gone => Last::Gone,
                Next::Stopped => Last::Stopped,
            };
            return finished(stream, last);
        }
    }

    /// The caller left. If it had all that it wanted, the usage that follows is still read, for a moment.
    async fn left(&mut self, mut stream: Box<Stream>) -> Relayed {
        if stream.lacks_only_usage() {
            let read = async {
                while let Came::Chunk(chunk) = self.upstream.next().await {
                    stream.take(chunk);
                }
            };
            let _late = tokio::time::timeout(USAGE_TIMEOUT, read).await;
        }
        self.keep(stream.gathered()).await;
        stream.into_relayed(End::ClientGone)
    }

    async fn end_stream(&mut self, rest: Bytes, mut stream: Box<Stream>) -> Relayed {
        self.keep(stream.gathered()).await;
        let end = match self.send(rest).await {
            Ok(()) => self.finish().await,
            Err(()) => End::ClientGone,
        };
        stream.into_relayed(end)
    }

    /// The caller gets an error event and a proper end of the body, so that its SDK raises instead of hanging. Inside an
    /// event that is partly sent nothing can be said: there the connection is closed.
    async fn break_off(&mut self, stream: Box<Stream>, by: BrokenBy) -> Relayed {
        let mute = stream.is_inside_unread();
        let event = respond::broken_stream_event(self.shape, by);
        let told = !mute && self.send(event).await.is_ok() && self.finish().await == End::Complete;
        let mut relayed = match by {
            BrokenBy::Gateway => stream.into_relayed(End::Stopped),
            BrokenBy::Upstream(cut) => {
                let mut relayed = stream.into_relayed(End::UpstreamCut);
                relayed.cut = cut;
                relayed
            }
        };
        relayed.abort = !told;
        relayed
    }
}
