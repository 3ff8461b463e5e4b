//! What is wrong with a configuration, and where.
//!
//! All findings of one load are collected in [`Findings`] and sorted by their place in the file, because a
//! user who mends ten mistakes wants to see ten, in the order in which the editor shows them. A finding
//! holds a byte offset; line and column (in characters, from 1) are worked out once, at the end.
//! Never holds the text of a secret: whoever reports one describes only its kind.

use std::cell::RefCell;
use std::fmt;

/// Where something stands in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the file.
    pub offset: usize,
    /// The path of keys that leads there: `pools.chat.members[0].backend`.
    pub path: String,
}

/// A value together with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// What was written there.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl<T> Located<T> {
    /// The same place, another value.
    pub fn with<U>(&self, value: U) -> Located<U> {
        Located {
            value,
            place: self.place.clone(),
        }
    }
}

/// One finding: `LINE:COLUMN: WHERE: MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The path of keys, or `syntax`.
    pub place: String,
    /// What was found, what was expected, the nearest name.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            place,
            message,
        } = self;
        let (place, message) = (OneLine(place), OneLine(message));
        write!(formatter, "{line}:{column}: {place}: {message}")
    }
}

/// Text that may repeat what a file holds: line breaks and what else steers a terminal are written as escapes.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|letter| match letter.is_control() {
                true => write!(formatter, "{}", letter.escape_default()),
                false => fmt::Write::write_char(formatter, letter),
            })
    }
}

/// Every error of one file, in file order. Displayed one a line, each with the file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    /// The file, as the user named it.
    pub file: String,
    /// At least one.
    pub list: Vec<Error>,
}

impl fmt::Display for Errors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.list.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(formatter, "{end}{}:{error}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The text isn't TOML.
    Syntax,
    /// The configuration can't be used.
    Error,
    /// As an error, but left out where the text isn't TOML: it may only follow from that. A missing key
    /// may be hidden, a key at the top may belong to a table whose header is broken.
    Consequence,
    /// It can be used, and probably isn't what was meant.
    Warning,
    /// Understood and checked, but nothing in this version does it.
    Pending,
}

/// All that was found so far about one text. Shared by everything that reads it, hence the cell.
#[derive(Debug)]
pub struct Findings<'t> {
    text: &'t str,
    list: RefCell<Vec<(Kind, Place, String)>>,
}

impl<'t> Findings<'t> {
    /// None yet.
    pub fn new(text: &'t str) -> Self {
        Self {
            text,
            list: RefCell::default(),
        }
    }

    /// The text that the findings are about.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Adds one.
    pub fn add(&self, kind: Kind, place: &Place, message: impl Into<String>) {
        let finding = (kind, place.clone(), message.into());
        self.list.borrow_mut().push(finding);
    }

    /// Adds an error.
    pub fn error(&self, place: &Place, message: impl Into<String>) {
        self.add(Kind::Error, place, message);
    }

    /// Adds a warning.
    pub fn warn(&self, place: &Place, message: impl Into<String>) {
        self.add(Kind::Warning, place, message);
    }

    /// Adds something that this version can't do yet.
    pub fn pending(&self, place: &Place, what: impl Into<String>) {
        self.add(Kind::Pending, place, what);
    }

    /// Whether the text isn't TOML.
    pub fn has_syntax_errors(&self) -> bool {
        let list = self.list.borrow();
        list.iter().any(|(kind, _, _)| *kind == Kind::Syntax)
    }

    /// What makes the file unusable, in file order. Empty: nothing does.
    pub fn errors(&self) -> Vec<Error> {
        let list = self.list.borrow();
        let broken: Vec<usize> = list
            .iter()
            .filter(|(kind, _, _)| *kind == Kind::Syntax)
            .map(|(_, place, _)| position(self.text, place.offset).0)
            .collect();
        let mut errors = self.pick(|kind| match kind {
            Kind::Syntax | Kind::Error => true,
            Kind::Consequence => broken.is_empty(),
            Kind::Warning | Kind::Pending => false,
        });
        // One mistake of syntax makes a train of others on its line: the first says it all.
        let mut seen = Vec::new();
        errors.retain(|(kind, error)| {
            let is_syntax = *kind == Kind::Syntax;
            let keep = match (broken.contains(&error.line), is_syntax) {
                (true, true) => !seen.contains(&error.line),
                (true, false) => false,
                (false, _) => true,
            };
            if is_syntax {
                seen.push(error.line);
            }
            keep
        });
        errors.into_iter().map(|(_, error)| error).collect()
    }

    /// The warnings, in file order.
    pub fn warnings(&self) -> Vec<Error> {
        self.only(Kind::Warning)
    }

    /// What this version can't do yet, in file order.
    pub fn pending_features(&self) -> Vec<Error> {
        self.only(Kind::Pending)
    }

    fn only(&self, wanted: Kind) -> Vec<Error> {
        let found = self.pick(|kind| kind == wanted);
        found.into_iter().map(|(_, error)| error).collect()
    }

    fn pick(&self, wanted: impl Fn(Kind) -> bool) -> Vec<(Kind, Error)> {
        let list = self.list.borrow();
        let mut picked: Vec<_> = list.iter().filter(|(kind, _, _)| wanted(*kind)).collect();
        picked.sort_by_key(|(_, place, _)| place.offset);
        let error = |(kind, place, message): &(Kind, Place, String)| {
            let (line, column) = position(self.text, place.offset);
            let place = place.path.clone();
            let message = message.clone();
            let error = Error {
                line,
                column,
                place,
                message,
            };
            (*kind, error)
        };
        picked.into_iter().map(error).collect()
    }
}

/// Line and column, in characters, both from 1, of a byte offset.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

/// What to say about a name that isn't known: the nearest one, else all of them, the nearest first.
///
/// `; did you mean "chat"?`, `; known: "a", "b"`, or nothing where there is none.
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_by_key(|other| strsim::osa_distance(name, other));
    let Some(nearest) = known.first() else {
        return String::new();
    };
    if strsim::osa_distance(name, nearest) <= name.chars().count() / 3 {
        return format!("; did you mean \"{nearest}\"?");
    }
    let mut names: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
    if names.len() > MAX_NAMES_LISTED {
        names.truncate(MAX_NAMES_LISTED);
        names.push("...".to_owned());
    }
    format!("; known: {}", names.join(", "))
}

/// `a`, `a or b`, `a, b or c`.
pub fn alternatives(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// More names than this don't help whoever reads the line.
const MAX_NAMES_LISTED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: usize) -> Place {
        let path = format!("at{offset}");
        Place { offset, path }
    }

    #[test]
    fn columns_count_characters_from_one() {
        assert_eq!(position("abc", 0), (1, 1));
        assert_eq!(position("é = \"ü\"\nxy", 5), (1, 5));
        assert_eq!(position("é\nxy", 4), (2, 2));
        assert_eq!(position("a\n", 2), (2, 1));
    }

    #[test]
    fn errors_come_in_file_order() {
        let findings = Findings::new("a\nb\nc\n");
        findings.error(&place(4), "third");
        findings.warn(&place(2), "only a warning");
        findings.error(&place(0), "first");
        let list = findings.errors();
        let file = "x.toml".to_owned();
        let errors = Errors { file, list };
        assert_eq!(
            errors.to_string(),
            "x.toml:1:1: at0: first\nx.toml:3:1: at4: third"
        );
        assert_eq!(findings.warnings().len(), 1);
    }

    #[test]
    fn a_syntax_error_hides_what_follows_from_it_and_nothing_else() {
        let findings = Findings::new("a = \nb = 1\n");
        findings.add(Kind::Syntax, &place(4), "no value");
        findings.add(Kind::Syntax, &place(4), "again");
        findings.error(&place(0), "wrong type");
        findings.add(Kind::Consequence, &place(5), "maybe hidden");
        findings.error(&place(6), "another line");
        let said: Vec<String> = findings.errors().into_iter().map(|e| e.message).collect();
        assert_eq!(said, ["no value", "another line"]);
    }

    #[test]
    fn the_nearest_name_is_suggested_and_far_ones_are_listed() {
        let known = ["threads", "listen", "admin"];
        assert_eq!(suggestion("treads", known), "; did you mean \"threads\"?");
        assert_eq!(suggestion("lsiten", known), "; did you mean \"listen\"?");
        assert_eq!(
            suggestion("lisp", known),
            "; known: \"listen\", \"admin\", \"threads\""
        );
        assert_eq!(suggestion("q", ["p"]), "; known: \"p\"");
        assert_eq!(suggestion("colour", []), "");
    }
}
