//! Reads JSON from backends without insisting on types.
//!
//! A field of another type than expected counts as absent, so one odd field can't hide the usage beside it. Servers that
//! speak "OpenAI" differ in such details: `null` for a list, `14.0` for a count, parts for a text. To be named in
//! `#[serde(deserialize_with = "...")]`; strings are borrowed where they hold no escape.
//!
//! Never here: leniency towards what isn't JSON. That fails, and its reader falls back.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A string.
pub(crate) fn text<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    read(json)
}

/// A number that isn't negative. A fraction is rounded, a larger one than `u64` holds is cut to it.
pub(crate) fn count<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u64>, D::Error> {
    read(json)
}

/// An object; anything else is the default.
pub(crate) fn object<'de, D, T>(json: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let Object(object) = read(json)?;
    Ok(object)
}

/// A list of objects; absent for anything else.
pub(crate) fn list<'de, D, T>(json: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let List(list) = read(json)?;
    Ok(list)
}

/// Whether there is something: an object or list with something in it, a string with a character, a number, `true`.
pub(crate) fn presence<'de, D: Deserializer<'de>>(json: D) -> Result<bool, D::Error> {
    let Presence(presence) = read(json)?;
    Ok(presence)
}

/// A value of JSON, taken if it has the wanted type; of any other, the default.
trait Wanted<'de>: Default {
    fn from_text(_: Cow<'de, str>) -> Self {
        Self::default()
    }

    fn from_count(_: u64) -> Self {
        Self::default()
    }

    fn from_truth(_: bool) -> Self {
        Self::default()
    }

    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl<'de> Wanted<'de> for Option<Cow<'de, str>> {
    fn from_text(text: Cow<'de, str>) -> Self {
        Some(text)
    }
}

impl Wanted<'_> for Option<u64> {
    fn from_count(count: u64) -> Self {
        Some(count)
    }
}

#[derive(Default)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de> + Default> Wanted<'de> for Object<T> {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Self)
    }
}

struct List<T>(Option<Vec<T>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de> + Default> Wanted<'de> for List<T> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut items = Vec::new();
        while let Some(Lenient(Object(item), _)) = list.next_element()? {
            items.push(item);
        }
        Ok(Self(Some(items)))
    }
}

#[derive(Default)]
struct Presence(bool);

impl<'de> Wanted<'de> for Presence {
    fn from_text(text: Cow<'de, str>) -> Self {
        Self(!text.is_empty())
    }

    fn from_count(_: u64) -> Self {
        Self(true)
    }

    fn from_truth(truth: bool) -> Self {
        Self(truth)
    }

    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut presence = false;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            presence = true;
        }
        Ok(Self(presence))
    }

    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut presence = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            presence = true;
        }
        Ok(Self(presence))
    }
}

fn read<'de, D: Deserializer<'de>, W: Wanted<'de>>(json: D) -> Result<W, D::Error> {
    Lenient::deserialize(json).map(|Lenient(wanted, _)| wanted)
}

struct Lenient<'de, W>(W, PhantomData<&'de ()>);

impl<'de, W: Wanted<'de>> Deserialize<'de> for Lenient<'de, W> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let wanted = json.deserialize_any(WantedVisitor(PhantomData))?;
        Ok(Self(wanted, PhantomData))
    }
}

struct WantedVisitor<W>(PhantomData<W>);

impl<'de, W: Wanted<'de>> Visitor<'de> for WantedVisitor<W> {
    type Value = W;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<W, E> {
        Ok(W::default())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<W, E> {
        Ok(W::from_truth(truth))
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<W, E> {
        Ok(W::from_count(count))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<W, E> {
        Ok(u64::try_from(number).map_or_else(|_| W::default(), W::from_count))
    }

    // `as` cuts at the ends of the range.
    fn visit_f64<E: Error>(self, number: f64) -> Result<W, E> {
        Ok(if number >= 0.0 {
            W::from_count(number.round() as u64)
        } else {
            W::default()
        })
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<W, E> {
        Ok(W::from_text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<W, E> {
        Ok(W::from_text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<W, A::Error> {
        W::from_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<W, A::Error> {
        W::from_list(list)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Sample<'a> {
        #[serde(borrow, deserialize_with = "text")]
        text: Option<Cow<'a, str>>,
        #[serde(deserialize_with = "count")]
        count: Option<u64>,
        #[serde(borrow, deserialize_with = "list")]
        list: Option<Vec<Sample<'a>>>,
        #[serde(deserialize_with = "presence")]
        presence: bool,
    }

    fn sample(json: &str) -> Sample<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_value_of_another_type_counts_as_absent() {
        for odd in ["null", "true", "-1", "-1.5", "{\"a\":[1]}", "[{\"a\":1}]"] {
            assert_eq!(sample(&format!("{{\"text\":{odd}}}")).text, None, "{odd}");
            assert_eq!(sample(&format!("{{\"count\":{odd}}}")).count, None, "{odd}");
        }
        assert!(sample("{\"list\":{\"a\":1}}").list.is_none());
        assert_eq!(
            sample("{\"list\":[null,3,{\"count\":14.0}]}").list.unwrap()[2].count,
            Some(14)
        );
        assert_eq!(sample("{\"count\":1e30}").count, Some(u64::MAX));
    }

    #[test]
    fn a_string_is_borrowed_unless_it_holds_an_escape() {
        assert!(matches!(
            sample("{\"text\":\"a\"}").text,
            Some(Cow::Borrowed("a"))
        ));
        assert_eq!(sample("{\"text\":\"\\u0061\"}").text.as_deref(), Some("a"));
    }

    #[test]
    fn nothing_at_all_is_told_from_something() {
        for nothing in ["null", "false", "\"\"", "{}", "[]"] {
            assert!(
                !sample(&format!("{{\"presence\":{nothing}}}")).presence,
                "{nothing}"
            );
        }
        for something in ["true", "0", "\"a\"", "{\"a\":null}", "[null]"] {
            assert!(
                sample(&format!("{{\"presence\":{something}}}")).presence,
                "{something}"
            );
        }
    }
}
