//! One line of the usage log: what is known of a request that is over, and nothing that was said in it.
//!
//! Reading order: this file (what a record holds), `write` (to a line), `text` (to one for people), `read` (from a line), `field` (one value of it,
//! by name). The names are public interface: a reader ignores those that it doesn't know, so that a later version
//! can add some.
//!
//! Never in it: a key, a credential, a prompt, an answer.

mod field;
mod read;
mod text;
mod write;

use std::borrow::Cow;

use crate::time::UnixMillis;
use crate::usage::Usage;

pub use field::{Field, UnknownField};
pub use read::BadLine;

/// A request that reached a subscription, after its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it ended.
    pub time: UnixMillis,
    /// As in logs and answers.
    pub request_id: Cow<'a, str>,
    /// Who asked.
    pub who: Who<'a>,
    /// For what.
    pub asked: Asked<'a>,
    /// Who answered, and how.
    pub served: Served<'a>,
    /// Tokens; zeros where `served.source` says that there are no figures.
    pub usage: Usage,
    /// From arrival to the end.
    pub duration_ms: u64,
    /// From arrival to the first token, of a stream.
    pub ttft_ms: Option<u64>,
    /// `gateway.id`
    pub gateway: Cow<'a, str>,
}

/// Who asked. Texts are empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who<'a> {
    /// Its name.
    pub subscription: Cow<'a, str>,
    /// Its name.
    pub product: Cow<'a, str>,
    /// The user that the caller named.
    pub user: Cow<'a, str>,
    /// The subscription's, by name.
    pub attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// What was asked for. Texts are empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Its name.
    pub api: Cow<'a, str>,
    /// Kebab-case id.
    pub operation: Cow<'a, str>,
    /// Deployment or model, as the caller named it.
    pub model: Cow<'a, str>,
    /// Whether a stream was asked for.
    pub stream: bool,
}

/// Who answered, and how. Texts are empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served<'a> {
    /// The last one tried.
    pub backend: Cow<'a, str>,
    /// The model's name there.
    pub deployment: Cow<'a, str>,
    /// What the caller got; 499 if it left before.
    pub status: u16,
    /// Where the tokens are from: `upstream`, `counted`, `estimated`, `none`.
    pub source: Cow<'a, str>,
    /// `complete`, `client_gone`, `upstream_cut`, `stopped`, `refused`, `cached`.
    pub end: Cow<'a, str>,
    /// Tries at backends.
    pub attempts: u64,
    /// What the semantic cache had: `none` where no policy applied.
    pub cache: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    pub(super) fn example() -> Record<'static> {
        Record {
            time: UnixMillis::from_millis(1_795_353_909_123),
            request_id: "0123456789abcdef0123456789abcdef".into(),
            who: Who {
                subscription: "team-a".into(),
                product: "gold".into(),
                user: "ann".into(),
                attributes: vec![("cost-center".into(), "4711".into())],
            },
            asked: Asked {
                api: "openai".into(),
                operation: "chat-completions".into(),
                model: "gpt-4o".into(),
                stream: true,
            },
            served: Served {
                backend: "east".into(),
                deployment: "gpt-4o-ptu".into(),
                status: 200,
                source: "upstream".into(),
                end: "complete".into(),
                attempts: 2,
                cache: "none".into(),
            },
            usage: Usage {
                prompt: 100,
                completion: 8,
                total: 108,
                cached: 64,
                reasoning: 3,
            },
            duration_ms: 1_234,
            ttft_ms: Some(200),
            gateway: "gate-1".into(),
        }
    }

    #[test]
    fn a_record_is_one_line_with_the_names_of_the_contract() {
        let expected = concat!(
            r#"{"time":"2026-11-22T13:25:09.123Z","request_id":"0123456789abcdef0123456789abcdef","#,
            r#""subscription":"team-a","product":"gold","api":"openai","operation":"chat-completions","#,
            r#""model":"gpt-4o","deployment":"gpt-4o-ptu","backend":"east","status":200,"stream":true,"#,
            r#""prompt_tokens":100,"completion_tokens":8,"cached_tokens":64,"reasoning_tokens":3,"total_tokens":108,"#,
            r#""source":"upstream","end":"complete","attempts":2,"cache":"none","duration_ms":1234,"ttft_ms":200,"#,
            r#""attributes":{"cost-center":"4711"},"user":"ann","gateway":"gate-1"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(example().line()).unwrap(), expected);
    }

    fn text() -> impl Strategy<Value = Cow<'static, str>> {
        any::<String>().prop_map(|text| Cow::Owned(text.chars().take(100).collect()))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            texts in prop::collection::vec(text(), 14), figures in prop::array::uniform8(any::<u64>()),
            status: u16, stream: bool, time in 0..253_402_300_800_000_u64,
            ttft_ms in prop::option::of(any::<u64>()),
        ) {
            let mut texts = texts.into_iter();
            let mut next = || texts.next().unwrap();
            let [prompt, completion, total, cached, reasoning, attempts, duration_ms, _] = figures;
            let record = Record {
                time: UnixMillis::from_millis(time),
                request_id: next(),
                who: Who { subscription: next(), product: next(), user: next(), attributes: vec![(next(), next())] },
                asked: Asked { api: next(), operation: next(), model: next(), stream },
                served: Served { backend: next(), deployment: next(), status, source: next(), end: next(), attempts, cache: "hit".into() },
                usage: Usage { prompt, completion, total, cached, reasoning },
                duration_ms,
                ttft_ms,
                gateway: next(),
            };
            let line = record.line();
            let ends = line.iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!((ends, line.last()), (1, Some(&b'\n')));
            prop_assert_eq!(Record::read(&line), Ok(record));
        }
    }
}
