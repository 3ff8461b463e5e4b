//! Paths by segments: which API has a path, which segments are well-formed, which template fits.
//!
//! Prefixes end at a segment's end, so `/openai` doesn't take `/openai-v2`. APIs are few, so they are
//! tried from the longest to the shortest.

use crate::route::RouteError;
use crate::route::percent;

/// The APIs' paths, each with its API's number.
#[derive(Clone, Debug)]
pub struct ApiPaths {
    /// Longest first; without a trailing slash, so the root is empty.
    paths: Vec<(String, usize)>,
}

/// Two APIs have the same path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicatePath {
    /// The path.
    pub path: String,
    /// The API that has it.
    pub first: usize,
    /// The API that wants it too.
    pub second: usize,
}

impl ApiPaths {
    /// Takes each API's path. A trailing slash means nothing; `/` takes everything that is left.
    ///
    /// # Errors
    /// [`DuplicatePath`] if two are the same.
    pub fn new(paths: Vec<(String, usize)>) -> Result<Self, DuplicatePath> {
        let mut known: Vec<(String, usize)> = Vec::with_capacity(paths.len());
        for (path, second) in paths {
            let path = path.trim_end_matches('/').to_owned();
            if let Some((_, first)) = known.iter().find(|(other, _)| *other == path) {
                return Err(DuplicatePath {
                    first: *first,
                    path,
                    second,
                });
            }
            known.push((path, second));
        }
        known.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Ok(Self { paths: known })
    }

    /// The API with the longest path that `path` is under, and what follows it: empty, or from a `/` on.
    pub fn find<'p>(&self, path: &'p str) -> Option<(usize, &'p str)> {
        self.paths.iter().find_map(|(prefix, api)| {
            let rest = path.strip_prefix(prefix.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then_some((*api, rest))
        })
    }
}

/// Refuses a segment that another server could read otherwise than we do.
pub(crate) fn segment_ok(segment: &str) -> Result<(), RouteError> {
    let bad = |byte: u8| {
        !byte.is_ascii_graphic() || matches!(byte, b'/' | b'\\' | b'?' | b'#' | b'%' | b';')
    };
    if segment.bytes().any(|byte| byte != b'%' && bad(byte)) {
        return Err(RouteError::BadPath);
    }
    let decoded = percent::decode(segment).ok_or(RouteError::BadPath)?;
    let hidden = segment.contains('%')
        && decoded.iter().any(|byte| {
            byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'%' | b';' | b'?' | b'#')
        });
    if hidden || matches!(decoded.as_ref(), b"" | b"." | b"..") {
        return Err(RouteError::BadPath);
    }
    Ok(())
}

/// The same of a name whose slashes may be escaped: whoever takes them for separators still finds good segments.
pub(crate) fn name_ok(name: &str) -> Result<(), RouteError> {
    if !name.contains("%2f") && !name.contains("%2F") {
        return segment_ok(name);
    }
    let plain = name.replace("%2f", "/").replace("%2F", "/");
    plain.split('/').try_for_each(segment_ok)
}

/// True if `path` has the template's segments; `{}` takes any one, the others are judged by `same`.
pub(crate) fn fits(template: &str, path: &str, same: impl Fn(&str, &str) -> bool) -> bool {
    let mut found = path.split('/');
    let all = template.split('/').all(|known| {
        found
            .next()
            .is_some_and(|segment| known == "{}" || same(segment, known))
    });
    all && found.next().is_none()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_path_wins_at_a_segments_end() {
        let paths = ApiPaths::new(vec![
            ("/openai".into(), 0),
            ("/openai/team/".into(), 1),
            ("/v1".into(), 2),
        ])
        .unwrap();
        assert_eq!(paths.find("/openai/v1/chat"), Some((0, "/v1/chat")));
        assert_eq!(paths.find("/openai/team/x"), Some((1, "/x")));
        assert_eq!(paths.find("/openai/teams"), Some((0, "/teams")));
        assert_eq!(paths.find("/openai"), Some((0, "")));
        assert_eq!(paths.find("/openai-v2/x"), None);
        assert_eq!(paths.find("/OpenAI/x"), None);
        let root = ApiPaths::new(vec![("/".into(), 5)]).unwrap();
        assert_eq!(root.find("/anything"), Some((5, "/anything")));
    }

    #[test]
    fn two_apis_cant_share_a_path() {
        let error =
            ApiPaths::new(vec![("/a".into(), 3), ("/b".into(), 4), ("/a/".into(), 5)]).unwrap_err();
        assert_eq!(
            error,
            DuplicatePath {
                path: "/a".into(),
                first: 3,
                second: 5
            }
        );
    }

    proptest! {
        #[test]
        fn the_path_found_and_the_rest_are_the_whole(
            prefixes in proptest::collection::btree_set("(/[ab]{1,2}){0,3}", 1..6), path in "(/[ab]{0,2}){0,5}",
        ) {
            let prefixes: Vec<String> = prefixes.into_iter().collect();
            let numbered = prefixes.iter().cloned().zip(0..).collect();
            let found = ApiPaths::new(numbered).unwrap().find(&path);
            let longest = prefixes
                .iter()
                .filter(|prefix| path == **prefix || path.starts_with(&format!("{prefix}/")))
                .max_by_key(|prefix| prefix.len());
            prop_assert_eq!(found.map(|(api, _)| &prefixes[api]), longest);
            if let Some((api, rest)) = found {
                prop_assert_eq!(format!("{}{rest}", prefixes[api]), path);
            }
        }
    }
}
