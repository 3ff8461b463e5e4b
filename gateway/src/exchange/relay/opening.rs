//! The beginning of a stream, held back until it shows that there is an answer.
//!
//! A backend that fails after it sent `200` says so in its first event, or says nothing. As long as the caller has
//! nothing either, another backend can make that good. What comes before the first token (a comment, a role, filter
//! results) is held for a moment only: a model that thinks for minutes keeps its connections alive with comments, and
//! they must arrive. The event that decides leaves at once, with all that was held, in one write. Where no other attempt could
//! follow, nothing is held.
//! Never decides what follows from a bad beginning.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use filters::answer::{self, Opening};

use super::stream::{Stopped, Stream};
use super::{Next, Relay};
use crate::stage::respond::{self, Failure};

/// How much is held. Bytes.
const HELD_MAX_BYTES: usize = 64 << 10;
/// How long something is held, from its first byte: longer than a backend takes between a role and the error that
/// follows, shorter than a user notices before the first token.
const HELD_MAX: Duration = Duration::from_millis(250);

/// A stream that has begun, of which nothing has gone out.
pub struct Begun {
    stream: Box<Stream>,
    held: BytesMut,
    over: Option<Over>,
}

/// Why no more of a stream comes.
pub(super) enum Over {
    /// It stopped; what is left to send, where it is complete.
    Stopped(Option<Bytes>),
    /// The caller left.
    Gone,
    /// The gateway has no more time for it.
    Gateway,
}

/// Why a stream is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It began with an error, which stands for this status.
    Error(u16),
    /// It said nothing.
    Nothing(Failure),
}

enum Beginning {
    Undecided,
    Good,
    Bad(Trouble),
}

impl Relay<'_> {
    /// Where the answer is a stream, reads it until it shows whether it is an answer, or until it was held for long
    /// enough. A bad one can be passed on all the same. `is_last`: no other attempt can follow this one.
    pub async fn begin(&mut self, is_last: bool) -> Option<Trouble> {
        let is_stream = respond::is_success(self.answer.status.as_u16())
            && !self.is_bodyless()
            && respond::relay(&self.answer, self.shape) == respond::Relay::Events;
        if !is_stream {
            return None;
        }
        let mut begun = Begun::nothing(self.stream());
        let beginning = self.read_beginning(&mut begun, is_last).await;
        self.begun = Some(begun);
        match beginning {
            Beginning::Bad(trouble) => Some(trouble),
            Beginning::Good | Beginning::Undecided => None,
        }
    }

    async fn read_beginning(&mut self, begun: &mut Begun, is_last: bool) -> Beginning {
        // Until the first byte there is nothing to hold.
        let mut beginning = begun.take(self.next().await);
        if is_last || !matches!(beginning, Beginning::Undecided) {
            return beginning;
        }
        let bound = tokio::time::sleep(HELD_MAX);
        tokio::pin!(bound);
        while matches!(beginning, Beginning::Undecided) {
            beginning = tokio::select! {
                biased;
                next = self.next() => begun.take(next),
                () = &mut bound => break,
            };
        }
        beginning
    }
}

impl Begun {
    /// A stream of which nothing has been read.
    pub(super) fn nothing(stream: Box<Stream>) -> Self {
        Begun {
            stream,
            held: BytesMut::new(),
            over: None,
        }
    }

    /// The stream, what was held of it, and whether more comes.
    pub(super) fn into_parts(self) -> (Box<Stream>, Bytes, Option<Over>) {
        (self.stream, self.held.freeze(), self.over)
    }

    fn take(&mut self, next: Next) -> Beginning {
        match next {
            Next::Chunk(chunk) => {
                let bytes = self.stream.take(chunk);
                self.held.extend_from_slice(&bytes);
                self.beginning()
            }
            Next::Gone => {
                self.over = Some(Over::Gone);
                Beginning::Good
            }
            Next::Stopped => {
                self.over = Some(Over::Gateway);
                Beginning::Good
            }
            Next::End => self.stopped(Stopped::Cleanly, Failure::Reset),
            Next::Cut(failure) => self.stopped(Stopped::Broken, failure),
        }
    }

    fn stopped(&mut self, how: Stopped, failure: Failure) -> Beginning {
        let rest = self.stream.end(how);
        let error = rest.as_ref().and_then(|rest| self.bare_error(rest));
        self.over = Some(Over::Stopped(rest));
        let is_believed = how == Stopped::Cleanly && self.stream.may_be_empty();
        match (self.beginning(), error) {
            (Beginning::Undecided, Some(status)) => Beginning::Bad(Trouble::Error(status)),
            (Beginning::Undecided, None) if is_believed => Beginning::Good,
            (Beginning::Undecided, None) => Beginning::Bad(Trouble::Nothing(failure)),
            (decided, _) => decided,
        }
    }

    fn bare_error(&self, rest: &[u8]) -> Option<u16> {
        answer::bare_error_status(&[&self.held[..], rest].concat())
    }

    fn beginning(&self) -> Beginning {
        let held_bytes = self.held.len() + self.stream.holds_bytes();
        match self.stream.opening() {
            Opening::Silent | Opening::Announced if held_bytes > HELD_MAX_BYTES => Beginning::Good,
            Opening::Silent | Opening::Announced => Beginning::Undecided,
            Opening::Answered => Beginning::Good,
            Opening::Failed { status } => Beginning::Bad(Trouble::Error(status)),
            Opening::Empty => Beginning::Bad(Trouble::Nothing(Failure::Reset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use filters::route::Shape;

    use super::*;
    use crate::stage::respond::OwnEnd;

    const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";

    fn begun() -> Begun {
        let stream = Stream::new(Shape::Chat, OwnEnd::Expected, false);
        Begun::nothing(Box::new(stream))
    }

    fn chunk(text: &str) -> Next {
        Next::Chunk(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn no_more_is_held_than_the_bound_in_events_or_in_half_a_one() {
        let mut events = begun();
        assert!(matches!(events.take(chunk(ROLE)), Beginning::Undecided));
        let comment = format!(": {}\n\n", "x".repeat(HELD_MAX_BYTES));
        assert!(matches!(events.take(chunk(&comment)), Beginning::Good));
        let (_, held, over) = events.into_parts();
        assert_eq!(held, format!("{ROLE}{comment}"));
        assert!(over.is_none());
        let mut half = begun();
        let comment = comment.trim_end();
        assert!(matches!(half.take(chunk(comment)), Beginning::Good));
    }

    #[test]
    fn an_end_decides() {
        for (text, trouble) in [
            ("", Some(Trouble::Nothing(Failure::Reset))),
            (ROLE, Some(Trouble::Nothing(Failure::Reset))),
            (
                "data: {\"error\":{\"code\":\"x\"}}",
                Some(Trouble::Error(500)),
            ),
            (
                "{\"error\":{\"code\":\"429\"}}\n\n",
                Some(Trouble::Error(429)),
            ),
            ("data: {\"choices\":[{\"text\":\"a\"}]}", None),
        ] {
            let mut begun = begun();
            assert!(matches!(begun.take(chunk(text)), Beginning::Undecided));
            let found = match begun.take(Next::End) {
                Beginning::Bad(trouble) => Some(trouble),
                Beginning::Good => None,
                Beginning::Undecided => panic!("undecided at its end"),
            };
            assert_eq!(found, trouble, "{text}");
        }
    }
}
