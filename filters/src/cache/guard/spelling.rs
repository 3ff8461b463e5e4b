//! Whether one of two words is the other, misspelt.
//!
//! A slip of the pen makes a word that there isn't. So one of the two must be a word and the other none, by the
//! vocabulary that tokens are counted with: common words are one token there, few misspellings are. Two words ("casual" and
//! "causal", "debit" and "debt") and two that it doesn't know ("ethane" and "ethene") are never taken for each other.
//!
//! A slip is one of these, behind the first letter: two neighbours in the wrong order; a letter lost or gained, though not
//! at the end, where it would be another form; in a long word, a vowel for a vowel.
//!
//! Never here: names, numbers and code, which are compared as they are (`guard`).

use crate::tokens::Encoding;

/// Whether one is the other, misspelt.
pub(super) fn is_slip(a: &str, b: &str) -> bool {
    let is_word =
        |word: &str| word.len() <= MAX_BYTES && word.bytes().all(|byte| byte.is_ascii_lowercase());
    is_word(a)
        && is_word(b)
        && is_one_slip(a.as_bytes(), b.as_bytes())
        && is_known(a) != is_known(b)
}

/// A longer word isn't looked at.
const MAX_BYTES: usize = 32;

/// Whether it is one token, as it stands in a sentence.
fn is_known(word: &str) -> bool {
    Encoding::O200k.count(&format!(" {word}")) == 1
}

fn is_one_slip(a: &[u8], b: &[u8]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let same = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    let (rest, other) = (&short[same..], &long[same..]);
    if same == 0 || rest == other {
        // A letter more at the end: another form, unless it doubles the last.
        return same > 4 && other.len() == 1 && short.last() == other.first();
    }
    match (rest, other) {
        ([first, second, rest @ ..], [other_first, other_second, other_rest @ ..])
            if long.len() > 4
                && first == other_second
                && second == other_first
                && rest == other_rest =>
        {
            true
        }
        (rest, [_, other_rest @ ..]) if rest == other_rest => long.len() > 5 && rest.len() > 1,
        ([first, rest @ ..], [other_first, other_rest @ ..]) => {
            rest == other_rest
                && long.len() > 7
                && rest.len() > 2
                && is_vowel(*first)
                && is_vowel(*other_first)
        }
        ([], _) | (_, []) => false,
    }
}

fn is_vowel(letter: u8) -> bool {
    matches!(letter, b'a' | b'e' | b'i' | b'o' | b'u' | b'y')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_forgiven_and_another_word_is_not() {
        for (a, b) in [
            ("change", "chnage"),
            ("connection", "conection"),
            ("account", "acount"),
            ("station", "staion"),
            ("emergency", "emergancy"),
            ("evenings", "evenigns"),
        ] {
            assert!(is_slip(a, b) && is_slip(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("casual", "causal"),
            ("desert", "dessert"),
            ("debit", "debt"),
            ("trial", "trail"),
            ("martial", "marital"),
            ("ethane", "ethene"),
            ("phosphate", "phosphite"),
            ("nitrate", "nitrite"),
            ("enable", "unable"),
            ("paris", "pairs"),
            ("book", "books"),
            ("plan", "plane"),
            ("word", "sword"),
            ("same", "same"),
            ("a", "b"),
            ("", "x"),
        ] {
            assert!(!is_slip(a, b) && !is_slip(b, a), "{a} {b}");
        }
    }
}
