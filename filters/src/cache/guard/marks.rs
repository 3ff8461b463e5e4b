//! What a number looks like, and what is to be compared to the letter.
//!
//! Never here: where a token ends (`scan`).

/// Digits, with a sign or currency before and a unit after them.
pub(super) fn is_number(core: &str) -> bool {
    let body = core.trim_start_matches(|c: char| !c.is_alphanumeric());
    if !body.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let unit = body.trim_start_matches(|c: char| {
        c.is_ascii_digit() || matches!(c, '.' | ',' | ':' | '/' | '-')
    });
    let ends_in_mark = !unit.is_empty()
        && !body[..body.len() - unit.len()].ends_with(|c: char| c.is_ascii_digit());
    !ends_in_mark
        && unit.len() <= 8
        && unit.chars().all(|c| {
            c.is_alphabetic() || matches!(c, '%' | '°' | '$' | '€' | '£' | '²' | '³' | '+')
        })
}

/// A number without the marks that only make it easier to read.
pub(super) fn plain(digits: &str) -> String {
    let is_grouped = digits.contains(',')
        && digits
            .split('.')
            .next()
            .is_some_and(|whole| whole.split(',').skip(1).all(|group| group.len() == 3));
    match is_grouped {
        true => digits.replace(',', ""),
        false => digits.to_owned(),
    }
}

/// Whether a chunk is to be compared to the letter: an identifier, an address, a path, an expression.
pub(super) fn is_code(core: &str) -> bool {
    if core.contains("://") || core.starts_with("www.") || core.contains(CODE_MARKS) {
        return true;
    }
    let slashes = core.bytes().filter(|byte| *byte == b'/').count();
    if slashes > 1 || core.starts_with(['/', '.', '~']) {
        return true;
    }
    let letters: Vec<char> = core.chars().collect();
    letters.windows(2).any(|two| {
        let (a, b) = (two[0], two[1]);
        a.is_lowercase() && b.is_uppercase()
            || a.is_alphabetic() && b.is_ascii_digit()
            || a.is_ascii_digit() && b.is_alphabetic()
    }) || is_dotted(core)
}

const CODE_MARKS: &[char] = &[
    '_', '=', '<', '>', '{', '}', '[', ']', '|', '\\', '^', '~', '&', '$', '€', '£', '@', '#', '%',
    '+', '*',
];

/// `node.js`, `a.b`; not `e.g`, nor the full stop that lacks its space.
fn is_dotted(core: &str) -> bool {
    let mut parts = core.split('.');
    let (Some(first), Some(second)) = (parts.next(), parts.next()) else {
        return false;
    };
    first.len() > 1
        && second.len() > 1
        && !second.starts_with(char::is_uppercase)
        && second.len() <= 5
}
