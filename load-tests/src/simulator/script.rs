//! The bytes of an answer in the pieces in which they will be sent, and the task that sends them.
//!
//! Every answer, streamed or not, goes this one way, so that a break, a gate or a pace works on all of them. What the
//! bytes say is made elsewhere.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

use super::behaviour::{Behaviour, BreakageKind, Chunking};
use super::gate::Gate;
use super::journal::{Charge, Ending, Entry};
use super::wire::Link;

/// Some bytes and what the caller is charged once they are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    pub(crate) charge: Charge,
}

impl Piece {
    pub(crate) fn free(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            charge: Charge::default(),
        }
    }
}

/// Cuts events into the writes that the behaviour asks for. The bytes stay the same, whatever the cut.
pub(crate) fn cut(events: Vec<Piece>, chunking: &Chunking) -> Vec<Piece> {
    match chunking {
        Chunking::Events => events,
        Chunking::Whole => join(&events).into_iter().collect(),
        Chunking::Coalesce(count) => events.chunks((*count).max(1)).filter_map(join).collect(),
        Chunking::Bytes(size) => split(&events, &[*size]),
        Chunking::Sizes(sizes) => split(&events, sizes),
    }
}

fn join(events: &[Piece]) -> Option<Piece> {
    let mut bytes = BytesMut::new();
    let mut charge = Charge::default();
    for event in events {
        bytes.extend_from_slice(&event.bytes);
        charge.add(event.charge);
    }
    (!events.is_empty()).then(|| Piece {
        bytes: bytes.freeze(),
        charge,
    })
}

/// Charges go with the piece in which their event begins.
fn split(events: &[Piece], sizes: &[usize]) -> Vec<Piece> {
    let Some(mut whole) = join(events) else {
        return Vec::new();
    };
    let mut starts = Vec::with_capacity(events.len());
    let mut offset = 0;
    for event in events {
        starts.push((offset, event.charge));
        offset += event.bytes.len();
    }
    let (mut pieces, mut position, mut next) = (Vec::new(), 0, 0);
    while !whole.bytes.is_empty() {
        let size = sizes
            .get(pieces.len() % sizes.len().max(1))
            .copied()
            .unwrap_or(1)
            .max(1);
        let bytes = whole.bytes.split_to(size.min(whole.bytes.len()));
        position += bytes.len();
        let mut charge = Charge::default();
        while let Some((_, part)) = starts.get(next).filter(|(start, _)| *start < position) {
            charge.add(*part);
            next += 1;
        }
        pieces.push(Piece { bytes, charge });
    }
    pieces
}

/// Where the events of a recording end, so that it can be sent event by event.
pub(crate) fn events_of(recording: &Bytes) -> Vec<Piece> {
    let mut rest = recording.clone();
    let mut events = Vec::new();
    while let Some(end) = event_end(&rest) {
        events.push(Piece::free(rest.split_to(end)));
    }
    if !rest.is_empty() {
        events.push(Piece::free(rest));
    }
    events
}

fn event_end(bytes: &[u8]) -> Option<usize> {
    let mut line_ends = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'\n' | b'\r'));
    line_ends.find_map(|(at, _)| {
        let mark = [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"]
            .into_iter()
            .find(|mark| bytes[at..].starts_with(mark))?;
        Some(at + mark.len())
    })
}

/// Everything that sending needs.
pub(crate) struct Script {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) streamed: bool,
    pub(crate) behaviour: Behaviour,
    pub(crate) gate: Arc<Gate>,
    pub(crate) link: Arc<Link>,
}

enum Sent {
    Piece { piece: Piece, last: bool },
    Break(BreakageKind),
}

impl Script {
    /// Starts the task that sends, and gives the body that hyper polls.
    pub(crate) fn play(self, entry: Entry) -> ScriptBody {
        let (sender, receiver) = mpsc::channel(1);
        let link = Arc::clone(&self.link);
        link.note_handed_over(link.flush_count());
        let complete = self.pieces.is_empty();
        tokio::spawn(async move {
            tokio::select! {
                () = self.send(&sender) => {}
                () = sender.closed() => {}
            }
        });
        ScriptBody {
            receiver,
            entry,
            link,
            complete,
        }
    }

    async fn send(&self, sender: &mpsc::Sender<Sent>) {
        let breakage = self
            .behaviour
            .breakage
            .and_then(|breakage| Some((breakage.kind, breakage.after?)));
        let count = self.pieces.len();
        let (sendable, complete_at) = match breakage {
            None => (count, count),
            Some((BreakageKind::End, after)) => (after.min(count), after.min(count)),
            Some((BreakageKind::Reset | BreakageKind::Hang | BreakageKind::Cut, after)) => {
                (after.min(count), usize::MAX)
            }
        };
        for (index, piece) in self.pieces.iter().take(sendable).enumerate() {
            if index > 0 {
                self.wait_before_next().await;
            }
            let piece = piece.clone();
            if sender
                .send(Sent::Piece {
                    piece,
                    last: index + 1 == complete_at,
                })
                .await
                .is_err()
            {
                return;
            }
        }
        match breakage {
            None | Some((BreakageKind::End, _)) => {}
            Some((BreakageKind::Hang, _)) => std::future::pending().await,
            Some((kind @ (BreakageKind::Reset | BreakageKind::Cut), _)) => {
                self.break_off(sender, kind).await
            }
        }
    }

    /// Breaks once what was sent before is out; a RST discards what still waits in the socket.
    async fn break_off(&self, sender: &mpsc::Sender<Sent>, kind: BreakageKind) {
        if let Ok(permit) = sender.reserve().await {
            self.link.flushed_since_handed_over().await;
            permit.send(Sent::Break(kind));
            // Ending here would look like a proper end of the body.
            std::future::pending::<()>().await;
        }
    }

    async fn wait_before_next(&self) {
        if self.behaviour.gated {
            self.gate.pass().await;
        }
        if self.streamed && self.behaviour.pace.between_tokens_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.behaviour.pace.between_tokens_ms)).await;
        }
    }
}

/// The body of an answer.
pub(crate) struct ScriptBody {
    receiver: mpsc::Receiver<Sent>,
    entry: Entry,
    link: Arc<Link>,
    complete: bool,
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let flushes = self.link.flush_count();
        let Poll::Ready(sent) = self.receiver.poll_recv(context) else {
            return Poll::Pending;
        };
        match sent {
            None => {
                self.entry.end(Ending::Finished);
                Poll::Ready(None)
            }
            Some(Sent::Piece { piece, last }) => {
                self.link.note_handed_over(flushes);
                self.entry.sent(piece.charge);
                self.complete = last;
                if last {
                    self.entry.end(Ending::Finished);
                }
                Poll::Ready(Some(Ok(Frame::data(piece.bytes))))
            }
            Some(Sent::Break(kind)) => {
                if kind == BreakageKind::Reset {
                    self.link.reset();
                }
                self.entry.end(Ending::Broken);
                Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.complete
    }
}

impl Drop for ScriptBody {
    fn drop(&mut self) {
        if self.complete {
            self.entry.end(Ending::Finished);
        }
    }
}
