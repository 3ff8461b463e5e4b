//! The request as a backend gets it: head rewritten for the backend's schema and credential, body spliced.
//!
//! The body isn't copied: what must change is put between slices of what the caller sent. The length is
//! always stated exactly, since a body of unknown length can poison a pooled connection.
//! Never sends anything.

use bytes::Bytes;
use filters::request::{BodyFacts, IncludeUsage, spliced};
use filters::route::{self, Call, NamesModel, Schema, Target};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, OrErr};

use crate::config::plan::{Api, Auth, Backend, DEFAULT_API_VERSION};
use crate::context::Admitted;
use crate::upstream::headers;

/// What is sent to a backend in one attempt, but for the head.
#[derive(Debug)]
pub struct Outgoing {
    /// Path and query there.
    pub target: String,
    /// The body's parts, in order; empty for none.
    pub body: Vec<Bytes>,
    /// Sum of the parts. Bytes.
    pub length_bytes: usize,
    /// The usage chunk was asked for by us, not by the caller: it is kept from the caller.
    pub keeps_usage_chunk: bool,
}

/// Target and body of an attempt.
pub fn outgoing(
    call: &Call<'_>,
    admitted: &Admitted,
    api: &Api,
    backend: &Backend,
    (body, facts): (&Bytes, Option<&BodyFacts>),
) -> Outgoing {
    let model = deployment(admitted, backend);
    let upstream = route::upstream(call, &target_of(api, backend, model));
    let mut splices = Vec::new();
    let mut keeps_usage_chunk = false;
    if let Some(facts) = facts {
        match upstream.names_model {
            NamesModel::InBody => splices.extend(model.and_then(|name| facts.model_as(name))),
            NamesModel::InPath | NamesModel::Nowhere => {}
        }
        if facts.stream && upstream.takes_include_usage {
            splices.extend(facts.with_usage());
            keeps_usage_chunk = facts.include_usage != IncludeUsage::Asked;
        }
    }
    let parts = match body.is_empty() {
        true => Vec::new(),
        false => spliced(body, splices),
    };
    Outgoing {
        target: upstream.path_and_query,
        length_bytes: parts.iter().map(Bytes::len).sum(),
        body: parts,
        keeps_usage_chunk,
    }
}

/// The path and query at a backend, for a call whose body isn't read.
pub fn target(call: &Call<'_>, admitted: &Admitted, api: &Api, backend: &Backend) -> String {
    let model = deployment(admitted, backend);
    route::upstream(call, &target_of(api, backend, model)).path_and_query
}

/// The backend's schema, or the API's.
pub fn schema(api: &Api, backend: &Backend) -> Schema {
    backend.schema.unwrap_or(api.schema)
}

fn deployment<'a>(admitted: &'a Admitted, backend: &'a Backend) -> Option<&'a str> {
    match admitted.model.as_str() {
        "" => None,
        model => Some(backend.deployment.as_deref().unwrap_or(model)),
    }
}

fn target_of<'a>(api: &Api, backend: &'a Backend, model: Option<&'a str>) -> Target<'a> {
    Target {
        caller: api.schema,
        backend: schema(api, backend),
        base_path: &backend.url.base_path,
        model,
        api_version: backend.api_version.as_deref(),
        default_api_version: DEFAULT_API_VERSION,
    }
}

/// How the request's body is framed towards the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none: no `Content-Length`.
    Bodyless,
    /// Exactly this many bytes.
    Length(usize),
}

impl Framing {
    /// A body of zero bytes is stated for methods that usually have one.
    pub fn of(method: &Method, length_bytes: usize) -> Self {
        let usual = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        match length_bytes {
            0 if !usual => Framing::Bodyless,
            length => Framing::Length(length),
        }
    }
}

/// Whether the gateway reads the answer: then it mustn't be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It does.
    Understood,
    /// It passes through.
    Untouched,
}

/// The head of an attempt over HTTP/1.1.
///
/// # Errors
/// When the target isn't a valid URI; it is made of checked parts, so in practice never.
pub fn head(
    downstream: &RequestHeader,
    (api, backend): (&Api, &Backend),
    target: &str,
    framing: Framing,
    reading: Reading,
) -> pingora::Result<RequestHeader> {
    // Pingora's own would read each name a second time.
    let mut head = http::Request::new(()).into_parts().0;
    head.method = downstream.method.clone();
    head.uri = target
        .parse()
        .or_err(ErrorType::InternalError, "target of an attempt")?;
    head.headers.reserve(downstream.headers.len() + 4);
    copy_fields(downstream, &mut head.headers);
    let host = HeaderValue::from_str(&backend.url.authority)
        .or_err(ErrorType::InternalError, "host of a backend")?;
    head.headers.insert(header::HOST, host);
    if reading == Reading::Understood {
        let identity = HeaderValue::from_static("identity");
        head.headers.insert(header::ACCEPT_ENCODING, identity);
    }
    if let Framing::Length(length) = framing {
        let length = HeaderValue::from(length);
        head.headers.insert(header::CONTENT_LENGTH, length);
    }
    if let Some((name, value)) = credential_field(schema(api, backend), &backend.auth)? {
        head.headers.insert(name, value);
    }
    Ok(RequestHeader::from(head))
}

fn copy_fields(from: &RequestHeader, to: &mut HeaderMap) {
    let nominated = match from.headers.contains_key(header::CONNECTION) {
        true => headers::nominated(&from.headers),
        false => Vec::new(),
    };
    for (name, value) in &from.headers {
        if headers::goes_upstream(name) && !nominated.contains(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// Puts our credential on a request, and nothing of the caller's beside it. A token that is fetched comes by
/// [`bearer`].
///
/// # Errors
/// When the credential holds bytes that a header can't; the configuration refuses such.
pub fn credential(head: &mut RequestHeader, schema: Schema, auth: &Auth) -> pingora::Result<()> {
    match credential_field(schema, auth)? {
        Some((name, value)) => head.insert_header(name, value),
        None => Ok(()),
    }
}

fn credential_field(
    schema: Schema,
    auth: &Auth,
) -> pingora::Result<Option<(HeaderName, HeaderValue)>> {
    let (name, text) = match (auth, schema) {
        (Auth::None | Auth::ManagedIdentity(_), _) => return Ok(None),
        (Auth::ApiKey(key), Schema::AzureOpenAi | Schema::AzureAiInference) => {
            (HeaderName::from_static("api-key"), key.expose().to_owned())
        }
        (Auth::ApiKey(secret), Schema::OpenAi) | (Auth::Bearer(secret), _) => {
            let bearer = ["Bearer ", secret.expose()].concat();
            (header::AUTHORIZATION, bearer)
        }
    };
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Error::explain(ErrorType::InternalError, "credential isn't a header value"))?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

/// Puts a fetched token on a request, if its backend has one.
///
/// # Errors
/// Never in practice: a name and a value that are ready can't be refused.
pub fn bearer(head: &mut RequestHeader, token: Option<&HeaderValue>) -> pingora::Result<()> {
    match token {
        Some(token) => head.insert_header(header::AUTHORIZATION, token.clone()),
        None => Ok(()),
    }
}

/// A request of the gateway's own, to embed a text.
///
/// # Errors
/// As [`head`].
pub fn embeddings(
    backend: &Backend,
    schema: Schema,
    (model, texts): (&str, &[&str]),
) -> pingora::Result<(RequestHeader, Outgoing)> {
    let call = route::read(Schema::OpenAi, "POST", "/embeddings", "")
        .map_err(|_| Error::explain(ErrorType::InternalError, "the path of embeddings"))?;
    let target = Target {
        caller: Schema::OpenAi,
        backend: schema,
        base_path: &backend.url.base_path,
        model: Some(model),
        api_version: backend.api_version.as_deref(),
        default_api_version: DEFAULT_API_VERSION,
    };
    let upstream = route::upstream(&call, &target);
    let input = match texts {
        [text] => serde_json::json!(text),
        texts => serde_json::json!(texts),
    };
    let body = match upstream.names_model {
        NamesModel::InBody => serde_json::json!({"model": model, "input": input}),
        NamesModel::InPath | NamesModel::Nowhere => serde_json::json!({"input": input}),
    };
    let body = Bytes::from(body.to_string());
    let mut head =
        RequestHeader::build_no_case("POST", upstream.path_and_query.as_bytes(), Some(6))?;
    head.insert_header(header::HOST, backend.url.authority.as_str())?;
    head.insert_header(header::ACCEPT_ENCODING, "identity")?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    credential(&mut head, schema, &backend.auth)?;
    let outgoing = Outgoing {
        target: upstream.path_and_query,
        length_bytes: body.len(),
        body: vec![body],
        keeps_usage_chunk: false,
    };
    Ok((head, outgoing))
}

/// Turns a head for HTTP/1.1 into one for HTTP/2.
///
/// # Errors
/// When the target isn't a valid URI.
pub fn to_http2(head: &mut RequestHeader, backend: &Backend) -> pingora::Result<()> {
    let target = head.uri.path_and_query().cloned();
    let mut uri = Uri::builder()
        .scheme(backend.url.scheme())
        .authority(backend.url.authority.as_str());
    if let Some(target) = target {
        uri = uri.path_and_query(target);
    }
    let uri = uri
        .build()
        .or_err(ErrorType::InternalError, "target of an attempt")?;
    head.remove_header(&header::HOST);
    head.set_version(Version::HTTP_2);
    head.set_uri(uri);
    Ok(())
}
