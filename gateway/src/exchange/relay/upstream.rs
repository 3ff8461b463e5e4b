//! A backend's answer as it comes: all that is there already at once, and never a wait for more.
//!
//! Pingora hands out one chunk a read, and a backend sends each event in a chunk of its own. Where several came
//! together, each would be written to the caller by a system call of its own, which costs more than all else that is
//! done with it. Never reads what the bytes say.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use pingora::Result;
use pingora::protocols::http::client::HttpSession;

use crate::exchange::attempt;
use crate::stage::respond::Failure;
use crate::upstream::fault::Fault;

/// So much is passed on at once, before more is read. Bytes.
const AT_ONCE_BYTES: usize = 16 << 10;

/// The body of an answer.
pub struct Upstream<'a> {
    upstream: &'a mut HttpSession,
    gathered: BytesMut,
    over: Option<Over>,
}

/// What came of it.
#[derive(Debug)]
pub enum Came {
    /// Bytes, at least one.
    Chunk(Bytes),
    /// No more.
    Over(Over),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Properly.
    End,
    /// It broke off.
    Cut(Failure),
}

impl<'a> Upstream<'a> {
    /// An answer whose head is read.
    pub fn new(upstream: &'a mut HttpSession) -> Self {
        Upstream {
            upstream,
            gathered: BytesMut::new(),
            over: None,
        }
    }

    /// The next bytes. Loses nothing when it is dropped while it waits.
    pub async fn next(&mut self) -> Came {
        if let Some(over) = self.over {
            return Came::Over(over);
        }
        loop {
            let read = read(self.upstream, &mut self.gathered).await;
            if let Some(over) = over(read) {
                self.over = Some(over);
                return Came::Over(over);
            }
            self.gather();
            if !self.gathered.is_empty() {
                return Came::Chunk(self.gathered.split().freeze());
            }
        }
    }

    /// Takes what has come already.
    fn gather(&mut self) {
        // A read that isn't waited for needs no timer.
        let timeout = take_read_timeout(self.upstream);
        while self.over.is_none() && self.gathered.len() < AT_ONCE_BYTES {
            match read(self.upstream, &mut self.gathered).now_or_never() {
                Some(read) => self.over = over(read),
                None => break,
            }
        }
        self.upstream.set_read_timeout(timeout);
    }
}

/// Reads once; whether there was something to read.
async fn read(upstream: &mut HttpSession, into: &mut BytesMut) -> Result<bool> {
    match upstream {
        HttpSession::H1(session) => {
            let chunk = session.read_body_ref().await?;
            into.extend_from_slice(chunk.unwrap_or_default());
            Ok(chunk.is_some())
        }
        HttpSession::H2(_) | HttpSession::Custom(_) => {
            let chunk = upstream.read_response_body().await?;
            into.extend_from_slice(chunk.as_deref().unwrap_or_default());
            Ok(chunk.is_some())
        }
    }
}

fn over(read: Result<bool>) -> Option<Over> {
    match read {
        Ok(true) => None,
        Ok(false) => Some(Over::End),
        Err(error) => {
            tracing::debug!(error = %Fault(&error), "the backend broke off");
            Some(Over::Cut(attempt::failure_of(&error)))
        }
    }
}

fn take_read_timeout(upstream: &mut HttpSession) -> Option<Duration> {
    match upstream {
        HttpSession::H1(session) => session.read_timeout.take(),
        HttpSession::H2(session) => session.read_timeout.take(),
        HttpSession::Custom(_) => None,
    }
}
