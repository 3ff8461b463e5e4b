//! A backend's answer as it comes: all that is there already at once, and never a wait for more.
//!
//! Pingora hands out one chunk a read, and a backend sends each event in a chunk of its own. Where several came
//! together, each would be written to the caller by a system call of its own, which costs more than all else that is
//! done with it. Never reads what the bytes say.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, Result};

use crate::exchange::attempt;
use crate::stage::respond::Failure;
use crate::upstream::connector::Session;
use crate::upstream::fault::Fault;
use crate::upstream::http1::Http1;

/// So much is passed on at once, before more is read. Bytes.
const AT_ONCE_BYTES: usize = 16 << 10;

/// The body of an answer.
pub struct Upstream<'a> {
    session: &'a mut Session,
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
    pub fn new(session: &'a mut Session) -> Self {
        Upstream {
            session,
            gathered: BytesMut::new(),
            over: None,
        }
    }

    /// How it ended, if no more comes.
    pub fn over(&self) -> Option<Over> {
        self.over
    }

    /// Whoever had the connection for a while has seen that no more comes.
    pub(super) fn ended(&mut self, over: Over) {
        self.over = Some(over);
    }

    /// The connection, where it is ours and more may come of it. Whoever takes it away for a while puts it back.
    pub(super) fn lendable(&mut self) -> Option<&mut Http1> {
        match (self.over, &mut *self.session) {
            (None, Session::Own(session)) => Some(session),
            (Some(_), Session::Own(_)) | (_, Session::Pingora(_)) => None,
        }
    }

    /// The next bytes. Loses nothing when it is dropped while it waits.
    pub async fn next(&mut self) -> Came {
        if let Some(over) = self.over {
            return Came::Over(over);
        }
        let read = match self.session {
            // One read takes what is there.
            Session::Own(session) => {
                let read = session.read_body().await;
                if session.is_over() {
                    self.over = Some(Over::End);
                }
                read
            }
            Session::Pingora(session) => gather(session, &mut self.gathered, &mut self.over).await,
        };
        let over = match read {
            Ok(Some(chunk)) => return Came::Chunk(chunk),
            Ok(None) => Over::End,
            Err(error) => Over::Cut(cut(&error)),
        };
        self.over = Some(over);
        Came::Over(over)
    }
}

/// How an answer ended that can't be read on.
pub(super) fn cut(error: &Error) -> Failure {
    tracing::debug!(error = %Fault(error), "the backend broke off");
    attempt::failure_of(error)
}

/// What has come, or what comes first.
async fn gather(
    session: &mut HttpSession,
    gathered: &mut BytesMut,
    over: &mut Option<Over>,
) -> Result<Option<Bytes>> {
    while gathered.is_empty() {
        match read(session).await? {
            Some(chunk) => gathered.extend_from_slice(&chunk),
            None => return Ok(None),
        }
    }
    // A read that isn't waited for needs no timer.
    let timeout = take_read_timeout(session);
    while over.is_none() && gathered.len() < AT_ONCE_BYTES {
        match read(session).now_or_never() {
            Some(Ok(Some(chunk))) => gathered.extend_from_slice(&chunk),
            Some(Ok(None)) => *over = Some(Over::End),
            Some(Err(error)) => *over = Some(Over::Cut(cut(&error))),
            None => break,
        }
    }
    session.set_read_timeout(timeout);
    Ok(Some(gathered.split().freeze()))
}

async fn read(session: &mut HttpSession) -> Result<Option<Bytes>> {
    session.read_response_body().await
}

fn take_read_timeout(session: &mut HttpSession) -> Option<Duration> {
    match session {
        HttpSession::H1(session) => session.read_timeout.take(),
        HttpSession::H2(session) => session.read_timeout.take(),
        HttpSession::Custom(()) => None,
    }
}
