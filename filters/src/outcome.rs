//! How one attempt at a backend ended, and whose doing that was.
//!
//! Breaker and retry both judge the same outcome, so they can't disagree about what happened. The
//! caller's own mistakes, our refused credential and a caller who left are apart from the backend's
//! answers: no configured range of statuses may turn them into its failures. It never looks at a
//! body: the driver that does (an error as a stream's first event, say) hands in the status that the
//! body stands for, which `answer` reads.

use std::time::Duration;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered, and the answer is its own.
    Answered {
        /// Its status.
        status: u16,
        /// How long it asks to be left alone.
        wait: Option<Duration>,
    },
    /// The answer's head was well, and an event of its stream was an error.
    ErrorEvent {
        /// The status that the error stands for; never 429, which is an answer like any other.
        status: u16,
        /// How long the head asks to be left alone.
        wait: Option<Duration>,
    },
    /// The answer's head was well, and the stream ended or broke before it said anything.
    EmptyStream,
    /// No answer came.
    Failed(FailureReason),
    /// A pooled connection turned out to be closed before a byte of the answer: it says nothing about
    /// the backend.
    Stale,
    /// The backend answered that the request is wrong.
    CallersFault,
    /// The backend refused the gateway's own credential.
    CredentialRefused,
    /// There was no token to show to the backend, so it wasn't asked: it says nothing about the backend.
    NoCredential,
    /// Nobody waited for the end: the caller left, or the gateway let go.
    NoVerdict,
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// No connection: the name, the network, or TLS.
    Connect,
    /// A connection, and no first byte in time, or nothing more.
    Timeout,
    /// A connection that broke before the answer was there.
    Reset,
}

/// Whose credential a request carries to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The backend's, from the configuration.
    Gateway,
    /// The caller's own, or none.
    Caller,
}

impl Outcome {
    /// What an answer's status means. Filtered content comes as 400 and needs no row of its own.
    pub fn of_answer(status: u16, wait: Option<Duration>, credential: Credential) -> Self {
        match (status, credential) {
            (400 | 404 | 413, Credential::Gateway | Credential::Caller)
            | (401 | 403, Credential::Caller) => Self::CallersFault,
            (401 | 403, Credential::Gateway) => Self::CredentialRefused,
            (status, Credential::Gateway | Credential::Caller) => Self::Answered { status, wait },
        }
    }

    /// What an error in a stream means, by the status that it stands for.
    pub fn of_error_event(status: u16, wait: Option<Duration>, credential: Credential) -> Self {
        match Self::of_answer(status, wait, credential) {
            Self::Answered { status, wait } if status != 429 => Self::ErrorEvent { status, wait },
            other => other,
        }
    }
}

impl Outcome {
    /// True if the backend said that it was asked too much.
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Answered { status: 429, .. })
    }
}

impl FailureReason {
    /// The word in configuration, metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
        }
    }
}
