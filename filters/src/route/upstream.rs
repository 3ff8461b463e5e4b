//! The path and query that a backend gets, from any schema to any schema.
//!
//! Three decisions, each on its own: where the operation stands (deployments, v1, bare), which
//! `api-version` it gets, and which of the caller's parameters go along. The caller's `api-version` is
//! kept only where both speak the same schema, since it means nothing elsewhere; the backend's own
//! always wins, but for a dated one on Azure's v1 form, which takes `preview` and the like only: one
//! backend serves callers of both forms.
//! Gateway keys never go upstream; every other parameter does, byte for byte and in order.

use std::borrow::Cow;

use crate::auth::KEY_PARAMETERS;
use crate::route::operations::UNDER_DEPLOYMENTS;
use crate::route::{Call, Form, Schema, Shape, is_websocket_operation, percent};

/// The first dated version of Azure OpenAI that takes `stream_options`.
const FIRST_WITH_STREAM_OPTIONS: &str = "2024-09-01";

/// Where a call goes, as far as its path depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The schema that the caller speaks.
    pub caller: Schema,
    /// The schema that the backend speaks.
    pub backend: Schema,
    /// The path of the backend's URL; may be empty, may end in `/`, and may hold the schema's own base.
    pub base_path: &'a str,
    /// The deployment's or model's name at the backend, where the call has a model.
    pub model: Option<&'a str>,
    /// The backend's own `api-version`.
    pub api_version: Option<&'a str>,
    /// The `api-version` where neither the backend nor the caller has one.
    pub default_api_version: &'a str,
}

/// Where the model is named upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesModel {
    /// In the path or the query, as written here.
    InPath,
    /// In the body: the gateway has to see to it that `model` there is the target's.
    InBody,
    /// The operation has no model, or none is known.
    Nowhere,
}

/// What is asked of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Path and query, ready to be sent.
    pub path_and_query: String,
    /// Where the model is named.
    pub names_model: NamesModel,
    /// True if `stream_options.include_usage` is understood there.
    pub takes_include_usage: bool,
}

/// The path, query and abilities of `call` at `target`.
pub fn upstream(call: &Call<'_>, target: &Target<'_>) -> Upstream {
    let place = place(call, target);
    let version = version(call, target, place);
    let mut out = base(target, place);
    if let Place::Deployment(name) = place {
        out.push_str("/deployments/");
        percent::encode_into(&mut out, name);
    }
    if !call.tail.is_empty() {
        out.push('/');
        out.push_str(call.tail);
    }
    append_query(&mut out, call, target, place, version.as_deref());
    Upstream {
        path_and_query: out,
        names_model: names_model_where(call, target, place),
        takes_include_usage: takes_include_usage(call, place, version.as_deref()),
    }
}

/// True for the parameters by which a WebSocket names its model.
pub(crate) fn names_model(parameter: &str) -> bool {
    matches!(parameter, "model" | "deployment")
}

/// Where an operation stands at the backend.
#[derive(Clone, Copy)]
enum Place<'a> {
    OpenAi,
    Inference,
    Deployment(&'a str),
    AzureV1,
    AzureBare,
}

fn place<'a>(call: &'a Call<'_>, target: &Target<'a>) -> Place<'a> {
    let named = target.model.or(call.deployment.as_deref());
    match (target.backend, target.caller, call.form) {
        (Schema::OpenAi, ..) => Place::OpenAi,
        (Schema::AzureAiInference, ..) => Place::Inference,
        (Schema::AzureOpenAi, Schema::AzureOpenAi, Form::Deployment) => {
            named.map_or(Place::AzureBare, in_path)
        }
        (Schema::AzureOpenAi, Schema::AzureOpenAi, Form::V1) => Place::AzureV1,
        (Schema::AzureOpenAi, Schema::AzureOpenAi, Form::Bare) => Place::AzureBare,
        (Schema::AzureOpenAi, Schema::OpenAi | Schema::AzureAiInference, _) => match target.model {
            Some(model) if call.method == "POST" && UNDER_DEPLOYMENTS.contains(&call.tail) => {
                in_path(model)
            }
            Some(_) | None => Place::AzureV1,
        },
    }
}

/// A name goes into the path only if no server can read it as more than one segment: an OpenAI caller
/// writes it into the body freely, and `..` is a fine text there. Others are named in the body.
fn in_path(name: &str) -> Place<'_> {
    let splits = |byte: u8| matches!(byte, b'/' | b'\\' | b'%' | b';') || byte.is_ascii_control();
    if matches!(name, "" | "." | "..") || name.bytes().any(splits) {
        return Place::AzureV1;
    }
    Place::Deployment(name)
}

fn version<'a>(call: &Call<'a>, target: &Target<'a>, place: Place<'_>) -> Option<Cow<'a, str>> {
    let own = target.api_version.map(encoded);
    let callers = || {
        (target.caller == target.backend)
            .then(|| percent::parameters(call.query).find(|(_, name, _)| is(name, "api-version")))
            .flatten()
            .map(|(_, _, value)| Cow::Borrowed(value))
            .filter(|value| !value.is_empty())
    };
    match place {
        Place::OpenAi => None,
        Place::AzureV1 => own.filter(|version| !is_dated(version)).or_else(callers),
        Place::Inference | Place::Deployment(_) | Place::AzureBare => own
            .or_else(callers)
            .or_else(|| Some(encoded(target.default_api_version))),
    }
}

fn base(target: &Target<'_>, place: Place<'_>) -> String {
    let given = target.base_path.trim_end_matches('/');
    let azure = || {
        let given = given.strip_suffix("/openai/v1").unwrap_or(given);
        given.strip_suffix("/openai").unwrap_or(given)
    };
    match place {
        Place::OpenAi => given.to_owned(),
        Place::Inference => format!("{}/models", given.strip_suffix("/models").unwrap_or(given)),
        Place::AzureV1 => format!("{}/openai/v1", azure()),
        Place::Deployment(_) | Place::AzureBare => format!("{}/openai", azure()),
    }
}

fn append_query(
    out: &mut String,
    call: &Call<'_>,
    target: &Target<'_>,
    place: Place<'_>,
    version: Option<&str>,
) {
    let mut separator = '?';
    let mut push = |parts: &[&str]| {
        out.push(separator);
        parts.iter().for_each(|part| out.push_str(part));
        separator = '&';
    };
    if let Some(version) = version {
        push(&["api-version=", version]);
    }
    let renamed = target
        .model
        .filter(|_| is_websocket_operation(call.operation));
    for (whole, name, _) in percent::parameters(call.query) {
        if is(name, "api-version") || KEY_PARAMETERS.iter().any(|key| is(name, key)) {
            continue;
        }
        match renamed {
            Some(model) if names_model(name) => {
                let name = match place {
                    Place::AzureBare => "deployment=",
                    Place::OpenAi | Place::Inference | Place::Deployment(_) | Place::AzureV1 => {
                        "model="
                    }
                };
                push(&[name, &encoded(model)]);
            }
            Some(_) | None => push(&[whole]),
        }
    }
}

fn names_model_where(call: &Call<'_>, target: &Target<'_>, place: Place<'_>) -> NamesModel {
    if let Place::Deployment(_) = place {
        return NamesModel::InPath;
    }
    if target.model.is_none() {
        return NamesModel::Nowhere;
    }
    if is_websocket_operation(call.operation) {
        return NamesModel::InPath;
    }
    let has_body = matches!(call.method, "POST" | "PUT" | "PATCH");
    if call.model_in_body || (call.form == Form::Deployment && has_body) {
        return NamesModel::InBody;
    }
    NamesModel::Nowhere
}

fn takes_include_usage(call: &Call<'_>, place: Place<'_>, version: Option<&str>) -> bool {
    match (call.shape, place) {
        (Shape::Embeddings | Shape::Responses | Shape::Other, _) | (_, Place::Inference) => false,
        (Shape::Chat | Shape::Completions, Place::OpenAi | Place::AzureV1) => true,
        (Shape::Chat | Shape::Completions, Place::Deployment(_) | Place::AzureBare) => {
            version.is_some_and(|version| is_dated(version) && version >= FIRST_WITH_STREAM_OPTIONS)
        }
    }
}

fn is_dated(version: &str) -> bool {
    version.starts_with(|first: char| first.is_ascii_digit())
}

/// Compares a parameter's name however it is spelled: servers differ in what they take for the same.
fn is(name: &str, known: &str) -> bool {
    percent::decode_lossy(name).eq_ignore_ascii_case(known)
}

fn encoded(text: &str) -> Cow<'_, str> {
    let mut out = String::with_capacity(text.len());
    percent::encode_into(&mut out, text);
    if out == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::route::read;
    use proptest::prelude::*;

    const DEFAULT: &str = "2024-10-21";

    fn sent(
        caller: Schema,
        request: &str,
        backend: Schema,
        base_path: &str,
        model: Option<&str>,
        own: Option<&str>,
    ) -> Upstream {
        let (method, rest) = request.split_once(' ').unwrap();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let call = read(caller, method, path, query).unwrap();
        let target = Target {
            caller,
            backend,
            base_path,
            model,
            api_version: own,
            default_api_version: DEFAULT,
        };
        upstream(&call, &target)
    }

    use Schema::{AzureAiInference as Inference, AzureOpenAi as Azure, OpenAi};

    #[test]
    fn every_schema_reaches_every_other() {
        let chat = "POST /deployments/gpt/chat/completions?api-version=2024-06-01&x=%41+1";
        let table = [
            (
                Azure,
                chat,
                Azure,
                "",
                "/openai/deployments/m%201/chat/completions?api-version=2024-06-01&x=%41+1",
            ),
            (Azure, chat, OpenAi, "/v1", "/v1/chat/completions?x=%41+1"),
            (
                Azure,
                chat,
                Inference,
                "",
                "/models/chat/completions?api-version=2024-10-21&x=%41+1",
            ),
            (
                Azure,
                "POST /v1/responses?api-version=preview",
                Azure,
                "/",
                "/openai/v1/responses?api-version=preview",
            ),
            (
                Azure,
                "POST /v1/responses",
                Azure,
                "",
                "/openai/v1/responses",
            ),
            (
                Azure,
                "POST /v1/responses?api-version=preview",
                OpenAi,
                "/v1/",
                "/v1/responses",
            ),
            (
                Azure,
                "GET /files/f/content",
                Azure,
                "",
                "/openai/files/f/content?api-version=2024-10-21",
            ),
            (Azure, "POST /responses", OpenAi, "", "/responses"),
            (
                OpenAi,
                "POST /chat/completions?api-version=9",
                Azure,
                "",
                "/openai/deployments/m%201/chat/completions?api-version=2024-10-21",
            ),
            (
                OpenAi,
                "POST /images/edits",
                Azure,
                "",
                "/openai/deployments/m%201/images/edits?api-version=2024-10-21",
            ),
            (OpenAi, "POST /responses", Azure, "", "/openai/v1/responses"),
            (
                OpenAi,
                "GET /chat/completions",
                Azure,
                "",
                "/openai/v1/chat/completions",
            ),
            (
                OpenAi,
                "POST /chat/completions?a&a&b=",
                OpenAi,
                "/v1",
                "/v1/chat/completions?a&a&b=",
            ),
            (
                OpenAi,
                "POST /embeddings",
                Inference,
                "/models",
                "/models/embeddings?api-version=2024-10-21",
            ),
            (
                Inference,
                "POST /chat/completions?api-version=2024-05-01-preview",
                Inference,
                "",
                "/models/chat/completions?api-version=2024-05-01-preview",
            ),
            (
                Inference,
                "POST /embeddings?api-version=2024-05-01-preview",
                Azure,
                "",
                "/openai/deployments/m%201/embeddings?api-version=2024-10-21",
            ),
            (
                Inference,
                "POST /chat/completions?api-version=1",
                OpenAi,
                "/v1",
                "/v1/chat/completions",
            ),
            (
                Inference,
                "GET /info?api-version=1",
                Inference,
                "/models/",
                "/models/info?api-version=1",
            ),
        ];
        for (caller, request, backend, base_path, expected) in table {
            let upstream = sent(caller, request, backend, base_path, Some("m 1"), None);
            assert_eq!(
                upstream.path_and_query, expected,
                "{caller} {request} -> {backend}"
            );
        }
    }

    #[test]
    fn an_azure_url_may_already_end_in_its_own_base() {
        for base_path in [
            "/x",
            "/x/",
            "/x/openai",
            "/x/openai/",
            "/x/openai/v1",
            "/x/openai/v1/",
        ] {
            let path =
                |request| sent(Azure, request, Azure, base_path, Some("m"), None).path_and_query;
            assert_eq!(path("POST /v1/responses"), "/x/openai/v1/responses");
            assert_eq!(
                path("POST /deployments/d/embeddings?api-version=1"),
                "/x/openai/deployments/m/embeddings?api-version=1"
            );
        }
    }

    #[test]
    fn the_backends_own_version_wins_but_not_a_dated_one_on_v1() {
        let path =
            |request, own| sent(Azure, request, Azure, "", Some("m"), Some(own)).path_and_query;
        assert_eq!(
            path(
                "POST /deployments/d/embeddings?a=1&API-Version=1&api%2Dversion=2",
                "2025-01-01"
            ),
            "/openai/deployments/m/embeddings?api-version=2025-01-01&a=1"
        );
        assert_eq!(
            path("POST /v1/embeddings?api-version=preview", "2025-01-01"),
            "/openai/v1/embeddings?api-version=preview"
        );
        assert_eq!(
            path("POST /v1/embeddings?api-version=preview", "latest"),
            "/openai/v1/embeddings?api-version=latest"
        );
        assert_eq!(
            path("POST /v1/embeddings", "2025-01-01"),
            "/openai/v1/embeddings"
        );
    }

    #[test]
    fn gateway_keys_never_go_upstream() {
        let query =
            "a=1&api-key=SECRET&subscription-key=SECRET&API-KEY=SECRET&api%2dkey=SECRET&b=%20";
        let path = sent(
            OpenAi,
            &format!("GET /models?{query}"),
            OpenAi,
            "/v1",
            None,
            None,
        )
        .path_and_query;
        assert_eq!(path, "/v1/models?a=1&b=%20");
    }

    #[test]
    fn it_says_where_the_model_is_named() {
        let place = |caller, request, backend, model| {
            sent(caller, request, backend, "", model, None).names_model
        };
        assert_eq!(
            place(Azure, "POST /deployments/d/embeddings", Azure, Some("m")),
            NamesModel::InPath
        );
        assert_eq!(
            place(Azure, "POST /deployments/d/embeddings", OpenAi, Some("m")),
            NamesModel::InBody
        );
        assert_eq!(
            place(Azure, "POST /v1/embeddings", Azure, Some("m")),
            NamesModel::InBody
        );
        assert_eq!(
            place(OpenAi, "POST /embeddings", Azure, Some("m")),
            NamesModel::InPath
        );
        assert_eq!(
            place(OpenAi, "POST /responses", Azure, Some("m")),
            NamesModel::InBody
        );
        assert_eq!(
            place(OpenAi, "GET /files", Azure, Some("m")),
            NamesModel::Nowhere
        );
        assert_eq!(
            place(OpenAi, "POST /moderations", OpenAi, None),
            NamesModel::Nowhere
        );
        assert_eq!(
            place(OpenAi, "GET /realtime?model=x", OpenAi, Some("m")),
            NamesModel::InPath
        );
    }

    #[test]
    fn a_name_that_could_leave_its_segment_never_enters_the_path() {
        for name in ["..", ".", "", "a/../b", "a\\b", "a%2fb", "a\n", "a;b"] {
            let upstream = sent(
                OpenAi,
                "POST /chat/completions",
                Azure,
                "",
                Some(name),
                None,
            );
            assert_eq!(
                upstream.path_and_query, "/openai/v1/chat/completions",
                "{name:?}"
            );
            assert_eq!(upstream.names_model, NamesModel::InBody);
        }
    }

    #[test]
    fn a_websockets_model_is_renamed_in_the_query() {
        let path = |caller, request, backend| {
            sent(caller, request, backend, "", Some("rt"), None).path_and_query
        };
        assert_eq!(
            path(OpenAi, "GET /realtime?model=x&a=1", OpenAi),
            "/realtime?model=rt&a=1"
        );
        assert_eq!(
            path(OpenAi, "GET /realtime?model=x", Azure),
            "/openai/v1/realtime?model=rt"
        );
        assert_eq!(
            path(Azure, "GET /realtime?api-version=V&deployment=x", Azure),
            "/openai/realtime?api-version=V&deployment=rt"
        );
        assert_eq!(
            path(Azure, "GET /realtime?api-version=V&deployment=x", OpenAi),
            "/realtime?model=rt"
        );
    }

    #[test]
    fn usage_in_a_stream_is_asked_for_where_it_is_understood() {
        let takes = |caller, request, backend, own| {
            sent(caller, request, backend, "", Some("m"), own).takes_include_usage
        };
        let chat = "POST /deployments/d/chat/completions";
        assert!(!takes(Azure, chat, Azure, Some("2024-08-01-preview")));
        assert!(takes(Azure, chat, Azure, Some("2024-09-01-preview")));
        assert!(takes(Azure, chat, Azure, None));
        assert!(!takes(Azure, chat, Azure, Some("preview")));
        assert!(takes(Azure, chat, OpenAi, None));
        assert!(!takes(Azure, chat, Inference, None));
        assert!(takes(Azure, "POST /v1/completions", Azure, None));
        assert!(!takes(OpenAi, "POST /embeddings", OpenAi, None));
        assert!(!takes(OpenAi, "POST /responses", OpenAi, None));
    }

    proptest! {
        #[test]
        fn what_an_azure_backend_gets_reads_back_as_the_same_call(
            model in "[a-zA-Z0-9 &=+é_-][a-zA-Z0-9 &=+é._-]{0,12}", query in "([a-z]{1,3}=[a-z%+]{0,3}&){0,3}", deployment_form in any::<bool>(),
        ) {
            let caller = if deployment_form { Azure } else { OpenAi };
            let rest = if deployment_form { "/deployments/d/embeddings" } else { "/embeddings" };
            let call = read(caller, "POST", rest, &query).unwrap();
            let target = Target {
                caller, backend: Azure, base_path: "", model: Some(&model),
                api_version: Some("V"), default_api_version: DEFAULT,
            };
            let out = upstream(&call, &target).path_and_query;
            let (path, sent_query) = out.split_once('?').unwrap();
            let again = read(Azure, "POST", path.strip_prefix("/openai").unwrap(), sent_query).unwrap();
            prop_assert_eq!(again.operation, "embeddings");
            prop_assert_eq!(again.deployment.as_deref(), Some(model.as_str()));
            let kept: Vec<&str> = percent::parameters(&query).map(|(whole, ..)| whole).collect();
            let arrived: Vec<&str> = percent::parameters(sent_query).map(|(whole, ..)| whole).skip(1).collect();
            prop_assert_eq!(kept, arrived);
        }
    }
}
