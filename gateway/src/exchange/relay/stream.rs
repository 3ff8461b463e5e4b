//! A stream of events on its way: split, read, rid of the chunk that the caller didn't ask for, and judged at its end.
//!
//! A chat, completion or response that is cut short mustn't look complete, and a backend's process that dies behind a
//! proxy of its own often ends the body cleanly. So what counts is whether the stream said its end. Where that can't be
//! known (no event came, one was too large to read, the operation isn't understood), a clean end is believed.
//! Never touches a connection.

use bytes::{Bytes, BytesMut};
use filters::answer::{Opening, Seen, StreamMeter};
use filters::cache::entry::Gatherer;
use filters::route::Shape;
use filters::sse::{Event, Piece, PieceKind, Splitter};

use super::Relayed;
use crate::clock::{self, Moment};
use crate::context::End;
use crate::stage::cache::Made;
use crate::stage::respond::{Failure, OwnEnd};

/// A larger event is passed on unread. Bytes.
const EVENT_MAX_BYTES: usize = 8 << 20;

/// How the bytes of a stream stopped coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The body ended as HTTP ends one.
    Cleanly,
    /// The connection broke, or nothing came for too long.
    Broken,
}

/// A stream of events on its way.
pub struct Stream {
    splitter: Splitter,
    meter: StreamMeter,
    own_end: OwnEnd,
    keeps_usage_chunk: bool,
    pieces: Vec<Piece>,
    last_was_extra: bool,
    event_seen: bool,
    unread_seen: bool,
    content_seen: bool,
    first_token: Option<Moment>,
    drained: bool,
    gatherer: Option<Box<Gatherer>>,
}

impl Stream {
    /// A stream of which nothing has come yet.
    pub fn new(shape: Shape, own_end: OwnEnd, keeps_usage_chunk: bool) -> Self {
        Stream {
            splitter: Splitter::new(EVENT_MAX_BYTES),
            meter: StreamMeter::new(shape),
            own_end,
            keeps_usage_chunk,
            pieces: Vec::new(),
            last_was_extra: false,
            event_seen: false,
            unread_seen: false,
            content_seen: false,
            first_token: None,
            drained: false,
            gatherer: None,
        }
    }

    /// Puts the events together from now on, for a cache.
    pub fn gather(&mut self, gatherer: Gatherer) {
        self.gatherer = Some(Box::new(gatherer));
    }

    /// What was put together, if every choice has come to its end.
    pub fn gathered(&mut self) -> Option<Made> {
        let gatherer = self.gatherer.take()?;
        self.meter.is_finished().then_some(Made::Events(gatherer))
    }

    /// What of a chunk goes to the caller now. The chunk itself, where all of it does.
    pub fn take(&mut self, chunk: Bytes) -> Bytes {
        let held_before = self.splitter.holds_bytes() > 0;
        let mut pieces = std::mem::take(&mut self.pieces);
        self.splitter.push(chunk.clone(), &mut pieces);
        let count = pieces.len();
        pieces.retain(|piece| self.passes(piece));
        let whole = pieces.len() == count && !held_before && self.splitter.holds_bytes() == 0;
        let bytes = match whole {
            true => chunk,
            false => joined(&pieces),
        };
        pieces.clear();
        self.pieces = pieces;
        bytes
    }

    /// What its beginning has shown.
    pub fn opening(&self) -> Opening {
        self.meter.opening()
    }

    /// How much of an event that isn't complete yet is held.
    pub fn holds_bytes(&self) -> usize {
        self.splitter.holds_bytes()
    }

    /// Notes when the first event that a user sees went out.
    pub fn passed_on(&mut self) {
        if self.content_seen && self.first_token.is_none() {
            self.first_token = Some(clock::now());
        }
    }

    /// What is left to send where the stream is complete; `None` where it was cut off.
    pub fn end(&mut self, stopped: Stopped) -> Option<Bytes> {
        self.drained = stopped == Stopped::Cleanly;
        let rest = self.splitter.finish().unwrap_or_default();
        let event = Event::parse(&rest);
        let is_half = is_half(&event);
        let is_extra = self.is_extra(&event);
        let is_believed = self.drained && !self.must_say_its_end();
        match (is_believed, self.meter.is_finished()) {
            (true, _) if !is_extra => Some(rest),
            (_, true) if !is_extra && !is_half => Some(rest),
            (true, _) | (_, true) => Some(Bytes::new()),
            (false, false) => None,
        }
    }

    /// The id of the response, once an event has named it.
    pub fn id(&self) -> Option<&str> {
        self.meter.id()
    }

    /// Whether every choice has come to its end, and only the figures are missing.
    pub fn lacks_only_usage(&self) -> bool {
        self.meter.is_finished() && self.meter.usage().is_none()
    }

    /// Whether a part of an event has gone out, and its end hasn't.
    pub fn is_inside_unread(&self) -> bool {
        self.splitter.is_inside_oversize()
    }

    /// What is known of the stream when it is over. A caller that left after the end has missed nothing.
    pub fn into_relayed(self, end: End) -> Relayed {
        let end = match end {
            End::ClientGone if self.meter.is_finished() => End::Complete,
            other => other,
        };
        Relayed {
            end,
            usage: self.meter.usage(),
            model: self.meter.model().map(str::to_owned),
            first_token: self.first_token,
            error: self.meter.error(),
            cut: Failure::Reset,
            drained: self.drained,
            abort: end == End::ClientGone,
            committed: true,
            body: None,
            meter: Some(self.meter),
        }
    }

    /// Whether a clean end before any event is believed.
    pub fn may_be_empty(&self) -> bool {
        self.own_end == OwnEnd::Unknown
    }

    fn must_say_its_end(&self) -> bool {
        self.own_end == OwnEnd::Expected && self.event_seen && !self.unread_seen
    }

    fn passes(&mut self, piece: &Piece) -> bool {
        match piece.kind {
            PieceKind::LineFeed => {}
            PieceKind::Oversize => {
                self.last_was_extra = false;
                self.unread_seen = true;
                self.gatherer = None;
            }
            PieceKind::Event => self.last_was_extra = self.is_extra(&piece.event()),
        }
        !self.last_was_extra
    }

    /// Reads an event; whether it is the chunk that the caller didn't ask for.
    fn is_extra(&mut self, event: &Event<'_>) -> bool {
        let seen = self.meter.read(event);
        if let Some(gatherer) = &mut self.gatherer {
            gatherer.push(event);
        }
        self.event_seen |= event.data.is_some();
        self.content_seen |= seen == Seen::Content;
        seen == Seen::UsageOnly && self.keeps_usage_chunk
    }
}

/// Whether an event that no blank line ended was cut in its data.
fn is_half(event: &Event<'_>) -> bool {
    event.data.as_deref().is_some_and(|data| {
        data.trim_ascii() != b"[DONE]"
            && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_err()
    })
}

fn joined(pieces: &[Piece]) -> Bytes {
    match pieces {
        [] => Bytes::new(),
        [one] => one.bytes.clone(),
        several => {
            let length = several.iter().map(|piece| piece.bytes.len()).sum();
            let mut bytes = BytesMut::with_capacity(length);
            for piece in several {
                bytes.extend_from_slice(&piece.bytes);
            }
            bytes.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BEGUN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    const FINISHED: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

    /// What goes out at the end of a chat whose body was this.
    fn end_of(body: &str, stopped: Stopped) -> Option<Bytes> {
        end_as(OwnEnd::Expected, body, stopped)
    }

    fn end_as(own_end: OwnEnd, body: &str, stopped: Stopped) -> Option<Bytes> {
        let mut stream = Stream::new(Shape::Chat, own_end, false);
        stream.take(Bytes::copy_from_slice(body.as_bytes()));
        stream.end(stopped)
    }

    #[test]
    fn a_clean_end_without_the_streams_own_end_is_a_cut() {
        assert_eq!(end_of(BEGUN, Stopped::Cleanly), None);
        assert_eq!(end_of("data: {\"choi", Stopped::Cleanly), None);
        assert_eq!(end_of(FINISHED, Stopped::Cleanly), Some(Bytes::new()));
        assert_eq!(
            end_of("data: [DONE]\n\n", Stopped::Cleanly),
            Some(Bytes::new())
        );
    }

    #[test]
    fn a_break_after_the_streams_own_end_is_none() {
        assert_eq!(end_of(FINISHED, Stopped::Broken), Some(Bytes::new()));
        assert_eq!(end_of(BEGUN, Stopped::Broken), None);
        assert_eq!(end_of("", Stopped::Broken), None);
    }

    #[test]
    fn a_last_event_without_its_blank_line_goes_out_if_it_is_whole() {
        for stopped in [Stopped::Cleanly, Stopped::Broken] {
            assert_eq!(end_of("data: [DONE]", stopped).unwrap(), "data: [DONE]");
            let half = format!("{FINISHED}data: {{\"choices\":[");
            assert_eq!(end_of(&half, stopped), Some(Bytes::new()));
        }
    }

    #[test]
    fn a_clean_end_is_believed_where_no_end_can_be_expected() {
        let json = "{\"error\":{}}";
        assert_eq!(end_of(json, Stopped::Cleanly).unwrap(), json);
        assert_eq!(end_of("", Stopped::Cleanly), Some(Bytes::new()));
        let unknown = end_as(OwnEnd::Unknown, BEGUN, Stopped::Cleanly);
        assert_eq!(unknown, Some(Bytes::new()));
        let large = format!("data: {}\n\n", "x".repeat(EVENT_MAX_BYTES));
        assert_eq!(end_of(&large, Stopped::Cleanly), Some(Bytes::new()));
    }
}
