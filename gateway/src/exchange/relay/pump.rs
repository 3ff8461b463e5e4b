//! Passes the events of a stream on by a small task of its own, once one has to be waited for.
//!
//! Down to the place where an event is passed on lead some fifteen futures, those of the connection, the call and the
//! attempt, each with lines of code and of memory of its own. Where events come at once that is nothing; where each is waited
//! for, all of them have left the processor's caches in between, and to fetch them again costs more than the event. So both
//! connections are lent to a task that holds nothing but what an event needs, and the call waits until it is over.
//! Only between connections of our own over HTTP/1.1. Decides nothing that `relay` doesn't decide alike.

use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::JoinHandle;

use super::stream::Stream;
use super::upstream::{self, Over};
use super::watch::{Ended, Watch};
use super::{Last, Relay};
use crate::downstream::link::Link;
use crate::downstream::{Downstream, Wakes};
use crate::upstream::http1::Http1;

/// Ends when the process has no more time.
type Cut = Box<dyn Future<Output = ()> + Send>;

/// What an event needs.
struct Lent {
    caller: Link,
    backend: Http1,
    stream: Box<Stream>,
    watch: Watch<Cut>,
    /// The stream's end waits until the answer is kept for others, so nothing waits for the end.
    keeps: bool,
}

impl Lent {
    /// Passes on what has come; why no more comes, when it doesn't.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Last> {
        let Lent {
            caller,
            backend,
            stream,
            watch,
            keeps,
        } = self;
        loop {
            if ready!(caller.poll_out(context)).is_err() {
                return Poll::Ready(Last::Gone);
            }
            stream.passed_on();
            // What came with the last bytes is no reason to wait for the caller.
            if backend.is_over() {
                return Poll::Ready(Last::End);
            }
            // First the caller: events that never cease mustn't hide that it left.
            match watch.poll(context, |ringing| {
                (caller.poll_leaves(ringing), Wakes::Always)
            }) {
                Poll::Ready(Ended::Gone) => return Poll::Ready(Last::Gone),
                Poll::Ready(Ended::Stopped) => return Poll::Ready(Last::Stopped),
                Poll::Pending => {}
            }
            let chunk = match ready!(backend.poll_body(context)) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Poll::Ready(Last::End),
                Err(error) => return Poll::Ready(Last::Cut(upstream::cut(&error))),
            };
            let bytes = stream.take(chunk);
            if bytes.is_empty() {
                continue;
            }
            if backend.is_over() && !*keeps {
                // The end of the body follows at once, and takes this along.
                caller.hold(true);
            }
            if caller.put(bytes, false).is_err() {
                return Poll::Ready(Last::Gone);
            }
        }
    }
}

/// The task.
struct Pump(Option<Lent>);

impl Future for Pump {
    type Output = (Lent, Last);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(lent) = &mut self.0 else {
            return Poll::Pending;
        };
        let last = ready!(lent.poll(context));
        match self.0.take() {
            Some(lent) => Poll::Ready((lent, last)),
            None => Poll::Pending,
        }
    }
}

/// A task that doesn't outlive the call.
struct Held(JoinHandle<(Lent, Last)>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Relay<'_> {
    /// Whether the stream can be left to a task.
    pub(super) fn is_lendable(&mut self) -> bool {
        // What is learned of an event is learned before the caller has it.
        self.holder.is_none()
            && matches!(self.session, Downstream::Own(_))
            && self.upstream.lendable().is_some()
    }

    /// Has a task pass on the stream until no more comes of it, and why that is.
    ///
    /// # Errors
    /// The stream, where it can't be left to one.
    pub(super) async fn pumped(
        &mut self,
        stream: Box<Stream>,
    ) -> Result<(Box<Stream>, Last), Box<Stream>> {
        let (Downstream::Own(caller), Some(backend)) =
            (&mut self.session, self.upstream.lendable())
        else {
            return Err(stream);
        };
        let stop = self.stop.clone();
        let cut: Cut = Box::new(async move { stop.cut().await });
        let pump = Pump(Some(Lent {
            caller: caller.lend(),
            backend: backend.lend(),
            stream,
            watch: Watch::new(Box::into_pin(cut)),
            keeps: self.keeping.is_some(),
        }));
        let mut held = Held(tokio::spawn(pump));
        let (lent, last) = match (&mut held.0).await {
            Ok(done) => done,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime ends, and with it whoever waits here.
                Err(_cancelled) => std::future::pending().await,
            },
        };
        caller.give_back(lent.caller);
        *backend = lent.backend;
        match last {
            Last::End => self.upstream.ended(Over::End),
            Last::Cut(failure) => self.upstream.ended(Over::Cut(failure)),
            Last::Gone | Last::Stopped => {}
        }
        Ok((lent.stream, last))
    }
}
