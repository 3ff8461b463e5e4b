//! Reads a prompt as far as it can be compared: what it asks for, the words that say something, and in which order.
//!
//! Never here: a comparison (`guard`).

use crate::cache::guard::scan::{Kind, Token, tokens};
use crate::cache::guard::tables::{self, Small};

/// What a sentence asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// A wish, a statement, a heading: the sentence doesn't say.
    Open,
    HowTo,
    HowMuch,
    What,
    Why,
    Who,
    When,
    Where,
    /// Yes or no, to whether something is so.
    IsIt,
    /// Yes or no, to whether something is possible or allowed.
    CanIt,
    /// Yes or no, to whether something is right to do.
    ShouldIt,
    /// Yes or no, to whether something is going to be.
    WillIt,
}

/// What kind of thing a word is, as far as one of them can't stand for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Plain,
    Name,
    Number,
    /// What is counted: the word after a number.
    Unit,
    Negation,
    Quote,
    Code,
    /// Who speaks; whoever is spoken to; a third.
    Person,
}

/// One word that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) sort: Sort,
    /// Which part of the prompt it stands in. Parts begin at links, pauses and sentences.
    pub(super) part: usize,
}

/// A prompt, read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) words: Vec<Word>,
    /// The link that each part begins with; empty for a part that begins with none.
    pub(super) links: Vec<&'static str>,
    /// Of each sentence that asks for something.
    pub(super) intents: Vec<Intent>,
    /// Words that say nothing by themselves, as they came.
    pub(super) silent: Vec<String>,
    /// Whether its small words are English as far as can be seen.
    pub(super) is_english: bool,
}

impl Reading {
    pub(super) fn of(text: &str) -> Self {
        let tokens = tokens(text);
        let mut reader = Reader {
            reading: Reading::default(),
            ignores_case: is_title_case(&tokens),
            english: 0,
            foreign: 0,
            has_speaker: false,
        };
        for sentence in tokens.split(|token| token.kind == Kind::Stop) {
            reader.sentence(sentence);
        }
        reader.reading.is_english = reader.english > 0 && reader.foreign <= reader.english / 2;
        reader.reading
    }
}

/// Whether capitals say nothing: most words have one.
fn is_title_case(tokens: &[Token]) -> bool {
    let words = || {
        tokens
            .iter()
            .filter(|token| matches!(token.kind, Kind::Word { .. }))
    };
    let capitals = words().filter(|token| token.kind == Kind::Word { is_capital: true });
    let (words, capitals) = (words().count(), capitals.count());
    words > 3 && capitals * 4 > words * 3
}

struct Reader {
    reading: Reading,
    ignores_case: bool,
    english: usize,
    foreign: usize,
    /// "I" was the one who asks how, so "you" is somebody else.
    has_speaker: bool,
}

impl Reader {
    fn sentence(&mut self, tokens: &[Token]) {
        if tokens.is_empty() {
            return;
        }
        self.begin_part("");
        self.has_speaker = false;
        let (intent, from) = self.opening(tokens);
        let mut intent = intent;
        let mut at = from;
        while at < tokens.len() {
            let found = way(&tokens[at..], intent);
            if found > 0 && matches!(intent, Intent::Open | Intent::What | Intent::HowTo) {
                intent = Intent::HowTo;
                self.english += 1;
                at += found;
                continue;
            }
            if intent == Intent::Open && at > from && is_first_question_word(&tokens[at]) {
                let (asked, used) = asks(&tokens[at..]);
                intent = asked;
                self.english += 1;
                self.begin_part("");
                at += used;
                continue;
            }
            let before = at.checked_sub(1).and_then(|before| tokens.get(before));
            self.token(&tokens[at], before, at == 0, intent);
            at += 1;
        }
        if intent != Intent::Open {
            self.reading.intents.push(intent);
        }
    }

    /// What the first words ask for, and how many of them only do that.
    fn opening(&mut self, tokens: &[Token]) -> (Intent, usize) {
        let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        let mut at = 0;
        // "please", "can you please", "I want to know"
        if matches!(word(at), "please" | "kindly" | "hi" | "hello" | "hey") {
            at += 1;
        }
        if matches!(word(at), "can" | "could" | "would" | "will") && word(at + 1) == "you" {
            let after = at + 2 + usize::from(word(at + 2) == "please");
            if tables::is_frame_verb(word(after))
                || matches!(word(after), "help" | "give" | "write" | "list")
            {
                at = after;
            }
        }
        if word(at) == "i" && matches!(word(at + 1), "want" | "need" | "would" | "d") {
            let to = if word(at + 2) == "like" {
                at + 3
            } else {
                at + 2
            };
            if word(to) == "to" && matches!(word(to + 1), "know" | "learn") {
                at = to + 1;
            }
        }
        if tables::is_frame_verb(word(at)) {
            at += 1;
            if matches!(word(at), "me" | "us") {
                at += 1;
            }
            self.english += 1;
        }
        self.english += usize::from(at > 0);
        let (intent, used) = asks(tokens.get(at..).unwrap_or_default());
        self.english += usize::from(used > 0);
        (intent, at + used)
    }

    fn token(&mut self, token: &Token, before: Option<&Token>, is_first: bool, intent: Intent) {
        match token.kind {
            Kind::Word { is_capital } => {
                let is_name = is_capital && !is_first && !self.ignores_case;
                self.word(&token.text, before, is_name, intent);
            }
            Kind::Number => self.push(&token.text, Sort::Number),
            Kind::Code => self.push(&token.text, Sort::Code),
            Kind::Quote => self.push(&token.text, Sort::Quote),
            Kind::Pause => self.begin_part(""),
            Kind::Stop => {}
        }
    }

    fn word(&mut self, word: &str, before: Option<&Token>, is_name: bool, intent: Intent) {
        if let Some(person) = person(word) {
            self.english += 1;
            let before = before.map_or("", |before| before.text.as_str());
            return self.person(word, person, before, intent);
        }
        // What ought to be done isn't what can be done; of "how should I" and "how do I" it is the same.
        if matches!(word, "should" | "must") && intent != Intent::HowTo {
            self.english += 1;
            return self.push("should", Sort::Plain);
        }
        match tables::small(word) {
            Some(Small::Negation) => {
                self.push(if word == "without" { word } else { "not" }, Sort::Negation)
            }
            Some(Small::Number(number)) => self.push(number, Sort::Number),
            Some(Small::Link(link)) => self.begin_part(link),
            Some(Small::Silent) if !(is_name && word.len() < 4) => {
                self.reading.silent.push(word.to_owned())
            }
            Some(Small::Silent) | None => {
                self.foreign += usize::from(tables::is_foreign(word) || !word.is_ascii());
                return self.push(word, if is_name { Sort::Name } else { Sort::Plain });
            }
        }
        self.english += 1;
    }

    /// In "how do I", "how can we", "how to reset your password" the speaker is anybody.
    fn person(&mut self, word: &str, person: &'static str, before: &str, intent: Intent) {
        let is_anybody = matches!(intent, Intent::HowTo | Intent::Where);
        let is_subject =
            matches!(word, "i" | "you" | "we") && (is_auxiliary(before) || before == "how");
        if is_anybody && is_subject {
            self.has_speaker |= person == "i";
            return;
        }
        let is_speaker = person == "you" && is_anybody && !self.has_speaker;
        self.push(if is_speaker { "i" } else { person }, Sort::Person);
    }

    fn push(&mut self, text: &str, sort: Sort) {
        let is_counted = sort == Sort::Plain
            && self
                .reading
                .words
                .last()
                .is_some_and(|last| last.sort == Sort::Number);
        let sort = if is_counted { Sort::Unit } else { sort };
        let part = self.reading.links.len().saturating_sub(1);
        let text = text.to_owned();
        self.reading.words.push(Word { text, sort, part });
    }

    fn begin_part(&mut self, link: &'static str) {
        self.reading.links.push(link);
    }
}

/// What the first words ask for, and how many of them say no more than that.
fn asks(tokens: &[Token]) -> (Intent, usize) {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    match word(0) {
        "how" => match word(1) {
            "much" | "many" | "long" | "far" | "old" | "often" | "big" | "tall" | "high"
            | "fast" | "deep" | "large" | "good" | "bad" => (Intent::HowMuch, 1),
            "come" => (Intent::Why, 2),
            "to" => (Intent::HowTo, 2),
            _ => (Intent::HowTo, 1),
        },
        "what" | "which" | "whats" => match (word(1), word(2), word(3), word(4)) {
            ("can" | "should" | "do" | "must", "i" | "you" | "we" | "one", "do", "to") => {
                (Intent::HowTo, 5)
            }
            ("is" | "are" | "was", "the", "reason" | "reasons", _) => (Intent::Why, 4),
            _ => (Intent::What, 1),
        },
        "why" => (Intent::Why, 1),
        "who" | "whose" | "whom" => (Intent::Who, 1),
        "when" => (Intent::When, 1),
        "where" => (Intent::Where, 1),
        "is" | "are" | "am" | "do" | "does" | "has" | "have" | "was" | "were" | "did" | "had"
        | "ai" => (Intent::IsIt, 0),
        "can" | "could" | "may" | "might" => (Intent::CanIt, 0),
        "should" | "must" => (Intent::ShouldIt, 0),
        "will" | "would" | "shall" => (Intent::WillIt, 0),
        _ => (Intent::Open, 0),
    }
}

/// How many tokens say "the best way to", "steps for": what asks how something is done. At the end of a heading
/// ("coffee brewing steps") nothing needs to follow.
fn way(tokens: &[Token], intent: Intent) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut at = 0;
    while at < 4 && (tables::is_best(word(at)) || matches!(word(at), "is" | "are")) {
        at += 1;
    }
    if !tables::is_way(word(at)) {
        return 0;
    }
    if matches!(word(at + 1), "to" | "of" | "for" | "in") {
        at + 2
    } else if intent == Intent::Open && tokens.len() == at + 1 {
        at + 1
    } else {
        0
    }
}

fn is_first_question_word(token: &Token) -> bool {
    matches!(token.text.as_str(), "how" | "what" | "why" | "whats")
}

fn is_auxiliary(word: &str) -> bool {
    matches!(
        word,
        "do" | "does"
            | "did"
            | "can"
            | "could"
            | "should"
            | "would"
            | "must"
            | "may"
            | "might"
            | "will"
            | "to"
    )
}

fn person(word: &str) -> Option<&'static str> {
    match word {
        "i" | "me" | "my" | "mine" | "we" | "us" | "our" | "ours" => Some("i"),
        "you" | "your" | "yours" => Some("you"),
        "he" | "him" | "his" => Some("he"),
        "she" | "her" | "hers" => Some("she"),
        "they" | "them" | "their" | "theirs" => Some("they"),
        _ => None,
    }
}
