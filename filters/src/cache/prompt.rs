//! What a body asks, for the semantic cache: the words that may be put otherwise, and all that must be equal.
//!
//! The **question** is the last run of user messages: what was said since the model spoke. It is what another prompt
//! may say in other words. Everything else is in the **partition**, a digest: who is asked (policy, API, operation,
//! model), the vary-by values, every other field of the body, and every message outside the question, whole. Of the
//! question's own messages what isn't text is in it too (images, names, the number of parts).
//!
//! Which fields change an answer is told the safe way round: all do, but the few that are known not to
//! ([`IGNORED`]). A parameter that comes tomorrow makes partitions of its own. System messages (and `instructions`)
//! are always in the partition, whether or not they are embedded: an answer made under other rules is another answer.
//!
//! A body is read once, in time linear in its length, and not at all beyond [`MAX_BODY_BYTES`].
//!
//! Never here: whether two questions mean the same (`guard`), and a word of the prompt in an error.

use self::reading::Reading;
use crate::cache::exact::Digest;
use crate::route::Shape;

mod reading;

/// Larger bodies aren't cached: reading 4 MiB takes some 15 ms, and what is larger is rarely asked twice.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// Longer conversations aren't cached, whatever the policy says.
pub const MAX_MESSAGES: usize = 1000;

/// Longer texts aren't embedded; an exact repeat is found all the same. 32 KiB is what the usual embedding models
/// take at most (8,191 tokens of four bytes).
pub const MAX_TEXT_BYTES: usize = 32 << 10;

/// Top-level fields that don't change the answer: how it is delivered, who asks, how it is filed.
pub const IGNORED: [&str; 7] = [
    "stream",
    "stream_options",
    "user",
    "safety_identifier",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// What of a request decides its partition and isn't in its body.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// The API's id.
    pub api: &'a str,
    /// The operation's id.
    pub operation: &'a str,
    /// The model or deployment asked for, also where the path names it.
    pub model: &'a str,
    /// The values of `vary-by`, in order.
    pub vary_by: &'a [String],
}

/// Whether system messages are part of the text that is embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemMessages {
    /// They are embedded and counted.
    Embedded,
    /// `ignore-system-messages`.
    Ignored,
}

/// What the cache must know of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Only answers of the same partition may be given.
    pub partition: Digest,
    /// The same for an exact repeat and for nothing else.
    pub exact: Digest,
    /// The messages, without system messages where those are ignored: what `max-message-count` bounds.
    pub message_count: usize,
    /// The text of the last run of user messages. Absent if it has none or it is too long: then only an exact repeat
    /// can be answered.
    pub question: Option<String>,
    /// The text of the whole conversation, one message after the other. Absent if it has none or it is too long.
    pub conversation: Option<String>,
}

/// Why a request isn't looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Neither chat, completions nor responses.
    Operation,
    /// Larger than [`MAX_BODY_BYTES`].
    TooLarge,
    /// More than [`MAX_MESSAGES`].
    TooManyMessages,
    /// It can't be read, or a backend might read it in another way: a key twice, a number too large.
    Unreadable,
    /// There is nothing in it to answer.
    NoConversation,
    /// Its answer depends on what the backend holds, which may change.
    Stateful,
}

/// Reads a body.
///
/// # Errors
/// Why the request isn't for the cache.
pub fn read(
    shape: Shape,
    body: &[u8],
    scope: Scope<'_>,
    system: SystemMessages,
) -> Result<Prompt, Skip> {
    let dialogue = match shape {
        Shape::Chat => "messages",
        Shape::Responses => "input",
        Shape::Completions => "prompt",
        Shape::Embeddings | Shape::Other => return Err(Skip::Operation),
    };
    if body.len() > MAX_BODY_BYTES {
        return Err(Skip::TooLarge);
    }
    Reading::of(body, (shape, dialogue), system)?.prompt(scope)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SCOPE: Scope<'_> = Scope {
        policy: "answers",
        api: "openai",
        operation: "chat-completions",
        model: "gpt-4o",
        vary_by: &[],
    };

    fn prompt(shape: Shape, body: &str) -> Prompt {
        read(shape, body.as_bytes(), SCOPE, SystemMessages::Embedded).unwrap()
    }

    fn chat(body: &str) -> Prompt {
        prompt(Shape::Chat, body)
    }

    fn skip(shape: Shape, body: &str) -> Skip {
        read(shape, body.as_bytes(), SCOPE, SystemMessages::Embedded).unwrap_err()
    }

    /// A chat with one question and these further members.
    fn asking(question: &str, members: &str) -> Prompt {
        chat(&format!(
            r#"{{"messages":[{{"role":"user","content":"{question}"}}]{members}}}"#
        ))
    }

    #[test]
    fn another_wording_shares_the_partition_and_the_same_words_are_exact() {
        let (a, b) = (
            asking("How do I brew coffee?", ""),
            asking("Explain how coffee is brewed", ""),
        );
        assert_eq!(a.partition, b.partition);
        assert_ne!(a.exact, b.exact);
        let again = chat(
            r#" { "stream":true, "user":"u", "metadata":{"a":"b"}, "stream_options":{"include_usage":true},
            "messages" : [ {"content":"How do I brew coff\u0065e?","role":"user"} ] } "#,
        );
        assert_eq!((again.partition, again.exact), (a.partition, a.exact));
        assert_eq!(a.question.as_deref(), Some("How do I brew coffee?"));
        assert_eq!(a.message_count, 1);
        assert_ne!(asking("how do I brew coffee?", "").exact, a.exact);
    }

    #[test]
    fn every_other_field_makes_a_partition_of_its_own() {
        let plain = asking("q", "");
        let members = [
            r#","temperature":0"#,
            r#","temperature":1"#,
            r#","max_tokens":10"#,
            r#","n":2"#,
            r#","seed":1"#,
            r#","stop":"x""#,
            r#","store":true"#,
            r#","model":"gpt-4o""#,
            r#","logprobs":true"#,
            r#","response_format":{"type":"json_object"}"#,
            r#","tool_choice":"auto""#,
            r#","tools":[{"type":"function","function":{"name":"a"}}]"#,
            r#","tools":[{"type":"function","function":{"name":"b"}}]"#,
            r#","comes_tomorrow":null"#,
        ];
        let mut seen = vec![plain.partition];
        for member in members {
            let partition = asking("q", member).partition;
            assert!(!seen.contains(&partition), "{member}");
            seen.push(partition);
        }
        let ordered = asking(
            "q",
            r#","tools":[{"function":{"name":"a"},"type":"function"}]"#,
        );
        assert!(seen.contains(&ordered.partition));
    }

    #[test]
    fn who_is_asked_is_in_the_partition_and_names_never_run_together() {
        let body = br#"{"messages":[{"role":"user","content":"q"}]}"#;
        let of = |scope| {
            read(Shape::Chat, body, scope, SystemMessages::Embedded)
                .unwrap()
                .partition
        };
        let team = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let (a, b, c, d) = (
            team(&["ab", "c"]),
            team(&["a", "bc"]),
            team(&["abc"]),
            team(&[]),
        );
        let scopes = [
            SCOPE,
            Scope {
                policy: "other",
                ..SCOPE
            },
            Scope {
                api: "openaichat",
                operation: "-completions",
                ..SCOPE
            },
            Scope {
                model: "gpt-4",
                ..SCOPE
            },
            Scope {
                vary_by: &a,
                ..SCOPE
            },
            Scope {
                vary_by: &b,
                ..SCOPE
            },
            Scope {
                vary_by: &c,
                ..SCOPE
            },
        ];
        for (i, one) in scopes.iter().enumerate() {
            for other in &scopes[i + 1..] {
                assert_ne!(of(*one), of(*other), "{one:?} {other:?}");
            }
        }
        assert_eq!(
            of(SCOPE),
            of(Scope {
                vary_by: &d,
                ..SCOPE
            })
        );
    }

    #[test]
    fn all_but_the_last_run_of_user_messages_must_be_equal() {
        let talk = |system: &str, first: &str, said: &str, context: &str, last: &str| {
            chat(&format!(
                r#"{{"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{first}"}},
                {{"role":"assistant","content":"{said}"}},{{"role":"user","content":"{context}"}},{{"role":"user","content":"{last}"}}]}}"#
            ))
        };
        let base = talk("s", "f", "a", "c", "l");
        assert_eq!(base.question.as_deref(), Some("c\nl"));
        assert_eq!(base.conversation.as_deref(), Some("s\nf\na\nc\nl"));
        assert_eq!(base.message_count, 5);
        assert_eq!(base.partition, talk("s", "f", "a", "x", "y").partition);
        for other in [
            talk("x", "f", "a", "c", "l"),
            talk("s", "x", "a", "c", "l"),
            talk("s", "f", "x", "c", "l"),
        ] {
            assert_ne!(base.partition, other.partition);
        }
    }

    #[test]
    fn system_messages_can_be_left_out_of_the_text_but_not_of_the_partition() {
        let of = |system: &str, how| {
            let body = format!(
                r#"{{"messages":[{{"role":"developer","content":"{system}"}},{{"role":"user","content":"q"}}]}}"#
            );
            read(Shape::Chat, body.as_bytes(), SCOPE, how).unwrap()
        };
        let (with, without) = (
            of("s", SystemMessages::Embedded),
            of("s", SystemMessages::Ignored),
        );
        assert_eq!(
            (with.conversation.as_deref(), with.message_count),
            (Some("s\nq"), 2)
        );
        assert_eq!(
            (without.conversation.as_deref(), without.message_count),
            (Some("q"), 1)
        );
        assert_ne!(
            without.partition,
            of("t", SystemMessages::Ignored).partition
        );
    }

    #[test]
    fn of_parts_the_texts_are_compared_and_the_rest_must_be_equal() {
        let parts = |text: &str, url: &str| {
            chat(&format!(
                r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}},{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
            ))
        };
        let base = parts("what is this", "data:a");
        assert_eq!(base.question.as_deref(), Some("what is this"));
        assert_eq!(base.partition, parts("what do you see", "data:a").partition);
        assert_ne!(base.exact, parts("what do you see", "data:a").exact);
        assert_ne!(base.partition, parts("what is this", "data:b").partition);
        let content = |content: &str| {
            chat(&format!(
                r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#
            ))
        };
        assert_ne!(
            content(r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#).exact,
            content(r#"[{"type":"text","text":"a\nb"}]"#).exact
        );
        assert_ne!(
            content(r#"[{"type":"text","text":"a"}]"#).partition,
            content(r#"[{"type":"text","text":"a","cache_control":{}}]"#).partition
        );
        let file = content(r#"[{"type":"file","text":"a"}]"#);
        assert_eq!(
            file.question, None,
            "only a part of a known type says something"
        );
    }

    #[test]
    fn responses_and_completions_are_read_in_their_own_shapes() {
        let text = prompt(Shape::Responses, r#"{"input":"q","instructions":"i"}"#);
        assert_eq!(
            (text.question.as_deref(), text.conversation.as_deref()),
            (Some("q"), Some("i\nq"))
        );
        let other = prompt(Shape::Responses, r#"{"input":"q","instructions":"j"}"#);
        assert_ne!(text.partition, other.partition);
        let items = prompt(
            Shape::Responses,
            r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"q"}]},{"type":"function_call_output","call_id":"c","output":"7"}]}"#,
        );
        assert_eq!(
            (items.question.as_deref(), items.message_count),
            (Some("q"), 2)
        );
        let words = prompt(Shape::Completions, r#"{"prompt":"q"}"#);
        assert_eq!(words.question.as_deref(), Some("q"));
        let tokens = |body| prompt(Shape::Completions, body);
        assert_eq!(tokens(r#"{"prompt":[1,2]}"#).question, None);
        assert_eq!(
            tokens(r#"{"prompt":[1,2]}"#).exact,
            tokens(r#"{"prompt":[1, 2]}"#).exact
        );
        assert_ne!(
            tokens(r#"{"prompt":[1,2]}"#).exact,
            tokens(r#"{"prompt":[2,1]}"#).exact
        );
    }

    #[test]
    fn what_cannot_be_cached_says_why() {
        for (shape, body, why) in [
            (Shape::Embeddings, r#"{"input":"q"}"#, Skip::Operation),
            (Shape::Other, "{}", Skip::Operation),
            (Shape::Chat, r#"{"messages":[]}"#, Skip::NoConversation),
            (Shape::Chat, r#"{"messages":null}"#, Skip::NoConversation),
            (Shape::Chat, r#"{"input":"q"}"#, Skip::NoConversation),
            (Shape::Chat, r#"{"messages":"q"}"#, Skip::Unreadable),
            (
                Shape::Chat,
                r#"{"messages":[{"role":"user","content":"q"}]"#,
                Skip::Unreadable,
            ),
            (
                Shape::Chat,
                r#"{"messages":[{"role":"user","content":"q"}]} x"#,
                Skip::Unreadable,
            ),
            (
                Shape::Chat,
                r#"{"messages":[{"role":"user","role":"user","content":"q"}]}"#,
                Skip::Unreadable,
            ),
            (
                Shape::Chat,
                r#"{"messages":[{"role":"user","content":"q"}],"n":1,"n":2}"#,
                Skip::Unreadable,
            ),
            (
                Shape::Chat,
                r#"{"messages":[{"role":"user","content":"q"}],"messages":[{"role":"user","content":"r"}]}"#,
                Skip::Unreadable,
            ),
            (
                Shape::Chat,
                r#"{"messages":[{"role":"user","content":"q"}],"seed":123456789012345678901}"#,
                Skip::Unreadable,
            ),
            (
                Shape::Responses,
                r#"{"input":"q","conversation":"c"}"#,
                Skip::Stateful,
            ),
        ] {
            assert_eq!(skip(shape, body), why, "{body}");
        }
        let many = format!(r#"{{"messages":[{}{{}}]}}"#, "{},".repeat(MAX_MESSAGES));
        assert_eq!(skip(Shape::Chat, &many), Skip::TooManyMessages);
        let large = format!(
            r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#,
            "x".repeat(MAX_BODY_BYTES)
        );
        assert_eq!(skip(Shape::Chat, &large), Skip::TooLarge);
    }

    #[test]
    fn a_long_question_is_only_repeated_exactly() {
        let long = "x".repeat(MAX_TEXT_BYTES);
        let prompt = asking(&long, "");
        assert_eq!((&prompt.question, &prompt.conversation), (&None, &None));
        assert_eq!(prompt.exact, asking(&long, "").exact);
        assert_eq!(asking(" ", "").question, None);
        assert!(asking(&long[1..], "").question.is_some());
    }
}
