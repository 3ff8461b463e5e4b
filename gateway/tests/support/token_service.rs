//! A token service that fails, stalls, expires and rotates on command: the metadata service of a virtual machine, the
//! sidecar of App Service, and the token endpoint of Entra ID, whichever is asked.
//!
//! Its tokens are numbered. It knows until when each is good, so a backend can ask whether one that it was sent is.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::DEADLINE;
use super::backend::{After, Backend, Received};

/// A running service.
#[derive(Clone)]
pub struct TokenService {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    backend: Arc<Backend>,
    shared: Arc<Shared>,
}

/// What it answers from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A token that is good for so many seconds.
    Well(u64),
    /// Nothing, until it is told something else; then it answers by that.
    Stalled,
    /// This status and this body.
    Failing(u16, &'static str),
}

struct Shared {
    mode: Mutex<Mode>,
    changed: Condvar,
    issued: Mutex<Vec<Issued>>,
}

struct Issued {
    token: String,
    good_until: Instant,
}

impl TokenService {
    /// Listens.
    pub fn start(mode: Mode) -> TokenService {
        let shared = Arc::new(Shared {
            mode: Mutex::new(mode),
            changed: Condvar::new(),
            issued: Mutex::new(Vec::new()),
        });
        let own = shared.clone();
        let backend = Backend::start(move |_, stream| {
            let (status, body) = own.answer();
            let head = format!(
                "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes())?;
            Ok(After::Keep)
        });
        TokenService {
            url: backend.url.clone(),
            backend: Arc::new(backend),
            shared,
        }
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
        self.shared.changed.notify_all();
    }

    /// The calls so far.
    pub fn received(&self) -> Vec<Received> {
        self.backend.received()
    }

    /// Waits until there were this many calls.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        self.backend.wait_for(count)
    }

    /// Whether this `Authorization` is of a token that is good now.
    pub fn knows(&self, authorization: &str) -> bool {
        let issued = self.shared.issued.lock().unwrap();
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        let found = issued.iter().find(|issued| issued.token == token);
        found.is_some_and(|issued| Instant::now() < issued.good_until)
    }
}

impl Shared {
    fn answer(&self) -> (u16, String) {
        let mode = self.mode.lock().unwrap();
        let waiting = |mode: &mut Mode| *mode == Mode::Stalled;
        let (mode, _) = self
            .changed
            .wait_timeout_while(mode, DEADLINE, waiting)
            .unwrap();
        match &*mode {
            Mode::Stalled => (504, String::new()),
            Mode::Failing(status, body) => (*status, (*body).to_owned()),
            Mode::Well(seconds) => {
                let mut issued = self.issued.lock().unwrap();
                let token = format!("{TOKEN}{}", issued.len() + 1);
                issued.push(Issued {
                    token: token.clone(),
                    good_until: Instant::now() + Duration::from_secs(*seconds),
                });
                let body = serde_json::json!({
                    "access_token": token, "expires_in": seconds.to_string(), "token_type": "Bearer",
                });
                (200, body.to_string())
            }
        }
    }
}

/// What every token begins with; a number follows.
pub const TOKEN: &str = "planted-token-";
