//! Answers that aren't streams: read whole where that is short, passed on unread where it isn't.
//!
//! An answer that is read whole before its head goes out can still be asked for elsewhere when it breaks off, and
//! never reaches the caller in half. Never holds more than a named bound.

use bytes::{Bytes, BytesMut};
use filters::answer::{self, StreamMeter};
use filters::route::Shape;

use super::upstream::{Came, Over};
use super::{Next, Relay, Relayed};
use crate::context::End;
use crate::stage::cache::Made;
use crate::stage::respond::{self, Failure, Framing};

/// An unstreamed answer up to this size is read whole before its head is sent. Bytes.
const WHOLE_ANSWER_MAX_BYTES: usize = 4 << 20;
/// Of a larger one this much of the end is kept, where `usage` stands. Bytes.
const TAIL_BYTES: usize = 16 << 10;

impl Relay<'_> {
    pub(super) async fn bodyless(&mut self) -> Relayed {
        if self.send_head(Framing::Bodyless).await.is_err() {
            return Relayed::new(End::ClientGone);
        }
        let drained = matches!(self.upstream.next().await, Came::Over(Over::End));
        let mut relayed = Relayed::new(self.finish().await);
        relayed.drained &= drained;
        relayed
    }

    pub(super) async fn whole(&mut self) -> Relayed {
        let mut gathered = BytesMut::new();
        let mut first: Option<Bytes> = None;
        let mut drained = false;
        loop {
            match self.next().await {
                Next::Chunk(chunk) if first.is_none() && gathered.is_empty() => first = Some(chunk),
                Next::Chunk(chunk) => {
                    if let Some(first) = first.take() {
                        gathered.extend_from_slice(&first);
                    }
                    gathered.extend_from_slice(&chunk);
                }
                Next::End => {
                    drained = true;
                    break;
                }
                // What is left of a refusal still says what it is.
                Next::Cut(_) if !respond::is_success(self.answer.status.as_u16()) => break,
                Next::Cut(failure) => {
                    let mut relayed = broken_off(failure);
                    relayed.committed = false;
                    return relayed;
                }
                Next::Gone => return Relayed::new(End::ClientGone),
                Next::Stopped => {
                    let mut relayed = Relayed::new(End::Stopped);
                    relayed.committed = false;
                    return relayed;
                }
            }
            if gathered.len() > WHOLE_ANSWER_MAX_BYTES {
                return self.untouched(gathered.freeze()).await;
            }
        }
        let body = first.unwrap_or_else(|| gathered.freeze());
        let mut relayed = self.send_whole(body).await;
        relayed.drained = drained;
        relayed
    }

    async fn send_whole(&mut self, body: Bytes) -> Relayed {
        let read = answer::read_body(self.shape, &body);
        if let (Some(holder), Shape::Other) = (&self.holder, self.shape) {
            holder.named(&body);
        }
        self.learn(read.id.as_deref());
        if let Some(usage) = read.usage {
            // So that the head tells what is left after this call. Settled already if it failed.
            self.hold.settle(Some(usage));
        }
        let is_untold = read.usage.is_none() && respond::is_success(self.answer.status.as_u16());
        let meter = is_untold.then(|| StreamMeter::of_body(self.shape, &body));
        if respond::may_be_kept(self.answer.status) {
            self.keep(Some(Made::Whole(body.clone()))).await;
        }
        let mut relayed = match self.send_head(Framing::Length(body.len())).await {
            Err(()) => Relayed::new(End::ClientGone),
            Ok(()) => match self.session.write_body(body.clone(), true).await {
                Ok(()) => Relayed::new(End::Complete),
                Err(_) => Relayed::new(End::ClientGone),
            },
        };
        relayed.usage = read.usage;
        relayed.model = read.model;
        relayed.meter = meter;
        relayed.body = Some(body);
        relayed
    }

    /// Bytes as they come, beginning with what was read already. Usage is looked for at the end.
    pub(super) async fn untouched(&mut self, begun: Bytes) -> Relayed {
        self.learn(answer::read_id(&begun).as_deref());
        if self.send_head(Framing::AsStated).await.is_err() {
            return Relayed::new(End::ClientGone);
        }
        let mut tail = BytesMut::new();
        let mut chunk = begun;
        loop {
            keep_tail(&mut tail, &chunk);
            if self.send(chunk).await.is_err() {
                return Relayed::new(End::ClientGone);
            }
            chunk = match self.next().await {
                Next::Chunk(chunk) => chunk,
                Next::End => break,
                Next::Cut(failure) => return broken_off(failure),
                Next::Gone => return Relayed::new(End::ClientGone),
                Next::Stopped => return Relayed::new(End::Stopped),
            };
        }
        let mut relayed = Relayed::new(self.finish().await);
        relayed.drained = true;
        if self.shape != Shape::Other {
            relayed.usage = answer::read_tail(&tail);
        }
        relayed
    }
}

fn broken_off(cut: Failure) -> Relayed {
    Relayed {
        cut,
        ..Relayed::new(End::UpstreamCut)
    }
}

fn keep_tail(tail: &mut BytesMut, chunk: &[u8]) {
    let from = chunk.len().saturating_sub(TAIL_BYTES);
    let chunk = &chunk[from..];
    let excess = (tail.len() + chunk.len()).saturating_sub(TAIL_BYTES);
    let _ = tail.split_to(excess.min(tail.len()));
    tail.extend_from_slice(chunk);
}
