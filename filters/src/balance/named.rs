//! The ids of what backends hold, as a body names them: the file that a batch reads or has written, the assistant of a run.
//!
//! Found by the names of their fields, however deep these stand, since each operation nests them its own way. An id
//! decides nothing but which backend is asked, so one found in vain costs a look-up. Never keeps a body.

use std::fmt;

use memchr::memmem;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// More ids aren't looked at: they are one backend's, or no backend can serve the call.
pub const MAX_IDS: usize = 4;

/// The fields that hold ids, as texts or arrays of texts.
const FIELDS: [&str; 13] = [
    "file_id",
    "file_ids",
    "input_file_id",
    "output_file_id",
    "error_file_id",
    "result_files",
    "training_file",
    "validation_file",
    "assistant_id",
    "thread_id",
    "vector_store_id",
    "vector_store_ids",
    "container",
];

/// What every text with such a field holds, for a look at memory speed.
const MARKS: [&str; 7] = [
    "file_id",
    "_file\"",
    "_files\"",
    "assistant_id",
    "thread_id",
    "vector_store_id",
    "\"container\"",
];

/// Deeper values aren't looked into; serde's own bound is 128.
const MAX_DEPTH: u32 = 32;

/// The ids in a body, in their order, [`MAX_IDS`] at most; none for what isn't JSON.
pub fn ids_in_body(body: &[u8]) -> Vec<String> {
    let mut ids = Vec::new();
    // An upload isn't looked through.
    if !body.trim_ascii_start().starts_with(b"{") {
        return ids;
    }
    let has = |mark: &&str| memmem::find(body, mark.as_bytes()).is_some();
    if MARKS.iter().any(has) {
        let mut json = serde_json::Deserializer::from_slice(body);
        let search = Search {
            ids: &mut ids,
            is_id: false,
            depth: 0,
        };
        // What was found before a fault is as good as any.
        let _found = search.deserialize(&mut json);
    }
    ids
}

struct Search<'s> {
    ids: &'s mut Vec<String>,
    /// The value is that of a field that holds ids.
    is_id: bool,
    depth: u32,
}

impl Search<'_> {
    fn inner(&mut self, is_id: bool) -> Search<'_> {
        Search {
            ids: self.ids,
            is_id,
            depth: self.depth + 1,
        }
    }

    fn is_over(&self) -> bool {
        self.depth >= MAX_DEPTH || self.ids.len() >= MAX_IDS
    }
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.is_over() {
            true => json.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            false => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let is_id = FIELDS.contains(&field.as_ref());
            map.next_value_seed(self.inner(is_id))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let is_id = self.is_id;
        while items.next_element_seed(self.inner(is_id))?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.is_id && !self.ids.iter().any(|id| id == text) {
            self.ids.push(text.to_owned());
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_found_however_deep_they_stand() {
        for (body, expected) in [
            (
                r#"{"input_file_id":"file-1","endpoint":"/v1/x"}"#,
                vec!["file-1"],
            ),
            (
                r#"{"training_file":"file-1","validation_file":"file-2"}"#,
                vec!["file-1", "file-2"],
            ),
            (
                r#"{"assistant_id":"asst_1","thread":{"messages":[{"attachments":[{"file_id":"file-1"}]}]}}"#,
                vec!["asst_1", "file-1"],
            ),
            (
                r#"{"input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]}"#,
                vec!["file-1"],
            ),
            (
                r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_1","vs_1"]}]}"#,
                vec!["vs_1"],
            ),
            (
                r#"{"tools":[{"container":{"type":"auto","file_ids":["file-1"]}}]}"#,
                vec!["file-1"],
            ),
            (
                r#"{"input":"the file_id is file-1","n":1.5,"x":[null,true,-1]}"#,
                vec![],
            ),
            (r#"{"file_id":7,"file_ids":null}"#, vec![]),
            (r#"{"file_id":"file-1","broken"#, vec!["file-1"]),
            ("", vec![]),
            ("--mark\r\n\r\n{\"file_id\":\"file-1\"}", vec![]),
        ] {
            assert_eq!(ids_in_body(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn no_more_are_taken_than_the_bound_and_depth_has_one() {
        let ids: Vec<String> = (0..100).map(|id| format!("\"file-{id}\"")).collect();
        let body = format!("{{\"file_ids\":[{}]}}", ids.join(","));
        assert_eq!(ids_in_body(body.as_bytes()).len(), MAX_IDS);
        let nested = |depth| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            ids_in_body(format!("{{\"x\":{open}{{\"file_id\":\"a\"}}{close}}}").as_bytes())
        };
        assert_eq!(nested(10), ["a"]);
        assert!(nested(100).is_empty());
        ids_in_body(format!("{{\"file_id\":{}", "[".repeat(1 << 20)).as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(body in prop::collection::vec(any::<u8>(), 0..60)) {
            ids_in_body(&[b"{\"file_id\":".as_slice(), &body].concat());
        }
    }
}
