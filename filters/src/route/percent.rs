//! Percent-encoding, both ways, and the parameters of a query.
//!
//! A `+` stays a `+` everywhere: it means a space in forms only, and a key or a name may hold one.
//! Decoding never guesses: an invalid escape is an error where a name is read, and stays as it is
//! where a value is only looked at.

use std::borrow::Cow;
use std::fmt::Write;

/// The decoded bytes, or `None` if a `%` isn't followed by two hexadecimal digits.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            decoded.push(first);
            rest = after;
            continue;
        }
        let (&[high, low], after) = after.split_first_chunk::<2>()?;
        decoded.push(hex_digit(high)? << 4 | hex_digit(low)?);
        rest = after;
    }
    Some(Cow::Owned(decoded))
}

/// The decoded text, or `None` if it is no valid encoding or no UTF-8.
pub(crate) fn decode_text(text: &str) -> Option<Cow<'_, str>> {
    match decode(text)? {
        Cow::Borrowed(_) => Some(Cow::Borrowed(text)),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// The decoded text, with what isn't UTF-8 replaced, or the text itself if it is no valid encoding.
pub(crate) fn decode_lossy(text: &str) -> Cow<'_, str> {
    match decode(text) {
        None | Some(Cow::Borrowed(_)) => Cow::Borrowed(text),
        Some(Cow::Owned(bytes)) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Appends `text` so that it is one path segment or one query value, whatever it holds.
pub(crate) fn encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String can't fail");
        }
    }
}

/// The parameters of a query in order, as sent: the whole of each, its name, its value.
pub(crate) fn parameters(query: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (parameter, name, value)
        })
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_escape_needs_two_hexadecimal_digits() {
        assert_eq!(decode("a%2Fb+c").unwrap().as_ref(), b"a/b+c");
        for broken in ["%", "%2", "%zz", "%+1", "a%2"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
        assert_eq!(decode_text("%ff"), None);
        assert_eq!(decode_lossy("%zz"), "%zz");
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(text in any::<String>()) {
            let mut encoded = String::new();
            encode_into(&mut encoded, &text);
            prop_assert!(encoded.is_ascii());
            let decoded = decode_text(&encoded).unwrap();
            prop_assert_eq!(decoded.as_ref(), text.as_str());
        }
    }
}
