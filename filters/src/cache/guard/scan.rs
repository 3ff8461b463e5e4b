//! Cuts a prompt into tokens: words, numbers, quotations, identifiers.
//!
//! What is quoted or looks like code is one token, compared to the letter. A number keeps all but the commas that group it
//! (`1,000` is `1000`; `3.10` isn't `3.1`, nor `3rd` `3`), a number with a unit is two tokens. Apostrophes are undone:
//! `don't` is `do not`.
//!
//! Never here: what a word means (`reading`), and what a number or code looks like (`marks`).

use crate::cache::guard::marks::{is_code, is_number, plain};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lower case. `is_capital`: it was written with a capital.
    Word {
        is_capital: bool,
    },
    Number,
    /// An identifier, a path, an address, a symbol, an emoji.
    Code,
    /// What stood between quotation marks or backticks.
    Quote,
    /// A comma, a bracket, a colon.
    Pause,
    /// The end of a sentence.
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) kind: Kind,
    /// It had an "'s" that says whose something is.
    pub(super) owns: bool,
}

/// Cuts `text` in one pass.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut scan = Scan {
        out: Vec::new(),
        is_shouted: !text.contains(char::is_lowercase),
    };
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((inside, after)) = quotation(first, rest) {
            scan.push(inside.trim(), Kind::Quote);
            rest = after;
        } else if first.is_whitespace() {
            let after = rest.trim_start();
            if rest[..rest.len() - after.len()].contains('\n') {
                scan.push("", Kind::Stop);
            }
            rest = after;
        } else {
            let end = rest
                .find(|c: char| c.is_whitespace() || opens_quotation(c))
                .unwrap_or(rest.len());
            let end = if end == 0 { first.len_utf8() } else { end };
            let (chunk, after) = rest.split_at(end);
            let is_alone = after.starts_with(char::is_whitespace) && !after.trim_start().is_empty();
            if is_alone
                && chunk
                    .chars()
                    .all(|c| matches!(c, '!' | '?' | '.' | ':' | ',' | ';'))
            {
                // "What does ! do": a sign that is spoken of, not one that ends something.
                scan.push(chunk, Kind::Code);
            } else {
                scan.chunk(chunk);
            }
            rest = after;
        }
    }
    scan.out
}

fn opens_quotation(c: char) -> bool {
    matches!(c, '"' | '“' | '«' | '`')
}

/// What is quoted at the start of `text`, and what follows. A mark without its pair within the text quotes nothing.
fn quotation(first: char, text: &str) -> Option<(&str, &str)> {
    let close = match first {
        '"' => "\"",
        '“' => "”",
        '«' => "»",
        '`' if text.starts_with("```") => "```",
        '`' => "`",
        '\'' | '‘' => return single(&text[first.len_utf8()..]),
        _ => return None,
    };
    let open = if close == "```" { 3 } else { first.len_utf8() };
    let inside = &text[open..];
    // A bound on the search keeps a text of many single marks linear.
    let end = inside.len().min(MAX_QUOTATION_BYTES);
    let at = memchr::memmem::find(&inside.as_bytes()[..end], close.as_bytes())?;
    Some((&inside[..at], &inside[at + close.len()..]))
}

/// Up to a mark that ends a word and the quotation: not an apostrophe.
fn single(inside: &str) -> Option<(&str, &str)> {
    let mut before = ' ';
    for (at, c) in inside.char_indices() {
        if at > MAX_SINGLE_BYTES || c == '\n' {
            return None;
        }
        if matches!(c, '\'' | '’') && !before.is_whitespace() {
            let after = &inside[at + c.len_utf8()..];
            if !after.starts_with(char::is_alphanumeric) {
                return Some((&inside[..at], after));
            }
        }
        before = c;
    }
    None
}

const MAX_QUOTATION_BYTES: usize = 2048;
/// Between single marks, which are looked at one letter after the other.
const MAX_SINGLE_BYTES: usize = 256;

struct Scan {
    out: Vec<Token>,
    /// All in capitals, which say nothing then.
    is_shouted: bool,
}

impl Scan {
    fn push(&mut self, text: impl Into<String>, kind: Kind) {
        let text = text.into();
        let owns = false;
        self.out.push(Token { text, kind, owns });
    }

    /// What stands between two spaces.
    fn chunk(&mut self, chunk: &str) {
        let body = chunk.trim_start_matches(OPENING);
        let opened = &chunk[..chunk.len() - body.len()];
        if opened.contains('(') && body.starts_with(|c: char| c.is_ascii_digit()) {
            // What is calculated first.
            self.push(opened, Kind::Code);
        } else if !opened.is_empty() {
            self.push("", Kind::Pause);
        }
        let core = body.trim_end_matches(CLOSING);
        self.core(core);
        let after = &body[core.len()..];
        let is_bare = body.len() == chunk.len();
        if after.starts_with(')') && self.ends_in_number() {
            self.push(after.trim_end_matches(|c| c != ')'), Kind::Code);
        }
        let mark = after.chars().next();
        let mark = mark.filter(|mark| matches!(mark, '\'' | '’' | '"' | '”'));
        if let Some(mark) = mark.filter(|_| is_bare && self.ends_in_number()) {
            // Feet, inches, minutes.
            self.push(mark, Kind::Code);
        }
        if after.contains(['.', '!', '?', '…']) {
            self.push(after, Kind::Stop);
        } else if !after.is_empty() {
            self.push("", Kind::Pause);
        }
    }

    fn core(&mut self, core: &str) {
        let Some(first) = core.chars().next() else {
            return;
        };
        let is_alphanumeric = core.chars().any(char::is_alphanumeric);
        if !is_alphanumeric {
            // A dash between words is a pause; after a number or a letter it takes away.
            let is_pause = matches!(core, "-" | "–" | "—") && !self.ends_in_term();
            if !is_pause && !matches!(core, "'" | "’" | "•") {
                self.push(core, Kind::Code);
            }
        } else if is_number(core) {
            self.number(core);
        } else if is_code(core) {
            // "YouTube" is written in many ways, "MAX_SIZE" in one.
            let is_word = core.chars().all(char::is_alphanumeric);
            match is_word {
                true => self.push(core.to_lowercase(), Kind::Code),
                false => self.push(core, Kind::Code),
            }
        } else if first == '\''
            || first == '’'
            || core.contains([
                '-', '/', '–', '—', '…', ',', ';', ':', '(', ')', '?', '!', '.',
            ])
        {
            self.pieces(core);
        } else {
            self.word(core);
        }
    }

    fn ends_in_number(&self) -> bool {
        self.out
            .last()
            .is_some_and(|last| last.kind == Kind::Number)
    }

    /// After what could be calculated with.
    fn ends_in_term(&self) -> bool {
        self.out.last().is_some_and(|last| match last.kind {
            Kind::Number | Kind::Code => true,
            Kind::Word { .. } => last.text.chars().count() == 1,
            Kind::Quote | Kind::Pause | Kind::Stop => false,
        })
    }

    /// Words that are joined by marks.
    fn pieces(&mut self, core: &str) {
        let has_digit = core.contains(|c: char| c.is_ascii_digit());
        let joins = |c: char| {
            c.is_ascii() && !c.is_ascii_alphanumeric() && c != '\'' || matches!(c, '–' | '—' | '…')
        };
        for piece in core.split(joins) {
            let piece = piece.trim_matches(['\'', '’']);
            if piece.is_empty() {
                continue;
            }
            if is_number(piece) {
                self.number(piece);
            } else if piece.contains(|c: char| c.is_ascii_digit()) || piece.len() == 1 && has_digit
            {
                self.push(piece.to_lowercase(), Kind::Code);
            } else {
                self.word(piece);
            }
        }
    }

    fn word(&mut self, word: &str) {
        let is_capital = word.chars().next().is_some_and(char::is_uppercase);
        let kind = Kind::Word { is_capital };
        let is_unit = self.ends_in_number() && word.len() < 4 && is_capital;
        let is_name = !self.is_shouted && IS_NAME_IN_CAPITALS.contains(&word);
        let lower = word.to_lowercase().replace('’', "'");
        if is_name || is_unit && !matches!(lower.as_str(), "am" | "pm") {
            // "US" isn't "us", nor "5 Mb" "5 MB".
            return self.push(word, kind);
        }
        if matches!(lower.as_str(), "cannot" | "cant") {
            self.push("can", kind);
            return self.push("not", Kind::Word { is_capital: false });
        }
        let Some((head, tail)) = lower.split_once('\'') else {
            return self.push(lower, kind);
        };
        match (head, tail) {
            ("", "nt") | ("n", "t") => self.push("not", Kind::Word { is_capital: false }),
            (_, "t") if head.ends_with('n') => {
                let verb = match head {
                    "can" | "won" => head,
                    _ => &head[..head.len() - 1],
                };
                self.push(if verb == "won" { "will" } else { verb }, kind);
                self.push("not", Kind::Word { is_capital: false });
            }
            (_, "s") => {
                let owns = !IS_SHORT.contains(&head);
                let text = head.to_owned();
                self.out.push(Token { text, kind, owns });
            }
            (_, "m" | "re" | "ve" | "ll" | "d" | "") => self.push(head, kind),
            _ => self.push(lower.replace('\'', ""), kind),
        }
    }

    /// Digits with signs, marks and a unit.
    fn number(&mut self, core: &str) {
        let is_negative = core.starts_with(['-', '−']);
        let body = core.trim_start_matches(['-', '−', '+', '~', '≈', '<', '>', '=', '#']);
        let symbols = core.trim_start_matches(['-', '−', '+']);
        for mark in symbols[..symbols.len()
            - symbols
                .trim_start_matches(['~', '≈', '<', '>', '=', '#'])
                .len()]
            .chars()
        {
            self.push(mark, Kind::Code);
        }
        let digits_from = body.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        if digits_from > 0 {
            self.push(&body[..digits_from], Kind::Code);
        }
        let body = &body[digits_from..];
        let digits_end = body
            .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',' | ':' | '/' | '-'))
            .unwrap_or(body.len());
        let (digits, unit) = body.split_at(digits_end);
        let unmarked = digits.trim_end_matches(['.', ',', ':', '/', '-']);
        let sign = if is_negative { "-" } else { "" };
        let is_ordinal = matches!(unit, "st" | "nd" | "rd" | "th");
        if is_ordinal {
            return self.push(format!("{unmarked}th"), Kind::Number);
        }
        self.push(format!("{sign}{}", plain(unmarked)), Kind::Number);
        if matches!(unit, "AM" | "PM" | "Am" | "Pm") {
            self.push(unit.to_lowercase(), Kind::Word { is_capital: false });
        } else if !unit.is_empty() {
            self.push(unit, Kind::Word { is_capital: false });
        }
    }
}

/// In capitals these are names, or short for some.
const IS_NAME_IN_CAPITALS: &[&str] = &["US", "IT", "WHO", "OR", "IN", "ME", "HE", "AS", "AM"];

/// After these, "'s" is short for "is", "has" or "us".
const IS_SHORT: &[&str] = &[
    "what",
    "who",
    "where",
    "when",
    "how",
    "why",
    "that",
    "this",
    "there",
    "here",
    "it",
    "he",
    "she",
    "let",
    "everyone",
    "everything",
    "something",
    "nothing",
];

const OPENING: &[char] = &['(', '[', '{', '\'', '‘', '¿', '¡'];
const CLOSING: &[char] = &[
    ')', ']', '}', '\'', '’', '.', ',', ';', ':', '!', '?', '…', '"', '”',
];

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        tokens(text)
            .into_iter()
            .map(|token| match token.kind {
                Kind::Word { .. } => token.text,
                Kind::Number => format!("n:{}", token.text),
                Kind::Code => format!("c:{}", token.text),
                Kind::Quote => format!("q:{}", token.text),
                Kind::Pause => ",".to_owned(),
                Kind::Stop => ".".to_owned(),
            })
            .collect()
    }

    #[test]
    fn each_form_is_cut_as_it_is_compared() {
        for (text, expected) in [
            ("Don't stop.", &["do", "not", "stop", "."][..]),
            ("ca n't, isn’t", &["ca", "not", ",", "is", "not"]),
            (
                "1,000 2.50 -5 5km 2nd 10%",
                &[
                    "n:1000", "n:2.50", "n:-5", "n:5", "km", "n:2th", "n:10", "%",
                ],
            ),
            (
                "2023-01-02 10:30am $5",
                &["n:2023-01-02", "n:10:30", "am", "c:$", "n:5"],
            ),
            (r#"say "Hi There" now"#, &["say", "q:Hi There", "now"]),
            (
                "is 'it isn't' right, 'tis",
                &["is", "q:it isn't", "right", ",", ",", "tis"],
            ),
            (
                "use `a.b()` and ```x\ny```",
                &["use", "q:a.b()", "and", "q:x\ny"],
            ),
            (
                "C++ vs C# snake_case camelCase h264",
                &[
                    "c:C++",
                    "vs",
                    "c:C#",
                    "c:snake_case",
                    "c:camelcase",
                    "c:h264",
                ],
            ),
            (
                "https://a.b/c?d=e, /etc/hosts he/she",
                &["c:https://a.b/c?d=e", ",", "c:/etc/hosts", "he", "she"],
            ),
            (
                "node.js e.g. end.Next",
                &["c:node.js", "e", "g", ".", "end", "next"],
            ),
            ("a + b - c", &["a", "c:+", "b", "c:-", "c"]),
            (
                "2 * 3 / 4 – 1",
                &["n:2", "c:*", "n:3", "c:/", "n:4", "c:–", "n:1"],
            ),
            ("this - that", &["this", "that"]),
            (
                "(2 + 3) * (4) ! no !",
                &[
                    "c:(", "n:2", "c:+", "n:3", "c:)", ",", "c:*", "c:(", "n:4", "c:)", ",", "c:!",
                    "no", ".",
                ],
            ),
            (
                "5' or 5\" tall",
                &["n:5", "c:'", ",", "or", "n:5", "c:\"", ",", "tall"],
            ),
            (
                "5 Mb, 5MB, 5 PM",
                &["n:5", "Mb", ",", "n:5", "MB", ",", "n:5", "pm"],
            ),
            ("US or us", &["US", "or", "us"]),
            ("an \" alone", &["an", ",", "alone"]),
            ("one\ntwo", &["one", ".", "two"]),
            ("John's dogs' I'm", &["john", "dogs", ",", "i"]),
        ] {
            assert_eq!(texts(text), expected, "{text}");
        }
    }
}
