//! The gateway's own tokens: what a token service answered, until when a token may be sent, and when it is asked again.
//!
//! A token is fetched again at half its life, so that a service that is out for less than the other half isn't noticed.
//! It isn't sent in its last seconds, for it would arrive expired. A failure is followed by a pause that doubles: a
//! token service is shared by many, and the one of a virtual machine answers but a few calls a second. Never asks for
//! the time, and never repeats what a service said but its error's code: the rest may be anything.

use std::time::Duration;

use serde_json::Value;

use crate::time::UnixTime;

/// A token, and how long it is good for. It is a secret, so it can't be printed.
pub struct Granted {
    /// As it is sent after `Bearer`: visible ASCII.
    pub token: String,
    /// Until when.
    pub life: Life,
}

/// When a token was asked for, and when it expires, by this host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    asked_at: UnixTime,
    expires_at: UnixTime,
}

/// Why there is no new token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The service couldn't be reached, or didn't answer in time.
    Unreachable,
    /// It is out of order, or asked too often.
    Unavailable {
        /// Its status.
        status: u16,
        /// How long it asks to be left alone.
        wait: Option<Duration>,
    },
    /// It says no: asking again won't help before somebody changes something.
    Refused {
        /// Its status.
        status: u16,
        /// Its own word for why, such as `invalid_client (AADSTS7000215)`; empty where it said none.
        code: String,
    },
    /// It answered with something that is no token.
    Unreadable,
    /// What is shown to it (a file) couldn't be read here.
    NoProof,
}

impl Life {
    /// A token that was asked for at `asked_at` and is good for `seconds` from then on.
    pub fn new(asked_at: UnixTime, seconds: u64) -> Self {
        let expires_at = UnixTime::from_seconds(asked_at.as_seconds().saturating_add(seconds));
        Self {
            asked_at,
            expires_at,
        }
    }

    /// When it expires.
    pub fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    /// Whether it may be sent: not in its last tenth, or its last ten seconds where that is less.
    pub fn is_usable(&self, now: UnixTime) -> bool {
        let life = self.expires_at.seconds_since(self.asked_at);
        let margin = (life / 10).min(MARGIN_S);
        now.as_seconds().saturating_add(margin) < self.expires_at.as_seconds()
    }

    /// How long from `now` until it is fetched again: half of what is left, at least a second.
    pub fn refresh_in(&self, now: UnixTime) -> Duration {
        let left_ms = self.expires_at.seconds_since(now).saturating_mul(1000);
        Duration::from_millis(left_ms / 2).clamp(REFRESH_LEAST, REFRESH_MOST)
    }
}

impl Failure {
    /// How long to leave the service alone after this many failures in a row (from 1): 1 s, doubled each time up to a
    /// minute, or as long as it asks, up to five minutes. After a refusal a minute at once.
    pub fn pause(&self, failures: u32) -> Duration {
        let doubled = PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(6));
        let doubled = doubled.min(PAUSE_MOST);
        match self {
            Self::Unavailable {
                wait: Some(wait), ..
            } => (*wait).max(doubled).min(WAIT_MOST),
            Self::Refused { .. } => PAUSE_MOST,
            Self::Unavailable { wait: None, .. }
            | Self::Unreachable
            | Self::Unreadable
            | Self::NoProof => doubled,
        }
    }

    /// The word in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unavailable { .. } => "unavailable",
            Self::Refused { .. } => "refused",
            Self::Unreadable => "unreadable",
            Self::NoProof => "no_proof",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable => formatter.write_str("no answer"),
            Self::Unavailable { status, .. } => write!(formatter, "status {status}"),
            Self::Refused { status, code } if code.is_empty() => {
                write!(formatter, "refused with status {status}")
            }
            Self::Refused { status, code } => {
                write!(formatter, "refused with status {status}: {code}")
            }
            Self::Unreadable => formatter.write_str("an answer without a token that can be used"),
            Self::NoProof => {
                formatter.write_str("the file of the federated token couldn't be read")
            }
        }
    }
}

/// What a service answered to a call that was sent at `asked_at`.
///
/// # Errors
/// Why there is no token in it. As Microsoft documents it, 404, 410, 429 and 5xx pass by themselves.
pub fn read(
    (status, wait): (u16, Option<Duration>),
    body: &[u8],
    asked_at: UnixTime,
) -> Result<Granted, Failure> {
    match status {
        200 => granted(body, asked_at).ok_or(Failure::Unreadable),
        404 | 408 | 410 | 429 | 500..=599 => Err(Failure::Unavailable { status, wait }),
        _ => Err(Failure::Refused {
            status,
            code: code(body),
        }),
    }
}

fn granted(body: &[u8], asked_at: UnixTime) -> Option<Granted> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let token = answer.get("access_token")?.as_str()?;
    let is_sendable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let seconds = match number(answer.get("expires_in")) {
        Some(seconds) => seconds,
        None => {
            let at = UnixTime::from_seconds(number(answer.get("expires_on"))?);
            at.seconds_since(asked_at)
        }
    };
    (is_sendable && seconds > 0).then(|| Granted {
        token: token.to_owned(),
        life: Life::new(asked_at, seconds.min(LIFE_MOST_S)),
    })
}

/// Seconds come as a number from some services and as text from others.
fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `error`, and the first of Entra's `error_codes`. A word of few letters: what isn't is left out.
fn code(body: &[u8]) -> String {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return String::new();
    };
    let is_word = |word: &&str| {
        word.len() <= CODE_MOST
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
    };
    let error = answer.get("error").and_then(Value::as_str);
    let error = error.filter(is_word).unwrap_or_default();
    let number = answer
        .get("error_codes")
        .and_then(|codes| codes.get(0)?.as_u64());
    match number {
        Some(number) => format!("{error} (AADSTS{number})"),
        None => error.to_owned(),
    }
}

/// A request may be on its way for this long before its token is looked at.
const MARGIN_S: u64 = 10;
/// A service that hands out its own copy until it expires is asked no more often at the end.
const REFRESH_LEAST: Duration = Duration::from_secs(1);
/// Tokens of a day and more are fetched again twice a day.
const REFRESH_MOST: Duration = Duration::from_secs(12 * 3600);
/// The first pause after a failure.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest without being asked for.
const PAUSE_MOST: Duration = Duration::from_secs(60);
/// What a service asks for is believed up to here.
const WAIT_MOST: Duration = Duration::from_secs(300);
/// Longer lives than ten years are a mistake of units.
const LIFE_MOST_S: u64 = 10 * 365 * 24 * 3600;
/// Letters of an error's code.
const CODE_MOST: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: UnixTime = UnixTime::from_seconds(1_700_000_000);

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(NOW.as_seconds() + seconds)
    }

    fn answer(status: u16, body: &str) -> Result<Granted, Failure> {
        read((status, None), body.as_bytes(), NOW)
    }

    #[test]
    fn each_services_form_of_an_answer_is_read() {
        let forms = [
            // IMDS: text. Entra: a number. App Service: the moment alone.
            r#"{"access_token":"t","expires_in":"3599","expires_on":"9","token_type":"Bearer"}"#,
            r#"{"access_token":"t","expires_in":3599,"token_type":"Bearer"}"#,
            r#"{"access_token":"t","expires_on":"1700003599"}"#,
        ];
        for form in forms {
            let granted = answer(200, form).map_err(|failure| failure.to_string());
            let granted = granted.unwrap();
            assert_eq!(granted.token, "t");
            assert_eq!(granted.life.expires_at(), at(3599), "{form}");
        }
    }

    #[test]
    fn what_is_no_usable_token_is_none() {
        for body in [
            "",
            "{}",
            r#"{"access_token":"t"}"#,
            r#"{"access_token":"t","expires_in":0}"#,
            r#"{"access_token":"t","expires_on":"1699999999"}"#,
            r#"{"access_token":"two words","expires_in":1}"#,
            r#"{"access_token":"","expires_in":1}"#,
            r#"{"access_token":"t\n","expires_in":1}"#,
        ] {
            assert_eq!(answer(200, body).err(), Some(Failure::Unreadable), "{body}");
        }
    }

    #[test]
    fn a_refusal_tells_its_code_and_nothing_else_of_what_was_said() {
        let entra =
            r#"{"error":"invalid_client","error_description":"planted","error_codes":[7000215]}"#;
        let refused = answer(401, entra).err().unwrap();
        assert_eq!(
            refused.to_string(),
            "refused with status 401: invalid_client (AADSTS7000215)"
        );
        let other = answer(400, r#"{"error":"planted secret 1"}"#)
            .err()
            .unwrap();
        assert_eq!(other.to_string(), "refused with status 400");
        assert!(matches!(
            answer(503, entra),
            Err(Failure::Unavailable { status: 503, .. })
        ));
    }

    #[test]
    fn a_token_is_refreshed_at_half_its_life_and_not_sent_at_its_end() {
        let life = Life::new(NOW, 3600);
        assert_eq!(life.refresh_in(NOW), Duration::from_secs(1800));
        assert!(life.is_usable(NOW));
        assert!(life.is_usable(at(3589)));
        assert!(!life.is_usable(at(3590)));
        let short = Life::new(NOW, 3);
        assert!(short.is_usable(at(2)));
        assert!(!short.is_usable(at(3)));
        assert_eq!(short.refresh_in(at(3)), Duration::from_secs(1));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_follow_what_the_service_asks() {
        let pause = |failures| Failure::Unreachable.pause(failures).as_secs();
        let pauses: Vec<u64> = (1..=9).map(pause).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let asks = |seconds| Failure::Unavailable {
            status: 429,
            wait: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(asks(7).pause(1).as_secs(), 7);
        assert_eq!(asks(7).pause(9).as_secs(), 60);
        assert_eq!(asks(7000).pause(1).as_secs(), 300);
    }
}
