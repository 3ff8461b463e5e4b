//! The same words in another order: whether they still say the same.
//!
//! Never here: which words are the same (`pairs`), and what is left over (`guard`).

use crate::cache::guard::Reason;
use crate::cache::guard::pairs::Pairs;
use crate::cache::guard::reading::{Intent, Reading, Sort, Word};

/// "What is processing?" and "what is a process?": where little more is said, an "-ing" names another thing.
pub(super) fn is_other_thing(a: &Reading, b: &Reading, pairs: &Pairs) -> bool {
    let asks_what =
        |reading: &Reading| reading.intents.iter().all(|intent| *intent == Intent::What);
    let names_deed = |word: &Word| word.text.ends_with("ing");
    pairs.paired.len() < 3
        && asks_what(a)
        && asks_what(b)
        && pairs
            .paired
            .iter()
            .any(|(of_a, of_b)| names_deed(&a.words[*of_a]) != names_deed(&b.words[*of_b]))
}

/// The same words: do they stand in the same order, or did only whole parts change places?
pub(super) fn order(a: &Reading, b: &Reading, pairs: &Pairs) -> Option<Reason> {
    if !pairs.is_reordered() {
        return None;
    }
    let is_plain = |reading: &Reading| reading.words.iter().any(|word| word.sort == Sort::Plain);
    let is_said = |word: &Word| matches!(word.sort, Sort::Plain | Sort::Name);
    let asks_how = |reading: &Reading| reading.intents.first() == Some(&Intent::HowTo);
    let is_owned = |one: &Reading, other: &Reading| one.has_owner && other.links.contains(&"of");
    // "Build trust" and "trust a build" don't differ in a form.
    let has_form = pairs.paired.iter().any(|(of_a, of_b)| {
        let bare = |word: &Word| word.text.trim_end_matches('s').to_owned();
        bare(&a.words[*of_a]) != bare(&b.words[*of_b])
    });
    let is_short = pairs.paired.len() == 2
        && (has_form && asks_how(a) && asks_how(b) || is_owned(a, b) || is_owned(b, a))
        && is_plain(a)
        && is_plain(b)
        && a.words.iter().chain(&b.words).all(is_said);
    let joins = |links: &[&str]| links.iter().any(|link| !link.is_empty() && *link != "of");
    if is_short && !joins(&a.links) && !joins(&b.links) {
        // "brew coffee" and "coffee is brewed", "France's capital" and "the capital of France": there is one sensible order.
        return None;
    }
    let of_b: Vec<(usize, usize)> = pairs
        .paired
        .iter()
        .enumerate()
        .map(|(id, (_, at))| (*at, id))
        .collect();
    let of_a: Vec<(usize, usize)> = pairs
        .paired
        .iter()
        .enumerate()
        .map(|(id, (at, _))| (*at, id))
        .collect();
    (parts(a, of_a) != parts(b, of_b)).then_some(Reason::Order)
}

/// Each part as its link and its words by their number in the pairing, by link.
fn parts(reading: &Reading, mut words: Vec<(usize, usize)>) -> Vec<(&'static str, Vec<usize>)> {
    words.sort_unstable();
    let mut parts: Vec<(&'static str, Vec<usize>)> = reading
        .links
        .iter()
        .map(|link| (*link, Vec::new()))
        .collect();
    for (at, id) in words {
        let part = reading.words.get(at).map_or(0, |word| word.part);
        if let Some((_, ids)) = parts.get_mut(part) {
            ids.push(id);
        }
    }
    parts.retain(|(_, ids)| !ids.is_empty());
    // Stable: of parts with one link, each must stay in its place among them.
    parts.sort_by_key(|(link, _)| *link);
    parts
}
