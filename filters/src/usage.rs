//! How many tokens a call used, as the backend reported it.
//!
//! Every operation has its own names for the same figures. All of them are read by one reader, since no name means two
//! things, and backends answer with each other's: a field that is missing, `null` or of an odd type counts as absent, and
//! an object without a single token figure is no usage at all (a transcription charged by duration, `{}`).
//!
//! Never here: an estimate. What isn't reported isn't made up; `tokens` counts.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

pub(crate) mod lenient;

/// Tokens of one call. `cached` is a part of `prompt`, `reasoning` a part of `completion`: never added to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of what was asked, all kinds together.
    pub prompt: u64,
    /// Tokens of what was answered, reasoning and rejected predictions too.
    pub completion: u64,
    /// As reported; where it isn't, prompt and completion together.
    pub total: u64,
    /// Prompt tokens that came from the backend's cache.
    pub cached: u64,
    /// Completion tokens that nobody sees.
    pub reasoning: u64,
}

impl Usage {
    /// Reads a usage object that begins `json`. What follows it is not looked at. Absent if it isn't one.
    pub fn read(json: &[u8]) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_slice(json);
        reported(&mut json).ok().flatten()
    }
}

/// For `deserialize_with`: the usage that a field reports, if any.
pub(crate) fn reported<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Usage>, D::Error> {
    let Figures(figures) = lenient::object(json)?;
    Ok(figures.usage())
}

#[derive(Default)]
struct Figures(Named);

/// Each figure, under whichever of its names it came.
#[derive(Default)]
struct Named {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
}

impl Named {
    fn usage(&self) -> Option<Usage> {
        self.prompt.or(self.completion).or(self.total)?;
        let prompt = self.prompt.unwrap_or(0);
        let completion = self.completion.unwrap_or(0);
        Some(Usage {
            prompt,
            completion,
            total: self.total.unwrap_or(prompt.saturating_add(completion)),
            cached: self.cached.unwrap_or(0),
            reasoning: self.reasoning.unwrap_or(0),
        })
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    #[serde(alias = "input_tokens")]
    PromptTokens,
    #[serde(alias = "output_tokens")]
    CompletionTokens,
    TotalTokens,
    #[serde(alias = "input_tokens_details", alias = "input_token_details")]
    PromptTokensDetails,
    #[serde(alias = "output_tokens_details", alias = "output_token_details")]
    CompletionTokensDetails,
    #[serde(other)]
    Unknown,
}

/// The parts of a figure.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    #[serde(deserialize_with = "lenient::count")]
    cached_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    reasoning_tokens: Option<u64>,
}

// By hand: a derived reader takes a figure under two of its names for a duplicate, and some backends send both.
impl<'de> Deserialize<'de> for Figures {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(FiguresVisitor)
    }
}

struct FiguresVisitor;

impl<'de> Visitor<'de> for FiguresVisitor {
    type Value = Figures;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a usage object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Figures, A::Error> {
        let mut named = Named::default();
        while let Some(name) = map.next_key()? {
            match name {
                Name::PromptTokens => keep_larger(&mut named.prompt, map.next_value::<Count>()?.0),
                Name::CompletionTokens => {
                    keep_larger(&mut named.completion, map.next_value::<Count>()?.0)
                }
                Name::TotalTokens => keep_larger(&mut named.total, map.next_value::<Count>()?.0),
                Name::PromptTokensDetails => {
                    keep_larger(
                        &mut named.cached,
                        map.next_value::<Parts>()?.0.cached_tokens,
                    );
                }
                Name::CompletionTokensDetails => {
                    keep_larger(
                        &mut named.reasoning,
                        map.next_value::<Parts>()?.0.reasoning_tokens,
                    );
                }
                Name::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Figures(named))
    }
}

/// Of a figure under two names, one is often 0.
fn keep_larger(figure: &mut Option<u64>, found: Option<u64>) {
    *figure = (*figure).max(found);
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Count(#[serde(deserialize_with = "lenient::count")] Option<u64>);

#[derive(Deserialize)]
#[serde(transparent)]
struct Parts(#[serde(deserialize_with = "lenient::object")] Details);

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(
        prompt: u64,
        completion: u64,
        total: u64,
        cached: u64,
        reasoning: u64,
    ) -> Option<Usage> {
        Some(Usage {
            prompt,
            completion,
            total,
            cached,
            reasoning,
        })
    }

    #[test]
    fn each_operation_s_shape_is_read() {
        for (json, expected) in [
            (
                r#"{"prompt_tokens":14,"completion_tokens":8,"total_tokens":22,"prompt_tokens_details":{"cached_tokens":3,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2,"rejected_prediction_tokens":1}}"#,
                usage(14, 8, 22, 3, 2),
            ),
            (
                r#"{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}"#,
                usage(5, 7, 12, 0, 0),
            ),
            (
                r#"{"prompt_tokens":5,"total_tokens":5}"#,
                usage(5, 0, 5, 0, 0),
            ),
            (
                r#"{"input_tokens":40,"input_tokens_details":{"cached_tokens":30},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":6},"total_tokens":49}"#,
                usage(40, 9, 49, 30, 6),
            ),
            (
                r#"{"input_tokens":50,"output_tokens":1000,"total_tokens":1050,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}"#,
                usage(50, 1000, 1050, 0, 0),
            ),
            (
                r#"{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}"#,
                usage(14, 45, 59, 0, 0),
            ),
            (
                r#"{"total_tokens":9,"input_tokens":5,"output_tokens":4,"input_token_details":{"cached_tokens":2,"cached_tokens_details":{"text_tokens":2}}}"#,
                usage(5, 4, 9, 2, 0),
            ),
        ] {
            assert_eq!(Usage::read(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn odd_figures_are_read_as_far_as_they_go() {
        for (json, expected) in [
            (
                r#"{"prompt_tokens":14.0,"completion_tokens":8.0,"total_tokens":null}"#,
                usage(14, 8, 22, 0, 0),
            ),
            (
                r#"{"prompt_tokens":14,"prompt_tokens_details":null,"completion_tokens":"x"}"#,
                usage(14, 0, 14, 0, 0),
            ),
            (
                r#"{"prompt_tokens":14,"input_tokens":0,"output_tokens":0,"completion_tokens":3}"#,
                usage(14, 3, 17, 0, 0),
            ),
            (
                r#"{"total_tokens":7,"prompt_tokens_details":[1],"cost":{"a":[{}]}}"#,
                usage(0, 0, 7, 0, 0),
            ),
            (
                r#"{"prompt_tokens":18446744073709551615,"completion_tokens":1}"#,
                usage(u64::MAX, 1, u64::MAX, 0, 0),
            ),
        ] {
            assert_eq!(Usage::read(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn an_object_without_a_figure_is_no_usage() {
        for json in [
            r#"{"type":"duration","seconds":9}"#,
            "{}",
            "null",
            "[1]",
            "\"x\"",
            r#"{"prompt_tokens":null}"#,
            "{\"prompt_tokens\":1",
            "",
        ] {
            assert_eq!(Usage::read(json.as_bytes()), None, "{json}");
        }
    }
}
