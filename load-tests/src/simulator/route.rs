//! Path -> what is asked for and in whose manner.
//!
//! A table of prefixes and operation names, as the documents of the endpoints list them. Whatever isn't in it is
//! answered by an echo, so that no path is an error here.

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Chat,
    Completions,
    Embeddings,
    Responses,
    StoredResponse,
    Models,
    Info,
    Audio,
    Other,
}

impl Operation {
    /// Whether the limits a minute count it.
    pub(crate) fn is_limited(self) -> bool {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings | Self::Responses | Self::Audio => {
                true
            }
            Self::StoredResponse | Self::Models | Self::Info | Self::Other => false,
        }
    }
}

/// In whose manner it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Content filter results, and the first chunk with the prompt's.
    Azure,
    /// As api.openai.com.
    OpenAi,
}

/// A request's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) operation: Operation,
    pub(crate) dialect: Dialect,
    /// The deployment in the path, if there is one.
    pub(crate) deployment: Option<String>,
    /// The last part of the path, for `/responses/{id}`.
    pub(crate) id: Option<String>,
}

/// Reads a path.
pub(crate) fn place(method: &str, path: &str) -> Place {
    let (dialect, deployment, rest) = strip(path);
    let (operation, id) = operation(method, rest);
    Place {
        operation,
        dialect,
        deployment,
        id,
    }
}

fn strip(path: &str) -> (Dialect, Option<String>, &str) {
    if let Some(rest) = path.strip_prefix("/openai/deployments/") {
        let (deployment, rest) = rest.split_once('/').unwrap_or((rest, ""));
        return (Dialect::Azure, Some(deployment.to_owned()), rest);
    }
    for (prefix, dialect) in PREFIXES {
        if let Some(rest) = path.strip_prefix(prefix) {
            return (*dialect, None, rest);
        }
    }
    (Dialect::OpenAi, None, path.trim_start_matches('/'))
}

const PREFIXES: &[(&str, Dialect)] = &[
    ("/openai/v1/", Dialect::Azure),
    ("/openai/", Dialect::Azure),
    ("/v1/", Dialect::OpenAi),
];

fn operation(method: &str, rest: &str) -> (Operation, Option<String>) {
    let rest = rest.trim_end_matches('/');
    let found = match (method, rest) {
        ("POST", "chat/completions" | "models/chat/completions") => Operation::Chat,
        ("POST", "completions") => Operation::Completions,
        ("POST", "embeddings" | "models/embeddings") => Operation::Embeddings,
        ("POST", "responses") => Operation::Responses,
        ("POST", "audio/transcriptions" | "audio/translations") => Operation::Audio,
        ("GET", "models") => Operation::Models,
        ("GET", "info" | "models/info") => Operation::Info,
        (_, rest) => return nested(method, rest),
    };
    (found, None)
}

fn nested(method: &str, rest: &str) -> (Operation, Option<String>) {
    let found = match (method, rest.split_once('/')) {
        ("GET", Some(("responses", id))) => Some((Operation::StoredResponse, id)),
        ("GET", Some(("models", id))) => Some((Operation::Models, id)),
        (_, _) => None,
    };
    match found {
        Some((operation, id)) if !id.contains('/') => (operation, Some(id.to_owned())),
        Some(_) | None => (Operation::Other, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_chat_is_chat() {
        let paths = [
            (
                "/openai/deployments/gpt-4o/chat/completions",
                Dialect::Azure,
                Some("gpt-4o"),
            ),
            ("/openai/v1/chat/completions", Dialect::Azure, None),
            ("/v1/chat/completions", Dialect::OpenAi, None),
            ("/chat/completions", Dialect::OpenAi, None),
            ("/models/chat/completions", Dialect::OpenAi, None),
        ];
        for (path, dialect, deployment) in paths {
            let place = place("POST", path);
            assert_eq!(place.operation, Operation::Chat, "{path}");
            assert_eq!(place.dialect, dialect, "{path}");
            assert_eq!(place.deployment.as_deref(), deployment, "{path}");
        }
    }

    #[test]
    fn an_unknown_path_is_echoed() {
        assert_eq!(place("POST", "/v1/files").operation, Operation::Other);
        assert_eq!(
            place("POST", "/models/embeddings").operation,
            Operation::Embeddings
        );
        assert_eq!(place("GET", "/models/info").operation, Operation::Info);
    }
}
