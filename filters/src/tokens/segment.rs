//! Cuts text into bounded pieces, so that no tokenizer ever sees a long one.
//!
//! Why: the tokenizers split text with a regular expression, then merge each piece. A run without a
//! split point (a million spaces, a megabyte of base64) makes that slower than linear, and one of them
//! overflows its stack and panics. With pieces of at most `HARD_BYTES` the work is linear in the text, and
//! no piece costs more than about a millisecond.
//!
//! Why the sum over the pieces is the count of the whole: a cut is made where, in all four encodings,
//! one pre-token always ends and another begins, whatever stands before and after. No pattern has an
//! alternative that goes on from a letter to a space or a mark of punctuation (the apostrophe aside:
//! `don't`), from a letter to a digit, or from a digit to anything that isn't a digit. Looking ahead
//! happens only after white space, and no cut follows white space.
//!
//! The one approximation: an unbroken run of letters, spaces or marks longer than
//! `HARD_BYTES - SOFT_BYTES` is cut where it stands (a run of digits between two threes, which is exact but
//! for the retired encodings). Each such cut changes the count by a token or two,
//! at most once in `HARD_BYTES`, which is under a thousandth of the count of such a text.
//!
//! Never allocates, never looks at a byte twice.

/// From here on the next safe cut is taken. Large enough that the fixed cost of a piece doesn't show.
const SOFT_BYTES: usize = 2048;

/// The longest piece, save for the rest of the last character.
const HARD_BYTES: usize = 4096;

/// The pieces of `text`, in order; together they are `text`. None is empty.
pub(super) fn segments(text: &str) -> Segments<'_> {
    Segments { rest: text }
}

/// Iterator over the pieces of a text.
pub(super) struct Segments<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (piece, rest) = self.rest.split_at(first_cut(self.rest));
        self.rest = rest;
        Some(piece)
    }
}

/// Where the first piece of `text` ends, in bytes.
fn first_cut(text: &str) -> usize {
    if text.len() <= SOFT_BYTES {
        return text.len();
    }
    let soft = text.floor_char_boundary(SOFT_BYTES);
    let mut before = text[..soft].chars().next_back().unwrap_or(' ');
    for (offset, after) in text[soft..].char_indices() {
        let position = soft + offset;
        if always_splits(before, after) {
            return position;
        }
        if position >= HARD_BYTES {
            return position - loose_digits(&text[..position]);
        }
        before = after;
    }
    text.len()
}

/// Digits become tokens in threes, counted from the start of their run: the bytes of those at the end of
/// `piece` that make no full three, and belong to the next piece. No piece ends between two threes' digits,
/// so a run that is cut again is still counted from its start.
fn loose_digits(piece: &str) -> usize {
    let digits = piece
        .chars()
        .rev()
        .take_while(|character| character.is_numeric());
    let loose = digits.count() % 3;
    piece.chars().rev().take(loose).map(char::len_utf8).sum()
}

/// Whether a pre-token always ends between these two characters.
fn always_splits(before: char, after: char) -> bool {
    if before.is_ascii_digit() {
        is_letter(after) || (is_mark(after) && !after.is_ascii_digit())
    } else if is_letter(before) {
        after.is_ascii_digit() || (is_mark(after) && after != '\'')
    } else {
        false
    }
}

/// Letters of every Unicode version: the tables of a tokenizer's regular expression may be older than ours.
fn is_letter(character: char) -> bool {
    character.is_ascii_alphabetic()
        || matches!(character, '\u{4E00}'..='\u{9FA5}' | '\u{3041}'..='\u{3094}' | '\u{30A1}'..='\u{30FA}' | '\u{AC00}'..='\u{D7A3}')
}

/// White space, punctuation and symbols of ASCII, and the punctuation of Chinese and Japanese text.
fn is_mark(character: char) -> bool {
    (character.is_ascii() && !character.is_ascii_alphanumeric())
        || matches!(
            character,
            '。' | '、' | '，' | '！' | '？' | '：' | '；' | '「' | '」' | '（' | '）'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_join_to_the_text() {
        for unit in [
            "a",
            " ",
            "word ",
            "漢字。",
            "1",
            "a1",
            "👨‍👩‍👧",
            "\u{300}",
            "don't",
        ] {
            let text = unit.repeat(30_000 / unit.len());
            let pieces: Vec<&str> = segments(&text).collect();
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            assert!(pieces.iter().all(|piece| piece.len() < HARD_BYTES + 4));
            assert_eq!(pieces.concat(), text);
        }
    }

    #[test]
    fn a_contraction_stays_whole() {
        let text = "don't".repeat(1000);
        for piece in segments(&text).skip(1) {
            assert!(!piece.starts_with('\''));
        }
    }

    #[test]
    fn a_run_of_digits_is_cut_between_threes() {
        let text = format!("n{}x", "1".repeat(20_000));
        let mut offset = 0;
        for piece in segments(&text) {
            offset += piece.len();
            assert!(
                offset == text.len() || (offset - 1) % 3 == 0 || text[offset..].starts_with('x')
            );
        }
    }

    #[test]
    fn the_empty_text_has_no_piece() {
        assert_eq!(segments("").count(), 0);
    }
}
