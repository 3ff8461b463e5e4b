//! Which API a path belongs to, and what it asks there.
//!
//! Reading is strict, because an operation that is spelled another way would slip past an allow-list
//! or past metering: dot segments, empty segments, encoded separators, double encoding, and known
//! names in other letters (`Chat/Completions`, `ch%61t/completions`, `post`) are refused, never repaired. So
//! what goes upstream is exactly what was matched. One trailing slash means the same as none and isn't
//! passed on. A slash may be escaped in one place, the name of a model that is shown. What isn't known is `other` and passes. It decides nothing about models or backends;
//! `route/upstream.rs` writes the path that a backend gets.

mod listed;
mod operations;
mod path;
pub(crate) mod percent;
mod upstream;

use std::borrow::Cow;
use std::fmt;

pub use crate::route::listed::{Listed, TemplateError};
use crate::route::operations::{Model, OTHER, Operation};
pub use crate::route::path::{ApiPaths, DuplicatePath};
pub use crate::route::upstream::{NamesModel, Target, Upstream, upstream};

/// How an API is called, or a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schema {
    /// Deployments in the path and an `api-version`, or `/v1` and the model in the body.
    AzureOpenAi,
    /// The model in the body.
    OpenAi,
    /// The model in the body, and an `api-version`.
    AzureAiInference,
}

impl Schema {
    /// Every schema.
    pub const ALL: [Self; 3] = [Self::AzureOpenAi, Self::OpenAi, Self::AzureAiInference];

    /// The schema of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|schema| schema.as_str() == name)
    }

    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AzureOpenAi => "azure-openai",
            Self::OpenAi => "openai",
            Self::AzureAiInference => "azure-ai-inference",
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What the body and the answer of an operation look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `POST chat/completions`.
    Chat,
    /// `POST completions`.
    Completions,
    /// `POST embeddings`.
    Embeddings,
    /// `POST responses`.
    Responses,
    /// Anything else: carried, not understood.
    Other,
}

/// How an `azure-openai` caller named the operation. The other schemas know [`Form::Bare`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `/deployments/{deployment}/{operation}`
    Deployment,
    /// `/v1/{operation}`
    V1,
    /// `/{operation}`
    Bare,
}

/// What a request asks, read from its method, path and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// The operation's id, or `other`.
    pub operation: &'static str,
    /// What its body looks like.
    pub shape: Shape,
    /// How an Azure caller named it.
    pub form: Form,
    /// The deployment or model that is named outside the body, decoded: in the path, or in the query
    /// of a WebSocket.
    pub deployment: Option<Cow<'a, str>>,
    /// The path of the operation without a leading or trailing slash: `chat/completions`.
    pub tail: &'a str,
    /// The query as sent, without the `?`.
    pub query: &'a str,
    /// True if the body is where a model would be named.
    pub model_in_body: bool,
    /// True if the operation also works without a model.
    pub model_optional: bool,
}

/// Why a path can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// There is nothing at this path: a known operation in another spelling, another schema's form, or a method that is
    /// nobody's.
    NotFound,
    /// The path is malformed.
    BadPath,
}

impl fmt::Display for RouteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotFound => "no such operation at this path",
            Self::BadPath => {
                "the path has an empty or dot segment, a backslash, an encoded separator or an invalid escape"
            }
        })
    }
}

impl std::error::Error for RouteError {}

/// Reads what `rest`, the path below an API's own, asks for.
///
/// # Errors
/// [`RouteError`] where the path is malformed, or spells a known operation in another way.
pub fn read<'a>(
    schema: Schema,
    method: &'a str,
    rest: &'a str,
    query: &'a str,
) -> Result<Call<'a>, RouteError> {
    let path = rest.strip_prefix('/').unwrap_or(rest);
    let path = path.strip_suffix('/').unwrap_or(path);
    // A server answers TRACE with what it got: the backend's credential, to the caller.
    // And a method in lower case is another one, which some servers take for the known one all the same.
    let is_shouted = !method.bytes().any(|byte| byte.is_ascii_lowercase());
    if path.is_empty() || method == "TRACE" || !is_shouted {
        return Err(RouteError::NotFound);
    }
    match model_shown(schema, method, path) {
        Some((before, model)) => {
            before.split('/').try_for_each(path::segment_ok)?;
            path::name_ok(model)?;
        }
        None => path.split('/').try_for_each(path::segment_ok)?,
    }
    let (form, deployment, tail) = split_form(schema, path)?;
    let known = find_operation(schema, method, tail)?;
    let model = known.map_or_else(|| unknown_model(method), |operation| operation.model);
    let deployment = match (deployment, model) {
        (None, Model::Query) => model_in_query(query),
        (deployment, Model::Body | Model::MaybeBody | Model::Query | Model::Nowhere) => deployment,
    };
    let in_body = matches!(model, Model::Body | Model::MaybeBody) && form != Form::Deployment;
    Ok(Call {
        method,
        operation: known.map_or(OTHER, |operation| operation.id),
        shape: known.map_or(Shape::Other, |operation| operation.shape),
        form,
        deployment,
        tail,
        query,
        model_in_body: in_body,
        model_optional: model != Model::Body,
    })
}

/// A percent-encoded text as it is meant; absent if an escape is wrong or it isn't UTF-8.
pub fn decoded(text: &str) -> Option<Cow<'_, str>> {
    percent::decode_text(text)
}

/// A text so that it is one value of a query or a form, whatever it holds.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    percent::encode_into(&mut encoded, text);
    encoded
}

/// The ids of every operation of a schema, and `other`.
pub fn operations(schema: Schema) -> &'static [&'static str] {
    operations::ids(schema)
}

/// True if the operation is a WebSocket, which is carried as raw bytes after its upgrade.
pub fn is_websocket_operation(operation: &str) -> bool {
    matches!(operation, "realtime" | "responses-websocket")
}

/// Where one model is asked for by its name, what stands before that and the name: as a client writes it, with its slash
/// escaped. Nothing is used or changed by it, and whatever it names was readable with a slash as it is.
fn model_shown<'p>(schema: Schema, method: &str, path: &'p str) -> Option<(&'p str, &'p str)> {
    let (before, name) = path.rsplit_once('/')?;
    let is_shown = method == "GET"
        && match schema {
            Schema::AzureOpenAi => matches!(before, "models" | "v1/models"),
            Schema::OpenAi => before == "models",
            Schema::AzureAiInference => false,
        };
    is_shown.then_some((before, name))
}

type Split<'a> = (Form, Option<Cow<'a, str>>, &'a str);

fn split_form(schema: Schema, path: &str) -> Result<Split<'_>, RouteError> {
    let (first, after) = path.split_once('/').unwrap_or((path, ""));
    let split = match (schema, first) {
        (Schema::AzureOpenAi, "deployments") if !after.is_empty() => {
            let (name, tail) = after.split_once('/').unwrap_or((after, ""));
            let name = percent::decode_text(name).ok_or(RouteError::BadPath)?;
            (Form::Deployment, Some(name), tail)
        }
        (Schema::AzureOpenAi, "deployments") => return Ok((Form::Bare, None, path)),
        (Schema::AzureOpenAi, "v1") => (Form::V1, None, after),
        (Schema::AzureOpenAi | Schema::OpenAi | Schema::AzureAiInference, _) => {
            (Form::Bare, None, path)
        }
    };
    // A form inside a form, or another schema's: carried on as it is, it could name a metered
    // operation unseen.
    let first = split.2.split('/').next().unwrap_or_default();
    if first.is_empty() || spells_any(first, &["deployments", "v1", "openai"]) {
        return Err(RouteError::NotFound);
    }
    Ok(split)
}

fn spells_any(segment: &str, names: &[&str]) -> bool {
    let decoded = percent::decode_lossy(segment);
    names.iter().any(|name| decoded.eq_ignore_ascii_case(name))
}

fn find_operation(
    schema: Schema,
    method: &str,
    tail: &str,
) -> Result<Option<&'static Operation>, RouteError> {
    let table = operations::table(schema);
    // `responses/Compact` fits `responses/{}` to the letter and is still another spelling.
    if misspells(table, tail) {
        return Err(RouteError::NotFound);
    }
    let first = tail.as_bytes().first();
    Ok(table
        .iter()
        .filter(|operation| operation.template.as_bytes().first() == first)
        .filter(|operation| operation.method == method)
        .find(|operation| path::fits(operation.template, tail, is_spelled)))
}

/// True if the path is a known one but for its letters' case or encoding.
fn misspells(table: &[Operation], tail: &str) -> bool {
    // Most paths are spelled right, in lower case without escapes: nothing to compare then.
    if !tail
        .bytes()
        .any(|byte| byte.is_ascii_uppercase() || byte == b'%')
    {
        return false;
    }
    let plain = percent::decode_lossy(tail).to_ascii_lowercase();
    let first = plain.as_bytes().first();
    table
        .iter()
        .filter(|operation| operation.template.as_bytes().first() == first)
        .filter(|operation| path::fits(operation.template, &plain, is_spelled))
        .any(|operation| !path::fits(operation.template, tail, is_spelled))
}

fn is_spelled(found: &str, known: &str) -> bool {
    found == known
}

/// An unknown operation may name a model in its body, which then has to be allowed to its caller.
fn unknown_model(method: &str) -> Model {
    match method {
        "GET" | "HEAD" | "DELETE" | "OPTIONS" => Model::Nowhere,
        _ => Model::MaybeBody,
    }
}

fn model_in_query(query: &str) -> Option<Cow<'_, str>> {
    percent::parameters(query)
        .find(|(_, name, value)| upstream::names_model(name) && !value.is_empty())
        .and_then(|(_, _, value)| percent::decode_text(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn azure(method: &'static str, rest: &'static str) -> Result<Call<'static>, RouteError> {
        read(Schema::AzureOpenAi, method, rest, "")
    }

    #[test]
    fn an_azure_caller_names_an_operation_in_three_forms() {
        let call = azure("POST", "/deployments/gpt%2d4o/chat/completions").unwrap();
        assert_eq!(
            (call.operation, call.shape, call.form),
            ("chat-completions", Shape::Chat, Form::Deployment)
        );
        assert_eq!(
            (call.deployment.as_deref(), call.tail),
            (Some("gpt-4o"), "chat/completions")
        );
        assert!(!call.model_in_body);

        let call = azure("POST", "/v1/responses/").unwrap();
        assert_eq!(
            (call.operation, call.shape, call.form),
            ("responses", Shape::Responses, Form::V1)
        );
        assert!(call.model_in_body && !call.model_optional);
        assert_eq!(call.tail, "responses");

        let call = azure("GET", "/responses/resp_A1/input_items").unwrap();
        assert_eq!(
            (call.operation, call.shape, call.form),
            ("responses-input-items", Shape::Other, Form::Bare)
        );
        assert!(!call.model_in_body);
    }

    #[test]
    fn the_method_decides_what_a_path_is() {
        assert_eq!(
            azure("GET", "/v1/chat/completions").unwrap().shape,
            Shape::Other
        );
        assert_eq!(
            azure("DELETE", "/v1/responses/r").unwrap().operation,
            "responses-delete"
        );
        assert_eq!(azure("PUT", "/v1/embeddings").unwrap().operation, OTHER);
        assert_eq!(
            azure("POST", "/v1/responses/compact").unwrap().operation,
            "responses-compact"
        );
    }

    #[test]
    fn what_is_not_known_passes_as_other() {
        let call = azure("POST", "/deployments/d/extensions/chat/completions").unwrap();
        assert_eq!((call.operation, call.shape), (OTHER, Shape::Other));
        let call = read(Schema::OpenAi, "POST", "/something/new", "").unwrap();
        assert!(call.model_in_body && call.model_optional);
    }

    #[test]
    fn a_websocket_names_its_model_in_the_query() {
        let call = read(
            Schema::AzureOpenAi,
            "GET",
            "/realtime",
            "api-version=V&deployment=gpt%20rt",
        )
        .unwrap();
        assert_eq!(call.deployment.as_deref(), Some("gpt rt"));
        assert!(is_websocket_operation(call.operation));
    }

    #[test]
    fn no_other_spelling_of_a_known_operation_gets_through() {
        for rest in [
            "/v1/Chat/Completions",
            "/v1/chat/completion%73",
            "/v1/CHAT/completions",
            "/V1/chat/completions",
            "/Deployments/d/chat/completions",
            "/%64eployments/d/chat/completions",
            "/openai/v1/chat/completions",
            "/v1/v1/chat/completions",
            "/v1/deployments/d/chat/completions",
            "/deployments/a/deployments/b/embeddings",
            "/v1/Responses/resp_1",
            "/v1/responses/Compact",
        ] {
            assert_eq!(azure("POST", rest), Err(RouteError::NotFound), "{rest}");
        }
        for method in ["post", "Post", "pOST"] {
            let read = azure(method, "/v1/chat/completions");
            assert_eq!(read, Err(RouteError::NotFound), "{method}");
        }
        for rest in [
            "/v1/chat/completions",
            "/deployments/d/chat/completions",
            "/openai/x",
        ] {
            assert_eq!(
                read(Schema::OpenAi, "POST", rest, ""),
                Err(RouteError::NotFound),
                "{rest}"
            );
        }
    }

    #[test]
    fn a_path_that_two_servers_could_read_differently_is_refused() {
        for rest in [
            "/v1/../chat/completions",
            "/v1/%2e%2E/chat",
            "/v1/./x",
            "/v1/%2e",
            "/v1//chat/completions",
            "//v1",
            "/v1/chat%2fcompletions",
            "/v1/chat%5Ccompletions",
            "/v1/chat\\completions",
            "/v1/chat/completions//",
            "/v1/ch%2561t/completions",
            "/v1/chat;x/completions",
            "/v1/chat%3Bx",
            "/v1/files/%00",
            "/v1/files/a%0ab",
            "/deployments/a%2fb/embeddings",
            "/deployments/a%zz/embeddings",
            "/deployments/a%/embeddings",
            "/deployments/%ff/embeddings",
            "/deployments//embeddings",
            "/v1/files/a b",
            "/v1/files/\u{e9}",
            "/v1/a?b",
        ] {
            assert_eq!(azure("POST", rest), Err(RouteError::BadPath), "{rest}");
        }
        assert_eq!(azure("POST", ""), Err(RouteError::NotFound));
        assert_eq!(azure("POST", "/"), Err(RouteError::NotFound));
    }

    #[test]
    fn a_models_name_may_hold_an_escaped_slash_where_it_is_asked_for() {
        for (schema, path) in [
            (Schema::OpenAi, "/models/meta-llama%2FLlama-3.1-8B"),
            (Schema::AzureOpenAi, "/v1/models/a%2fb%2Fc"),
            (Schema::AzureOpenAi, "/models/a%2Fb"),
        ] {
            let call = read(schema, "GET", path, "").unwrap();
            assert_eq!(call.operation, "models-get", "{path}");
            assert!(path.ends_with(call.tail), "{}", call.tail);
        }
        for path in [
            "/models/..%2fchat",
            "/models/a%2f..%2fb",
            "/models/a%2F%2e%2e",
            "/models/a%2F.",
            "/models/a%252fb",
            "/models/a%2f%252e%252e",
            "/models/%2fa",
            "/models/a%2f",
            "/models/a%2f%2fb",
            "/models/a%2fb%5cc",
            "/models/a%2fb%00",
            "/models/a%2fb;c",
            "/models/a%2",
            "/models%2fa",
            "/models/a%2fb/c",
            "/files/a%2fb",
            "/files/models/a%2fb",
        ] {
            let read = read(Schema::OpenAi, "GET", path, "");
            assert_eq!(read, Err(RouteError::BadPath), "{path}");
        }
        for (schema, method) in [
            (Schema::OpenAi, "POST"),
            (Schema::OpenAi, "DELETE"),
            (Schema::AzureAiInference, "GET"),
        ] {
            let read = read(schema, method, "/models/a%2fb", "");
            assert_eq!(read, Err(RouteError::BadPath), "{method}");
        }
    }

    #[test]
    fn ids_name_one_operation_each() {
        for schema in Schema::ALL {
            let mut ids = operations(schema).to_vec();
            assert!(ids.contains(&"chat-completions") && ids.contains(&OTHER));
            ids.sort_unstable();
            let count = ids.len();
            ids.dedup();
            assert_eq!(ids.len(), count);
            assert_eq!(Schema::parse(schema.as_str()), Some(schema));
        }
    }

    #[test]
    fn every_line_of_the_tables_is_reached_by_its_own_path() {
        for schema in Schema::ALL {
            for line in operations::table(schema) {
                let path = format!("/{}", line.template.replace("{}", "Id_1"));
                let call = read(schema, line.method, &path, "").unwrap();
                assert_eq!(call.operation, line.id, "{} {path}", line.method);
            }
        }
    }

    fn path_strategy() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            Just("chat".to_owned()),
            Just("completions".to_owned()),
            Just("v1".to_owned()),
            Just("deployments".to_owned()),
            Just("CHAT".to_owned()),
            Just("%63hat".to_owned()),
            Just("..".to_owned()),
            Just("%2e".to_owned()),
            Just("responses".to_owned()),
            Just(String::new()),
            "[ -~]{0,6}",
            any::<String>(),
        ];
        proptest::collection::vec(segment, 0..6)
            .prop_map(|segments| format!("/{}", segments.join("/")))
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_never_lets_a_chat_call_by(path in path_strategy(), query in any::<String>(), model in "[./a%]{0,3}") {
            for schema in Schema::ALL {
                let Ok(call) = read(schema, "POST", &path, &query) else { continue };
                let decoded = percent::decode_lossy(call.tail).to_ascii_lowercase();
                if decoded == "chat/completions" {
                    prop_assert_eq!(call.shape, Shape::Chat);
                    prop_assert_eq!(call.tail, "chat/completions");
                }
                for backend in Schema::ALL {
                    let target = Target {
                        caller: schema, backend, base_path: "", model: Some(&model),
                        api_version: None, default_api_version: "V",
                    };
                    let sent = upstream(&call, &target).path_and_query;
                    let (sent_path, _) = sent.split_once('?').unwrap_or((&sent, ""));
                    prop_assert!(sent_path.starts_with('/'));
                    prop_assert!(!sent_path[1..].split('/').any(|segment| matches!(segment, "" | "." | "..")), "{}", sent);
                }
            }
        }
    }
}
