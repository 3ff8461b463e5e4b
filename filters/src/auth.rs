//! Whose key a request brings.
//!
//! Only SHA-256 digests of keys are kept, so neither a core dump nor a log can give a key away. A key is
//! found by the first bytes of its digest and then compared in full in constant time: the search
//! takes longer or shorter by the digest alone, and nobody can aim a digest without finding SHA-256
//! preimages. Subscription keys are long and random, so no slow hash is needed. It never decides
//! whether the subscription may call: only which one it is.

use std::borrow::Cow;
use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::expression::Headers;
use crate::route::percent;

/// The headers that may carry a key, lower case, the one that may carry a token last. None of them goes upstream.
pub const KEY_HEADERS: [&str; 3] = ["api-key", "ocp-apim-subscription-key", AUTHORIZATION];
const AUTHORIZATION: &str = "authorization";

/// The query parameters that may carry a key. Neither goes upstream.
pub const KEY_PARAMETERS: [&str; 2] = ["subscription-key", "api-key"];

/// The SHA-256 of a key.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a key as a caller sends it.
    pub fn of_key(key: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(key.as_ref()).into())
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`DigestError`] for any other length or character; the text isn't repeated in it.
    pub fn parse_hex(text: &str) -> Result<Self, DigestError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError::Length {
                found: digits.len(),
            });
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Ok(Self(digest))
    }

    /// The digest as 64 lower-case hexadecimal digits, as the configuration takes it.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The digest itself, for a place in a map.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn prefix(&self) -> &[u8] {
        &self.0[..8]
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Digest(..)")
    }
}

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestError {
    /// It hasn't 64 characters.
    Length {
        /// How many bytes it has.
        found: usize,
    },
    /// One of its characters isn't a hexadecimal digit.
    Digit,
}

impl fmt::Display for DigestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found } => write!(
                formatter,
                "a sha256 has 64 hexadecimal digits, this has {found} characters"
            ),
            Self::Digit => formatter.write_str("a sha256 has hexadecimal digits only (0-9, a-f)"),
        }
    }
}

impl std::error::Error for DigestError {}

/// Every key that is known, and whose it is.
pub struct Keys {
    /// Sorted by digest.
    entries: Vec<(Digest, usize)>,
}

impl Keys {
    /// Takes each key's digest with the number of its owner. The same key twice for one owner is
    /// the same as once.
    ///
    /// # Errors
    /// [`DuplicateKey`] if two owners have the same key: it wouldn't say who calls.
    pub fn new(mut entries: Vec<(Digest, usize)>) -> Result<Self, DuplicateKey> {
        entries.sort_by(|left, right| left.0.0.cmp(&right.0.0).then(left.1.cmp(&right.1)));
        entries.dedup();
        for pair in entries.windows(2) {
            if pair[0].0 == pair[1].0 {
                return Err(DuplicateKey {
                    first: pair[0].1,
                    second: pair[1].1,
                });
            }
        }
        Ok(Self { entries })
    }

    /// The owner of `key`, if anyone is.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let digest = Digest::of_key(key);
        let start = self
            .entries
            .partition_point(|(known, _)| known.prefix() < digest.prefix());
        self.entries[start..]
            .iter()
            .take_while(|(known, _)| known.prefix() == digest.prefix())
            .find(|(known, _)| *known == digest)
            .map(|(_, owner)| *owner)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keys({} known)", self.entries.len())
    }
}

/// Two owners have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The owner with the smaller number.
    pub first: usize,
    /// The other one.
    pub second: usize,
}

/// The key that a request brings: `api-key`, `Ocp-Apim-Subscription-Key`, `Authorization: Bearer`,
/// then `subscription-key` and `api-key` of the query. The first that isn't empty decides, so a wrong
/// key in a header is never saved by a right one in the query.
pub fn presented<'a>(headers: &'a dyn Headers, query: &'a str) -> Option<Cow<'a, [u8]>> {
    among(&KEY_HEADERS, headers, query)
}

/// The same for a request whose `Authorization` holds a token and no key.
pub fn presented_beside_token<'a>(
    headers: &'a dyn Headers,
    query: &'a str,
) -> Option<Cow<'a, [u8]>> {
    let others = KEY_HEADERS.split_last().map(|(_, others)| others);
    among(others.unwrap_or_default(), headers, query)
}

fn among<'a>(names: &[&str], headers: &'a dyn Headers, query: &'a str) -> Option<Cow<'a, [u8]>> {
    let in_headers = names.iter().find_map(|name| {
        let value = headers.value(name)?.trim_ascii();
        let key = if *name == AUTHORIZATION {
            bearer(value)?
        } else {
            value
        };
        (!key.is_empty()).then_some(Cow::Borrowed(key))
    });
    in_headers.or_else(|| {
        KEY_PARAMETERS
            .into_iter()
            .find_map(|name| in_query(query, name))
    })
}

/// What follows `Bearer` in a value of `Authorization`.
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let separated = rest.first().is_some_and(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(SCHEME) && separated).then(|| rest.trim_ascii())
}

fn in_query<'a>(query: &'a str, wanted: &str) -> Option<Cow<'a, [u8]>> {
    percent::parameters(query)
        .filter(|(_, name, _)| percent::decode_lossy(name) == wanted)
        .filter_map(|(_, _, value)| percent::decode(value))
        .find(|key| !key.is_empty())
}

fn hex_digit(byte: u8) -> Result<u8, DigestError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(DigestError::Digit),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_key_is_found_by_its_published_digest() {
        let keys = Keys::new(vec![
            (Digest::parse_hex(&ABC.to_uppercase()).unwrap(), 7),
            (Digest::of_key("other"), 8),
            (Digest::of_key("other"), 8),
        ])
        .unwrap();
        assert_eq!(keys.find(b"abc"), Some(7));
        assert_eq!(keys.find(b"other"), Some(8));
        assert_eq!(keys.find(b"abd"), None);
        assert_eq!(keys.find(b""), None);
        assert_eq!(Digest::of_key("abc").to_hex(), ABC);
    }

    #[test]
    fn digests_with_one_prefix_are_told_apart() {
        let mut near = Digest::of_key("abc");
        near.0[31] ^= 1;
        let keys = Keys::new(vec![(near, 1), (Digest::of_key("abc"), 2)]).unwrap();
        assert_eq!(keys.find(b"abc"), Some(2));
        assert_eq!(Keys::new(vec![(near, 1)]).unwrap().find(b"abc"), None);
    }

    #[test]
    fn one_key_has_one_owner() {
        let digest = Digest::of_key("abc");
        let error = Keys::new(vec![(digest, 4), (digest, 2)]).unwrap_err();
        assert_eq!(
            error,
            DuplicateKey {
                first: 2,
                second: 4
            }
        );
    }

    #[test]
    fn a_wrong_digest_is_refused() {
        assert_eq!(
            Digest::parse_hex("ba78"),
            Err(DigestError::Length { found: 4 })
        );
        assert_eq!(
            Digest::parse_hex(&ABC.replace('b', "g")),
            Err(DigestError::Digit)
        );
        assert_eq!(Digest::parse_hex(&"é".repeat(32)), Err(DigestError::Digit));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let keys = Keys::new(vec![(Digest::of_key("abc"), 7)]).unwrap();
        assert_eq!(
            format!("{keys:?} {:?}", Digest::of_key("abc")),
            "Keys(1 known) Digest(..)"
        );
    }

    #[test]
    fn the_first_key_found_decides() {
        let all: &[(&str, &str)] = &[
            ("authorization", "bEaReR  three "),
            ("ocp-apim-subscription-key", "two"),
            ("api-key", "one"),
        ];
        let query = "x=1&api-key=five&subscription-key=four%2B+";
        let key = |headers: &[(&str, &str)], query: &str| {
            presented(&headers, query).map(|key| String::from_utf8(key.into_owned()).unwrap())
        };
        assert_eq!(key(all, query).as_deref(), Some("one"));
        assert_eq!(key(&all[..2], query).as_deref(), Some("two"));
        assert_eq!(key(&all[..1], query).as_deref(), Some("three"));
        assert_eq!(
            key(&[("api-key", ""), ("authorization", "Basic x")], query).as_deref(),
            Some("four++")
        );
        assert_eq!(
            key(&[], "subscription-key=&api%2Dkey=five").as_deref(),
            Some("five")
        );
        assert_eq!(key(&[("authorization", "Bearerx y")], "api-key"), None);
        assert_eq!(key(&[("authorization", "Bearer ")], ""), None);
    }
}
