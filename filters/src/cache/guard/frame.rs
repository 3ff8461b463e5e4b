//! What a sentence asks for, told by its first words, and which of its words only ask, greet or thank.
//!
//! A frame is taken off only as far as it says nothing of its own: "Hi, could you tell me how to ..." leaves "how to".
//! Words that could be what is asked about ("How do I say thank you?", "Hello Kitty") are left where they stand.
//!
//! Never here: the words that are left (`reading`).

use crate::cache::guard::scan::{Kind, Token};
use crate::cache::guard::tables::{self, Small};

/// What a sentence asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// A wish, a statement, a heading: the sentence doesn't say.
    Open,
    HowTo,
    /// How somebody is, or was: no way to do something.
    HowIs,
    HowMuch,
    /// How much money.
    Price,
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

/// How a sentence opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) intent: Intent,
    /// So many tokens say no more than that.
    pub(super) used: usize,
    /// Whether it is known to be English.
    pub(super) is_english: bool,
}

impl Opening {
    pub(super) fn of(tokens: &[Token]) -> Self {
        let wished = wish(tokens);
        let rest = tokens.get(wished..).unwrap_or_default();
        if wished > 0 && matches!(word(rest, 0), "if" | "whether") {
            return Opening {
                intent: asked_within(rest),
                used: wished + 1,
                is_english: true,
            };
        }
        let (mut intent, used) = asks(rest);
        if wished == 0 && intent == Intent::HowTo && is_degree(rest) {
            intent = Intent::HowMuch;
        }
        Opening {
            intent,
            used: wished + used,
            is_english: wished > 0 || intent != Intent::Open,
        }
    }
}

/// The sentence without greetings, fillers and thanks around it.
pub(super) fn without_courtesy(tokens: &[Token]) -> &[Token] {
    without_thanks(&tokens[courtesy(tokens)..])
}

/// How many tokens stand in front of the question: "In Python, how ...", "If it rains, can I ...".
pub(super) fn front(tokens: &[Token]) -> usize {
    if !matches!(tables::small(word(tokens, 0)), Some(Small::Link(_))) {
        return 0;
    }
    let asks_after =
        |at: &usize| tokens[*at].kind == Kind::Pause && asks(&tokens[at + 1..]).0 != Intent::Open;
    (1..tokens.len()).find(asks_after).map_or(0, |at| at + 1)
}

/// What a question within a sentence asks, and how many of its words say no more than that.
pub(super) fn asks(tokens: &[Token]) -> (Intent, usize) {
    let word = |at: usize| word(tokens, at);
    match word(0) {
        "how" | "hows" => how(tokens),
        "what" | "which" | "whats" => what(tokens),
        "at" if word(1) == "what" && word(2) == "time" => (Intent::When, 3),
        "why" | "whys" => (Intent::Why, 1),
        "who" | "whose" | "whom" | "whos" => (Intent::Who, 1),
        "when" | "whens" => (Intent::When, 1),
        "where" | "wheres" => (Intent::Where, 1),
        "is" => match (word(1), word(2), word(3), word(4)) {
            ("it", "possible", "to", _) => (Intent::CanIt, 4),
            ("it", "possible", "for", "me" | "us" | "you" | "someone" | "one")
                if word(5) == "to" =>
            {
                (Intent::CanIt, 6)
            }
            ("there", "a" | "any" | "some", "way" | "method", "to" | "of") => (Intent::HowTo, 5),
            _ => (Intent::IsIt, 0),
        },
        "are" | "am" | "do" | "does" | "has" | "have" | "was" | "were" | "did" | "had" | "ai" => {
            (Intent::IsIt, 0)
        }
        "can" | "could" | "may" | "might" => (Intent::CanIt, 0),
        "should" | "must" => (Intent::ShouldIt, 0),
        "will" | "would" | "shall" => (Intent::WillIt, 0),
        _ => (Intent::Open, 0),
    }
}

fn how(tokens: &[Token]) -> (Intent, usize) {
    let word = |at: usize| word(tokens, at);
    match word(1) {
        "much" => match word(2) {
            "is" | "are" => (Intent::Price, 3),
            "for" => (Intent::Price, 3),
            "does" | "do" | "would" | "will" if costs(&tokens[3..]) => (Intent::Price, 3),
            _ => (Intent::HowMuch, 1),
        },
        "many" | "long" | "far" | "old" | "often" | "big" | "tall" | "high" | "fast" | "deep"
        | "large" | "good" | "bad" | "wide" | "heavy" | "soon" | "late" | "early" | "well"
        | "likely" | "safe" | "hard" | "easy" | "hot" | "cold" | "strong" => (Intent::HowMuch, 1),
        "come" => (Intent::Why, 2),
        "to" => (Intent::HowTo, 2),
        "do" | "can" | "could" | "should" | "would" | "might" | "does"
            if is_anybody(word(2)) && word(3) == "go" && word(4) == "about" =>
        {
            (Intent::HowTo, 5)
        }
        "are" | "am" | "is" | "was" | "were" | "did" | "has" | "have" | "had"
            if matches!(
                word(2),
                "i" | "you" | "we" | "they" | "he" | "she" | "my" | "your" | "our"
            ) =>
        {
            (Intent::HowIs, 1)
        }
        _ => (Intent::HowTo, 1),
    }
}

/// "How great are you?": of another word than a verb's help. "Tell me how coffee is made" has a wish before it.
fn is_degree(tokens: &[Token]) -> bool {
    matches!(word(tokens, 2), "is" | "are" | "am" | "was" | "were")
        && tables::small(word(tokens, 1)).is_none()
        && tokens
            .get(1)
            .is_some_and(|token| matches!(token.kind, Kind::Word { .. }))
}

fn what(tokens: &[Token]) -> (Intent, usize) {
    let word = |at: usize| word(tokens, at);
    let noun = match word(1) {
        "is" | "are" | "was" | "would" => 2,
        _ => 1,
    };
    match (word(1), word(2), word(3), word(4)) {
        ("can" | "should" | "do" | "must", "i" | "you" | "we" | "one", "do", "to") => {
            (Intent::HowTo, 5)
        }
        ("is" | "are" | "was", "the", "reason" | "reasons", _) => (Intent::Why, 4),
        ("time", _, _, _) => (Intent::When, 2),
        ("does" | "would" | "will", "it", "cost", "to") => (Intent::Price, 4),
        _ if word(noun) == "the"
            && matches!(word(noun + 1), "price" | "cost")
            && word(1) != "was" =>
        {
            match word(noun + 2) {
                "of" | "for" => (Intent::Price, noun + 3),
                "to" => (Intent::Price, noun + 2),
                _ => (Intent::What, 1),
            }
        }
        ("does" | "do" | "would", ..) if matches!(last_word(tokens), "cost") => (Intent::Price, 2),
        _ => (Intent::What, 1),
    }
}

/// Whether the question is for money: "cost" at its end, or before "to".
fn costs(tokens: &[Token]) -> bool {
    let mut at = tokens.iter().position(|token| token.text == "cost");
    at = at.filter(|at| at + 1 == tokens.len() || word(tokens, at + 1) == "to");
    at.is_some() || last_word(tokens) == "cost"
}

fn last_word(tokens: &[Token]) -> &str {
    let mut words = tokens.iter().rev();
    let last = words.find(|token| token.kind != Kind::Pause);
    last.map_or("", |token| &token.text)
}

/// How many tokens only wish to be told: "can you please tell me", "I want to know", "explain".
fn wish(tokens: &[Token]) -> usize {
    let word = |at: usize| word(tokens, at);
    let mut at = 0;
    if matches!(word(at), "can" | "could" | "would" | "will") && word(at + 1) == "you" {
        let after = at + 2 + usize::from(matches!(word(at + 2), "please" | "kindly"));
        if tables::is_frame_verb(word(after))
            || matches!(word(after), "help" | "give" | "write" | "list")
        {
            at = after;
        }
    }
    let wanting = [
        "i want to",
        "i need to",
        "i would like to",
        "i d like to",
        "i like to",
        "id like to",
    ];
    if let Some(to) = starts(tokens, &wanting)
        && matches!(word(to), "know" | "learn" | "understand" | "ask")
    {
        at = to + 1;
    }
    if let Some(end) = starts(tokens, tables::ASKING)
        && (asks(&tokens[end..]).0 != Intent::Open || matches!(word(end), "if" | "whether"))
    {
        return end;
    }
    if tables::is_frame_verb(word(at)) {
        at += 1;
        if matches!(word(at), "me" | "us") {
            at += 1;
        }
    }
    at
}

/// What is asked after "tell me if": the first verb says it.
fn asked_within(tokens: &[Token]) -> Intent {
    let verbs = tokens.iter().skip(1).take(REACH);
    let mut intents = verbs.map(|token| asks(std::slice::from_ref(token)).0);
    let found = intents.find(|intent| {
        matches!(
            intent,
            Intent::IsIt | Intent::CanIt | Intent::ShouldIt | Intent::WillIt
        )
    });
    found.unwrap_or(Intent::IsIt)
}

/// A verb farther away isn't the question's. Tokens.
const REACH: usize = 8;

/// How many tokens at the start only greet, excuse or hesitate.
fn courtesy(tokens: &[Token]) -> usize {
    let mut at = 0;
    loop {
        let rest = &tokens[at..];
        let skipped = rest
            .iter()
            .take_while(|token| token.kind == Kind::Pause)
            .count();
        let rest = &rest[skipped..];
        if at > 0 && rest.is_empty() {
            return tokens.len();
        }
        let Some(end) = hesitation(rest).or_else(|| greeting(rest)) else {
            return if at > 0 { at + skipped } else { 0 };
        };
        at += skipped + end;
    }
}

fn hesitation(tokens: &[Token]) -> Option<usize> {
    starts(tokens, tables::HESITATIONS)
}

/// A greeting counts where a pause or a question follows.
fn greeting(tokens: &[Token]) -> Option<usize> {
    let mut end = starts(tokens, tables::GREETINGS)?;
    end += usize::from(matches!(
        word(tokens, end),
        "there" | "all" | "team" | "everyone" | "everybody" | "folks" | "guys" | "assistant"
    ));
    let rest = &tokens[end..];
    let Some(next) = rest.first() else {
        return Some(end);
    };
    if next.kind == Kind::Pause {
        let after = usize::from(matches!(word(rest, 1), "but" | "and"));
        return Some(end + 1 + after);
    }
    let but = usize::from(next.text == "but");
    let rest = &rest[but..];
    let is_followed = asks(rest).0 != Intent::Open
        || wish(rest) > 0
        || hesitation(rest).is_some()
        || starts(rest, tables::GREETINGS).is_some();
    is_followed.then_some(end + but)
}

fn without_thanks(tokens: &[Token]) -> &[Token] {
    let mut end = tokens.len();
    loop {
        let rest = &tokens[..end];
        let pauses = rest
            .iter()
            .rev()
            .take_while(|token| token.kind == Kind::Pause)
            .count();
        let rest = &rest[..end - pauses];
        let Some(from) = ends(rest, tables::THANKS) else {
            return &tokens[..end];
        };
        let before = &rest[..from];
        let is_said = match before.last() {
            None => false,
            Some(last) if last.kind == Kind::Pause => false,
            Some(last) => {
                !matches!(word(rest, from), "please" | "pls")
                    || tables::SAYING.contains(&last.text.as_str())
            }
        };
        if is_said {
            return &tokens[..end];
        }
        end = from;
    }
}

/// The end of the longest phrase that the tokens start with.
fn starts(tokens: &[Token], phrases: &[&str]) -> Option<usize> {
    let first = word(tokens, 0);
    if first.is_empty() {
        return None;
    }
    let begun = phrases
        .iter()
        .filter_map(|phrase| phrase.strip_prefix(first));
    let lengths = begun.filter_map(|rest| {
        let mut words = 1;
        let is_there = rest.is_empty()
            || rest.strip_prefix(' ')?.split(' ').all(|wanted| {
                words += 1;
                word(tokens, words - 1) == wanted
            });
        is_there.then_some(words)
    });
    lengths.max()
}

/// Where the longest phrase that the tokens end with begins.
fn ends(tokens: &[Token], phrases: &[&str]) -> Option<usize> {
    let last = last_word(tokens);
    let ended = phrases.iter().filter(|phrase| phrase.ends_with(last));
    let begins = ended.filter_map(|phrase| {
        let from = tokens.len().checked_sub(phrase.split(' ').count())?;
        starts(&tokens[from..], &[phrase]).map(|_| from)
    });
    begins.min()
}

fn word(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| token.text.as_str())
}

fn is_anybody(word: &str) -> bool {
    matches!(word, "i" | "you" | "we" | "one")
}
