//! The names that expressions know, and the nearest one to a name that they don't.
//!
//! A plain table: adding a name means a line here, a variant in `scope` and a line in the manual.

use crate::expression::Place;
use crate::expression::scope::Known;

/// What kind of value an expression gives, as far as it can be told before there is a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Truth,
    Number,
    List,
    Null,
    /// A root such as `request`: only its fields can be asked for.
    Object(&'static Root),
    /// A map with free keys.
    Map(Known),
    /// Known only at run time: a claim, or what follows from one.
    Any,
}

impl Kind {
    /// In words, for a message.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Truth => "true or false".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::List => "a list".to_owned(),
            Self::Null => "null or bytes".to_owned(),
            Self::Object(root) => format!("the whole of `{}`", root.name),
            Self::Map(_) => "a map".to_owned(),
            Self::Any => "any value".to_owned(),
        }
    }
}

/// A name that an expression may begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [(&'static str, Known, Kind)],
    pub(crate) since: Place,
}

/// Every root but `jwt`, whose fields are the token's own.
pub(crate) static ROOTS: [Root; 8] = [
    Root {
        name: "request",
        fields: &[
            ("ip", Known::RequestIp, Kind::Text),
            ("method", Known::RequestMethod, Kind::Text),
            ("path", Known::RequestPath, Kind::Text),
            (
                "headers",
                Known::RequestHeaders,
                Kind::Map(Known::RequestHeaders),
            ),
            ("query", Known::RequestQuery, Kind::Map(Known::RequestQuery)),
            ("model", Known::RequestModel, Kind::Text),
            ("stream", Known::RequestStream, Kind::Truth),
        ],
        since: Place::Request,
    },
    Root {
        name: "subscription",
        fields: &[
            ("id", Known::SubscriptionId, Kind::Text),
            (
                "attributes",
                Known::SubscriptionAttributes,
                Kind::Map(Known::SubscriptionAttributes),
            ),
        ],
        since: Place::Request,
    },
    Root {
        name: "product",
        fields: &[("id", Known::ProductId, Kind::Text)],
        since: Place::Request,
    },
    Root {
        name: "api",
        fields: &[("id", Known::ApiId, Kind::Text)],
        since: Place::Request,
    },
    Root {
        name: "operation",
        fields: &[("id", Known::OperationId, Kind::Text)],
        since: Place::Request,
    },
    Root {
        name: "gateway",
        fields: &[
            ("id", Known::GatewayId, Kind::Text),
            ("location", Known::GatewayLocation, Kind::Text),
        ],
        since: Place::Request,
    },
    Root {
        name: "backend",
        fields: &[("id", Known::BackendId, Kind::Text)],
        since: Place::Answer,
    },
    Root {
        name: "response",
        fields: &[("status", Known::ResponseStatus, Kind::Number)],
        since: Place::Answer,
    },
];

/// The root whose fields are free.
pub(crate) const CLAIMS: &str = "jwt";

/// The functions that may be called. None costs more than its input is long; `matches` isn't among
/// them, since the library compiles its regular expression anew on every call.
pub(crate) const FUNCTIONS: [&str; 8] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "string",
    "int",
    "uint",
    "double",
];

impl Root {
    /// The root of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Root> {
        ROOTS.iter().find(|root| root.name == name)
    }

    /// The field of that name, and its kind.
    pub(crate) fn field(&self, name: &str) -> Option<(Known, Kind)> {
        self.fields
            .iter()
            .find(|(field, ..)| *field == name)
            .map(|(_, known, kind)| (*known, *kind))
    }
}

/// `; did you mean ...?` with the nearest of `known`, or the list of them if none is near.
pub(crate) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let nearest = known
        .iter()
        .map(|candidate| (distance(name, candidate), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3);
    match nearest {
        Some((_, candidate)) => format!("; did you mean `{candidate}`?"),
        None => format!("; known are {}", known.join(", ")),
    }
}

/// The number of letters to insert, drop or change. The names are short and the configuration's own;
/// a longer text than any known name is far from all of them without being looked at.
fn distance(left: &str, right: &str) -> usize {
    const LONGEST: usize = 40;
    if left.len() > LONGEST {
        return left.len();
    }
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in right.iter().enumerate() {
            let change = diagonal + usize::from(!letter.eq_ignore_ascii_case(other));
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_offered_and_a_far_one_gets_the_list() {
        let known = || ["id", "attributes"].into_iter();
        assert_eq!(suggestion("idd", known()), "; did you mean `id`?");
        assert_eq!(
            suggestion("atributs", known()),
            "; did you mean `attributes`?"
        );
        assert_eq!(suggestion("zzz", known()), "; known are id, attributes");
        assert_eq!(
            suggestion(&"x".repeat(5000), known()),
            "; known are id, attributes"
        );
    }
}
