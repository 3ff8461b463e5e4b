//! A JSON value that keeps the order of its members and borrows its strings from the body.
//!
//! Why not `serde_json::Value`: it sorts members, and the order of a schema's properties decides what the
//! model is shown; and it copies every string, of which an image in a body is megabytes long.
//!
//! Nesting is bounded by `serde_json` (128 levels), so functions here may recurse. The number of values is
//! bounded too: one takes up to 56 bytes and can be written in two, so that a body of 32 MiB could ask for
//! a gigabyte. Never panics.

mod scanned;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// One JSON value.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// Why a body has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Not JSON.
    NotJson,
    /// JSON that has no value here: nested too deep, a number beyond a double, half a character.
    Odd,
    /// More than `MAX_VALUES`.
    TooMany,
}

/// Values in one body: 30 MB of them at most. The largest request that a model takes, embeddings of
/// 300,000 tokens given as numbers, has fewer.
const MAX_VALUES: u32 = 500_000;

/// A list or an object counts for as many values, since it begins with room for four.
const LIST_VALUES: u32 = 4;

/// Reads a whole body.
pub(super) fn parse(body: &[u8]) -> Result<Node<'_>, Unread> {
    // An image in a body is megabytes of text, of which serde looks at each byte. What the scan doesn't take, serde judges.
    let text = std::str::from_utf8(body).map_err(|_| Unread::NotJson)?;
    match scanned::parse(text, MAX_VALUES) {
        Some(node) => Ok(node),
        None => judged(body),
    }
}

/// The same by serde, which knows why where there is none.
fn judged(body: &[u8]) -> Result<Node<'_>, Unread> {
    let left = Cell::new(MAX_VALUES);
    let mut json = serde_json::Deserializer::from_slice(body);
    let node = Values { left: &left }.deserialize(&mut json);
    match node {
        Ok(node) => json.end().map(|()| node).map_err(|_| Unread::NotJson),
        Err(_) if left.get() == 0 => Err(Unread::TooMany),
        Err(_) if is_json(body) => Err(Unread::Odd),
        Err(_) => Err(Unread::NotJson),
    }
}

/// Skips the body without building anything, so that nesting costs no stack.
fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// The body with half characters (`\ud83d` without the other half, as a text has that was cut anywhere) replaced, as a
/// backend does that takes it. Of the same length.
pub(super) fn with_whole_characters(body: &[u8]) -> Vec<u8> {
    let mut whole = body.to_vec();
    let mut at = 0;
    while let Some(found) = body.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        let half = half_character(body, at);
        match (half, half_character(body, at + ESCAPE_BYTES)) {
            (Some(0xD800..0xDC00), Some(0xDC00..)) => at += 2 * ESCAPE_BYTES,
            (Some(_), _) => {
                whole[at..at + ESCAPE_BYTES].copy_from_slice(b"\\ufffd");
                at += ESCAPE_BYTES;
            }
            // An escape is at least a backslash and the character after it.
            (None, _) => at += 2,
        }
    }
    whole
}

/// `\u` and four digits.
const ESCAPE_BYTES: usize = 6;

/// The number of the half character that is written there, if one is.
fn half_character(body: &[u8], at: usize) -> Option<u32> {
    let digits = body.get(at..at + ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    let number = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xD800..0xE000).contains(&number).then_some(number)
}

impl<'a> Node<'a> {
    /// The member of that name, `null` included; the last one where it is written twice.
    pub(super) fn member(&self, name: &str) -> Option<&Node<'a>> {
        let mut members = self.members().iter().rev();
        members.find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The member of that name, unless it is `null`.
    pub(super) fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.member(name)
            .filter(|value| !matches!(value, Node::Null))
    }

    /// The member of that name, if it is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Node::as_text)
    }

    /// The items of the member of that name; none if it isn't a list.
    pub(super) fn list(&self, name: &str) -> &[Node<'a>] {
        self.get(name).map_or(&[], Node::items)
    }

    /// This value, if it is a text.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::List(_) | Node::Object(_) => None,
        }
    }

    /// The items of a list; none of anything else.
    pub(super) fn items(&self) -> &[Node<'a>] {
        match self {
            Node::List(items) => items,
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::Object(_) => &[],
        }
    }

    /// The members of an object, in the order they were written; none of anything else.
    pub(super) fn members(&self) -> &[(Cow<'a, str>, Node<'a>)] {
        match self {
            Node::Object(members) => members,
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::List(_) => &[],
        }
    }

    /// This value as JSON without any space.
    pub(super) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(Spacing::Compact, |_, _| true, &mut out);
        out
    }

    /// Writes this value as JSON, leaving out the members that `keep` refuses.
    pub(super) fn write(&self, spacing: Spacing, keep: Keep, out: &mut String) {
        match self {
            Node::Null => out.push_str("null"),
            Node::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Node::Number(number) => out.push_str(&number.to_string()),
            Node::Text(text) => write_text(text, out),
            Node::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { spacing.comma() } else { "" });
                    item.write(spacing, keep, out);
                }
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                let kept = members.iter().filter(|(key, value)| keep(key, value));
                for (index, (key, value)) in kept.enumerate() {
                    out.push_str(if index > 0 { spacing.comma() } else { "" });
                    write_text(key, out);
                    out.push_str(spacing.colon());
                    value.write(spacing, keep, out);
                }
                out.push('}');
            }
        }
    }
}

/// Whether a member is written.
pub(super) type Keep = fn(&str, &Node<'_>) -> bool;

/// Whether written JSON has a space after `,` and `:`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spacing {
    Compact,
    Spaced,
}

impl Spacing {
    fn comma(self) -> &'static str {
        match self {
            Spacing::Compact => ",",
            Spacing::Spaced => ", ",
        }
    }

    fn colon(self) -> &'static str {
        match self {
            Spacing::Compact => ":",
            Spacing::Spaced => ": ",
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    let quoted =
        serde_json::to_string(text).expect("a text is always written: no map, no number, no I/O");
    out.push_str(&quoted);
}

/// Reads one value, as long as there may be more.
#[derive(Clone, Copy)]
struct Values<'l> {
    left: &'l Cell<u32>,
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = Node<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Node<'de>, D::Error> {
        self.take(1)?;
        from.deserialize_any(self)
    }
}

impl Values<'_> {
    fn take<E: Error>(self, values: u32) -> Result<(), E> {
        let left = self.left.get().saturating_sub(values);
        self.left.set(left);
        match left {
            0 => Err(E::custom("too many values")),
            _ => Ok(()),
        }
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = Node<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'de>, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Node::Null, Node::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node<'de>, A::Error> {
        self.take(LIST_VALUES)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node<'de>, A::Error> {
        self.take(LIST_VALUES)?;
        let mut object = Vec::new();
        while let Some(Key(key)) = members.next_key()? {
            object.push((key, members.next_value_seed(self)?));
        }
        Ok(Node::Object(object))
    }
}

/// A member's name. `Cow` by itself would always be copied.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn written(body: &str, spacing: Spacing) -> String {
        let mut out = String::new();
        parse(body.as_bytes())
            .unwrap()
            .write(spacing, |_, _| true, &mut out);
        out
    }

    #[test]
    fn order_and_values_are_kept() {
        let body = r#"{"z":[1,-2,1.5,null,true],"a":{"q\"\n":"ü"},"m":[]}"#;
        assert_eq!(written(body, Spacing::Compact), body);
        assert_eq!(
            written(r#"{"a":[1,2]}"#, Spacing::Spaced),
            r#"{"a": [1, 2]}"#
        );
    }

    #[test]
    fn the_last_of_two_members_counts() {
        let node = parse(br#"{"a":1,"a":"x"}"#).unwrap();
        assert_eq!(node.text("a"), Some("x"));
    }

    proptest! {
        /// Either way of reading gives the same, whatever is read.
        #[test]
        fn the_scan_reads_what_serde_reads(text in json(), cut in any::<prop::sample::Index>(), is_cut in any::<bool>()) {
            let mut text = text;
            if is_cut && !text.is_empty() {
                text.remove(cut.get(&text.char_indices().collect::<Vec<_>>()).0);
            }
            let both = (scanned::parse(&text, MAX_VALUES), judged(text.as_bytes()));
            match both {
                (Some(scanned), Ok(judged)) => prop_assert_eq!(format!("{scanned:?}"), format!("{judged:?}")),
                (Some(_), Err(why)) => prop_assert!(false, "{text}: {why:?}"),
                // Serde takes up what the scan leaves.
                (None, _) => {}
            }
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "17",
            "-3",
            "1.50",
            "1e3",
            "-2E-2",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775808",
            "-9223372036854775809",
            "1e999",
            "01",
            "1.",
            "\"\"",
            "\"plain text\"",
            "\"\\u00e9\\n\"",
            "\"\u{e4} \u{1f600}\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"a long text that goes on beyond three words of eight bytes \\\\ and an escape\"",
            "\"\t\"",
            "x",
        ]);
        let leaf = leaf.prop_map(str::to_owned);
        leaf.prop_recursive(6, 40, 5, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| format!("[{}]", items.join(" , ")));
            let member = (prop::sample::select(vec!["a", "b", "\\u0061"]), inner);
            let object = prop::collection::vec(member, 0..5).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("\"{name}\" :\n{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            });
            prop_oneof![list, object]
        })
    }

    #[test]
    fn what_is_plain_needs_no_second_reading() {
        for text in [
            "{\"a\":[1,-2,1.5,null,true,false,\"x\\ny\"],\"b\":{}}",
            " [ ] ",
        ] {
            assert!(scanned::parse(text, MAX_VALUES).is_some(), "{text}");
        }
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        for levels in [1, 126, 127, 128, 129] {
            let scanned = scanned::parse(&nested(levels), MAX_VALUES).is_some();
            assert_eq!(
                scanned,
                judged(nested(levels).as_bytes()).is_ok(),
                "{levels}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep.as_bytes()).err(), Some(Unread::NotJson));
        let whole = deep.clone() + &"]".repeat(100_000);
        assert_eq!(parse(whole.as_bytes()).err(), Some(Unread::Odd));
        assert_eq!(parse(b"[1e999]").err(), Some(Unread::Odd));
    }

    #[test]
    fn half_characters_are_replaced_and_nothing_else() {
        for (body, expected) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (
                r#""\uDE00\ud83d\ud83d\ude00x""#,
                r#""\ufffd\ufffd\ud83d\ude00x""#,
            ),
            (
                r#""\\ud83d \\\ud83d \u00e9""#,
                r#""\\ud83d \\\ufffd \u00e9""#,
            ),
            (r#""\ud83d"#, r#""\ufffd"#),
            (r#""\ud8"#, r#""\ud8"#),
            ("\\", "\\"),
        ] {
            let whole = with_whole_characters(body.as_bytes());
            assert_eq!(String::from_utf8(whole).unwrap(), expected, "{body}");
        }
        assert_eq!(parse(br#""\ud83d""#).err(), Some(Unread::Odd));
    }

    #[test]
    fn more_values_than_may_be_are_not_read() {
        let body = |numbers: u32| format!("[{}1]", "1,".repeat(numbers as usize - 1));
        let most = MAX_VALUES - 1 - LIST_VALUES - 1;
        assert!(parse(body(most).as_bytes()).is_ok());
        let unread = parse(body(most + 1).as_bytes()).err();
        assert_eq!(unread, Some(Unread::TooMany));
        let lists = "[[]],".repeat(MAX_VALUES as usize / 10);
        let unread = parse(format!("[{lists}1]").as_bytes()).err();
        assert_eq!(unread, Some(Unread::TooMany));
    }
}
