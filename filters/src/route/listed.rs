//! Operations that a configuration lists itself, by id, method and path: those of an imported document.
//!
//! A document names its operations in its own way, and may have ones that no table here knows. Listing
//! decides two things only: whether a call is offered, and what it is called in metrics, logs and
//! expressions. What a body holds is still read by the table, since the wire is the same. Segments are
//! compared to the letter; whatever spells a known one in another way was refused before (`route::read`).

use std::fmt;

use crate::route::path;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    id: &'static str,
    method: String,
    /// Without a leading or trailing slash; `{}` for a segment that may be anything.
    template: String,
}

/// Why a path is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// It doesn't begin with `/`, or has nothing after it.
    NotAPath,
    /// A segment is empty, a dot segment, or has a character that no path has.
    BadSegment,
    /// A `{name}` isn't a whole segment.
    PartOfSegment,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotAPath => "expected a path below the API's, such as \"/files/{file_id}\"",
            Self::BadSegment => {
                "a segment is empty, a dot segment, or has characters that no path has"
            }
            Self::PartOfSegment => "a {name} has to be a whole segment",
        })
    }
}

impl std::error::Error for TemplateError {}

impl Listed {
    /// An operation of this id. A `{name}` in `path` stands for any one segment.
    ///
    /// # Errors
    /// [`TemplateError`] where no call could ever have such a path.
    pub fn new(id: &'static str, method: &str, path: &str) -> Result<Self, TemplateError> {
        let below = path.strip_prefix('/').ok_or(TemplateError::NotAPath)?;
        let below = below.strip_suffix('/').unwrap_or(below);
        if below.is_empty() {
            return Err(TemplateError::NotAPath);
        }
        let segments: Result<Vec<&str>, _> = below.split('/').map(segment).collect();
        Ok(Self {
            id,
            method: method.to_ascii_uppercase(),
            template: segments?.join("/"),
        })
    }

    /// What it is called.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// The method, in capitals.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// True if `other` is for the same calls.
    pub fn is_same_call(&self, other: &Self) -> bool {
        self.method == other.method && self.template == other.template
    }

    /// How many segments are given to the letter: of two that fit, the one with more is meant.
    pub fn literal_segments(&self) -> usize {
        self.template
            .split('/')
            .filter(|known| *known != "{}")
            .count()
    }

    /// True if a call of this method, of this path below the API's, is this operation.
    pub fn fits(&self, method: &str, rest: &str) -> bool {
        let path = rest.strip_prefix('/').unwrap_or(rest);
        let path = path.strip_suffix('/').unwrap_or(path);
        self.method == method && path::fits(&self.template, path, |found, known| found == known)
    }
}

fn segment(segment: &str) -> Result<&str, TemplateError> {
    let inner = segment
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    match inner {
        Some(name) if !name.contains(['{', '}']) => Ok("{}"),
        Some(_) => Err(TemplateError::PartOfSegment),
        None if segment.contains(['{', '}']) => Err(TemplateError::PartOfSegment),
        None if segment.contains('%') => Err(TemplateError::BadSegment),
        None => path::segment_ok(segment)
            .map(|()| segment)
            .map_err(|_| TemplateError::BadSegment),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_call_fits_by_method_and_segments() {
        let get = Listed::new("Get_Run", "get", "/threads/{thread_id}/runs/{run_id}").unwrap();
        assert!(get.fits("GET", "/threads/t/runs/r"));
        assert!(get.fits("GET", "/threads/t/runs/r/"));
        assert!(!get.fits("POST", "/threads/t/runs/r"));
        assert!(!get.fits("GET", "/threads/t/runs"));
        assert!(!get.fits("GET", "/threads/t/Runs/r"));
        assert!(!get.fits("GET", "/threads/t/runs/r/steps"));
        assert_eq!((get.id(), get.literal_segments()), ("Get_Run", 2));
    }

    #[test]
    fn what_no_call_could_have_is_no_template() {
        let refused = |path: &str| Listed::new("x", "GET", path).unwrap_err();
        assert_eq!(refused("files"), TemplateError::NotAPath);
        assert_eq!(refused("/"), TemplateError::NotAPath);
        assert_eq!(refused("/files//x"), TemplateError::BadSegment);
        assert_eq!(refused("/files/../x"), TemplateError::BadSegment);
        assert_eq!(refused("/files/a%20b"), TemplateError::BadSegment);
        assert_eq!(refused("/files/{id}.json"), TemplateError::PartOfSegment);
        assert_eq!(refused("/files/{a}{b}"), TemplateError::PartOfSegment);
    }
}
