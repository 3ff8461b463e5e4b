//! Which encoding and which message format a model has, and the counting of plain text.
//!
//! Why two crates: `tiktoken` counts about three times as fast as `tiktoken-rs`, without a list of
//! tokens, and it carries the encodings of every model that is still served. `tiktoken-rs` has the
//! encodings and the table of the retired models, and the tests hold the fast crate to it.
//!
//! Special tokens such as `<|endoftext|>` in a caller's text are text: they cost what their characters
//! cost, so that nobody gets cheaper by writing them.
//!
//! Known difference: `'ſ` (an apostrophe before U+017F) may count one token more or less than OpenAI's.
//!
//! Never hands a tokenizer more than a bounded piece (see `segment`).

use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};

use super::segment::segments;

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `o200k_base`, and `o200k_harmony`, which differs in special tokens only.
    O200k,
    /// `cl100k_base`.
    Cl100k,
    /// `p50k_base`, of retired completion models.
    P50k,
    /// `r50k_base`, of retired completion models.
    R50k,
}

/// How a conversation is written around its texts, which decides the overhead of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// ChatML in `cl100k_base`: gpt-3.5, gpt-4.
    Cl,
    /// ChatML in `o200k_base`: gpt-4o, gpt-4.1, gpt-4.5.
    O,
    /// The harmony format: the o-series, gpt-5, gpt-oss.
    Harmony,
    /// No messages: completion models and embeddings. A chat for one of these counts as ChatML.
    Plain,
}

/// What a model's name says about counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The encoding of its texts.
    pub encoding: Encoding,
    /// The format of its conversations.
    pub family: Family,
    /// False: the name says nothing (an Azure deployment, another maker's model); this is the default.
    pub known: bool,
}

/// The encoding and format of `model`, by its name. Case and a leading `ft:` don't matter.
///
/// An unknown name counts as a model of gpt-4o's family and says so in `known`.
pub fn encoding_of(model: &str) -> Resolved {
    let name = base_name(model);
    let name = name.as_str();
    for (prefix, encoding, family) in PREFIXES {
        if name.starts_with(prefix) {
            return Resolved {
                encoding: *encoding,
                family: *family,
                known: true,
            };
        }
    }
    match get_tokenizer(name).and_then(retired) {
        Some(encoding) => Resolved {
            encoding,
            family: Family::Plain,
            known: true,
        },
        None => Resolved {
            encoding: Encoding::O200k,
            family: Family::O,
            known: false,
        },
    }
}

/// A model's name as the tables of this module write it: a tuned model counts as the one it came from.
pub(super) fn base_name(model: &str) -> String {
    let name = model.to_ascii_lowercase();
    match name.strip_prefix("ft:") {
        Some(base) => base.to_owned(),
        None => name,
    }
}

/// The models that are served, the longer prefix first where one begins with another.
const PREFIXES: &[(&str, Encoding, Family)] = &[
    ("gpt-3.5-turbo-instruct", Encoding::Cl100k, Family::Plain),
    ("gpt-35-turbo-instruct", Encoding::Cl100k, Family::Plain),
    ("gpt-3.5", Encoding::Cl100k, Family::Cl),
    ("gpt-35", Encoding::Cl100k, Family::Cl),
    ("gpt-4o", Encoding::O200k, Family::O),
    ("chatgpt-4o", Encoding::O200k, Family::O),
    ("gpt-4.1", Encoding::O200k, Family::O),
    ("gpt-4.5", Encoding::O200k, Family::O),
    ("gpt-4", Encoding::Cl100k, Family::Cl),
    ("gpt-5", Encoding::O200k, Family::Harmony),
    ("gpt-oss", Encoding::O200k, Family::Harmony),
    ("o1", Encoding::O200k, Family::Harmony),
    ("o3", Encoding::O200k, Family::Harmony),
    ("o4", Encoding::O200k, Family::Harmony),
    ("codex", Encoding::O200k, Family::Harmony),
    ("computer-use-preview", Encoding::O200k, Family::O),
    ("text-embedding-", Encoding::Cl100k, Family::Plain),
    ("davinci-002", Encoding::Cl100k, Family::Plain),
    ("babbage-002", Encoding::Cl100k, Family::Plain),
    // As davinci-002 and babbage-002 call themselves in their answers.
    ("davinci:", Encoding::Cl100k, Family::Plain),
    ("babbage:", Encoding::Cl100k, Family::Plain),
];

/// The encoding of a retired model. Everything that is served stands in `PREFIXES`.
fn retired(tokenizer: Tokenizer) -> Option<Encoding> {
    match tokenizer {
        Tokenizer::P50kBase | Tokenizer::P50kEdit => Some(Encoding::P50k),
        Tokenizer::R50kBase | Tokenizer::Gpt2 => Some(Encoding::R50k),
        Tokenizer::Cl100kBase => Some(Encoding::Cl100k),
        Tokenizer::O200kBase | Tokenizer::O200kHarmony => Some(Encoding::O200k),
    }
}

impl Encoding {
    /// Tokens of `text`, all of it taken as plain text.
    ///
    /// Linear: between 10 and 200 ns a byte in a release build. Never panics.
    pub fn count(self, text: &str) -> u64 {
        segments(text)
            .map(|piece| self.count_piece(piece) as u64)
            .sum()
    }

    fn count_piece(self, piece: &str) -> usize {
        match self {
            Encoding::O200k => fast("o200k_base").count(piece),
            Encoding::Cl100k => fast("cl100k_base").count(piece),
            Encoding::P50k => tiktoken_rs::p50k_base_singleton().count_ordinary(piece),
            Encoding::R50k => tiktoken_rs::r50k_base_singleton().count_ordinary(piece),
        }
    }

    /// Reads the table of this encoding, where that hasn't happened yet. 50 to 150 ms of one core.
    pub(super) fn load(self) {
        self.count_piece("a");
    }
}

fn fast(name: &str) -> &'static tiktoken::CoreBpe {
    tiktoken::get_encoding(name)
        .expect("both vocabularies are compiled in by this crate's features")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(model: &str) -> (Encoding, Family) {
        let resolved = encoding_of(model);
        assert!(resolved.known, "{model}");
        (resolved.encoding, resolved.family)
    }

    #[test]
    fn a_models_name_gives_its_encoding_and_family() {
        for model in [
            "gpt-4",
            "gpt-4-0613",
            "GPT-4-Turbo",
            "gpt-35-turbo",
            "gpt-3.5-turbo-16k",
            "ft:gpt-3.5-turbo-0125:me::x",
        ] {
            assert_eq!(of(model), (Encoding::Cl100k, Family::Cl), "{model}");
        }
        for model in [
            "gpt-4o",
            "gpt-4o-mini-2024-07-18",
            "chatgpt-4o-latest",
            "gpt-4.1-nano",
            "gpt-4.5-preview",
            "ft:gpt-4o:x",
        ] {
            assert_eq!(of(model), (Encoding::O200k, Family::O), "{model}");
        }
        for model in [
            "o1",
            "o3-mini",
            "o4-mini",
            "gpt-5",
            "gpt-5.6-sol",
            "codex-mini-latest",
            "gpt-oss-120b",
        ] {
            assert_eq!(of(model), (Encoding::O200k, Family::Harmony), "{model}");
        }
        for model in [
            "text-embedding-3-small",
            "gpt-3.5-turbo-instruct",
            "davinci-002",
        ] {
            assert_eq!(of(model), (Encoding::Cl100k, Family::Plain), "{model}");
        }
        assert_eq!(of("text-davinci-003"), (Encoding::P50k, Family::Plain));
        assert_eq!(of("davinci"), (Encoding::R50k, Family::Plain));
    }

    #[test]
    fn an_unknown_name_falls_back_and_says_so() {
        for model in ["", "my-deployment", "llama-3", "ölmodell"] {
            let resolved = encoding_of(model);
            assert_eq!(
                (resolved.encoding, resolved.family, resolved.known),
                (Encoding::O200k, Family::O, false)
            );
        }
    }

    #[test]
    fn a_special_token_in_text_costs_what_its_characters_cost() {
        assert_eq!(Encoding::O200k.count("<|endoftext|>"), 7);
        assert_eq!(Encoding::Cl100k.count("<|endoftext|>"), 7);
    }
}
