//! Model names with `*`, and which of several patterns a name meets best.
//!
//! A pattern is cut at its stars when it is made, so a match is one search per piece from left to
//! right: the leftmost place of each piece leaves the most room for the rest, so nothing is ever
//! tried twice and the cost is linear in the name. Names are compared byte for byte: two deployments
//! may differ in case alone. It never reads a regular expression and knows no other wildcard.

use std::fmt;

/// A model or deployment name in which `*` stands for any run of characters, also an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    source: String,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError::Empty`] for an empty one: it would match nothing that a caller can ask for.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        if source.is_empty() {
            return Err(PatternError::Empty);
        }
        Ok(Self {
            source: source.to_owned(),
        })
    }

    /// True if the whole of `name` fits.
    pub fn matches(&self, name: &str) -> bool {
        let Some((prefix, rest)) = self.source.split_once('*') else {
            return self.source == name;
        };
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(inner) = name
            .strip_prefix(prefix)
            .and_then(|after| after.strip_suffix(suffix))
        else {
            return false;
        };
        holds_in_order(inner, middle)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// True if there is no `*` in it.
    pub fn is_exact(&self) -> bool {
        !self.source.contains('*')
    }

    fn literal_bytes(&self) -> usize {
        self.source.bytes().filter(|byte| *byte != b'*').count()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.source)
    }
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// Nothing was written.
    Empty,
}

impl fmt::Display for PatternError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("a model name is empty; write `*` for every model"),
        }
    }
}

impl std::error::Error for PatternError {}

/// The value whose pattern says most about `name`: an exact one, else the one with the longest
/// literal part, else the first in order.
pub fn best<'a, T>(patterns: &'a [(Pattern, T)], name: &str) -> Option<&'a T> {
    best_of(patterns.iter(), name)
}

/// As [`best`], of some of a list.
pub fn best_of<'a, T: 'a>(
    patterns: impl Iterator<Item = &'a (Pattern, T)>,
    name: &str,
) -> Option<&'a T> {
    let mut found: Option<(usize, &'a T)> = None;
    for (pattern, value) in patterns {
        if !pattern.matches(name) {
            continue;
        }
        if pattern.is_exact() {
            return Some(value);
        }
        let literal_bytes = pattern.literal_bytes();
        if found.is_none_or(|(longest, _)| literal_bytes > longest) {
            found = Some((literal_bytes, value));
        }
    }
    found.map(|(_, value)| value)
}

fn holds_in_order(text: &str, pieces: &str) -> bool {
    let mut rest = text;
    for piece in pieces.split('*') {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn naive(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|skipped| naive(rest, &name[skipped..])),
            Some((first, rest)) => name.first() == Some(first) && naive(rest, &name[1..]),
        }
    }

    #[test]
    fn a_star_stands_for_any_run_and_nothing_else_is_special() {
        let fits = |pattern: &str, name: &str| Pattern::new(pattern).unwrap().matches(name);
        assert!(fits("text-embedding-*", "text-embedding-3-small"));
        assert!(fits("text-embedding-*", "text-embedding-"));
        assert!(!fits("gpt-4o", "gpt-4o-mini"));
        assert!(!fits("gpt-4o", "GPT-4o"));
        assert!(!fits("gpt.4o", "gpt-4o"));
        assert!(!fits("ab*ba", "aba"), "the ends may not overlap");
        assert!(fits("*", ""));
        assert_eq!(Pattern::new(""), Err(PatternError::Empty));
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let patterns: Vec<(Pattern, u8)> = [
            ("*", 1),
            ("gpt-*", 2),
            ("gpt-4o", 3),
            ("*-4o", 4),
            ("gpt*-", 5),
        ]
        .into_iter()
        .map(|(source, value)| (Pattern::new(source).unwrap(), value))
        .collect();
        assert_eq!(best(&patterns, "gpt-4o"), Some(&3));
        assert_eq!(best(&patterns, "gpt-5"), Some(&2));
        assert_eq!(
            best(&patterns, "gpt-5-"),
            Some(&2),
            "equally long: the first"
        );
        assert_eq!(best(&patterns, "o3"), Some(&1));
        assert_eq!(best(&patterns[1..], "o3"), None);
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_naive_definition(pattern in "[ab*é]{1,8}", name in "[abé]{0,10}") {
            let pattern_chars: Vec<char> = pattern.chars().collect();
            let name_chars: Vec<char> = name.chars().collect();
            prop_assert_eq!(
                Pattern::new(&pattern).unwrap().matches(&name),
                naive(&pattern_chars, &name_chars)
            );
        }
    }
}
