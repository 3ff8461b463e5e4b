//! The operations that are known, as plain tables.
//!
//! A line is method, path below the schema's base (`{}` stands for one segment), id, shape, and where
//! the body names the model. Literal segments go before `{}` ones: the first line that fits wins.
//! One table serves the OpenAI and the Azure OpenAI schema, whose operations are the same below their
//! different bases.

use crate::route::{Schema, Shape};

/// The id of every operation that isn't in the table.
pub(crate) const OTHER: &str = "other";

/// Where the operation names its model, when it isn't in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// In the body, always.
    Body,
    /// In the body, if at all.
    MaybeBody,
    /// In the query, as WebSockets have no body.
    Query,
    /// Nowhere.
    Nowhere,
}

/// One operation.
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) template: &'static str,
    pub(crate) id: &'static str,
    pub(crate) shape: Shape,
    pub(crate) model: Model,
}

/// What the path under a deployment may end in on Azure, for callers that name no deployment.
pub(crate) const UNDER_DEPLOYMENTS: [&str; 8] = [
    "chat/completions",
    "completions",
    "embeddings",
    "audio/transcriptions",
    "audio/translations",
    "audio/speech",
    "images/generations",
    "images/edits",
];

/// The table of a schema.
pub(crate) fn table(schema: Schema) -> &'static [Operation] {
    match schema {
        Schema::AzureOpenAi | Schema::OpenAi => &OPENAI,
        Schema::AzureAiInference => &INFERENCE,
    }
}

/// The ids of a schema, each once, and `other`.
pub(crate) const fn ids(schema: Schema) -> &'static [&'static str] {
    match schema {
        Schema::AzureOpenAi | Schema::OpenAi => OPENAI_IDS.as_slice(),
        Schema::AzureAiInference => INFERENCE_IDS.as_slice(),
    }
}

const OPENAI_IDS: [&str; OPENAI.len() + 1] = collect_ids(&OPENAI);
const INFERENCE_IDS: [&str; INFERENCE.len() + 1] = collect_ids(&INFERENCE);

const fn collect_ids<const N: usize>(table: &[Operation]) -> [&'static str; N] {
    let mut ids = [OTHER; N];
    let mut at = 0;
    while at < table.len() {
        ids[at] = table[at].id;
        at += 1;
    }
    ids
}

const fn line(
    method: &'static str,
    template: &'static str,
    id: &'static str,
    shape: Shape,
    model: Model,
) -> Operation {
    Operation {
        method,
        template,
        id,
        shape,
        model,
    }
}

/// A line whose body is only carried and names no model.
const fn plain(method: &'static str, template: &'static str, id: &'static str) -> Operation {
    line(method, template, id, Shape::Other, Model::Nowhere)
}

const INFERENCE: [Operation; 5] = [
    line(
        "POST",
        "chat/completions",
        "chat-completions",
        Shape::Chat,
        Model::Body,
    ),
    line(
        "POST",
        "embeddings",
        "embeddings",
        Shape::Embeddings,
        Model::Body,
    ),
    line(
        "POST",
        "images/embeddings",
        "images-embeddings",
        Shape::Other,
        Model::MaybeBody,
    ),
    line(
        "POST",
        "images/generations",
        "images-generations",
        Shape::Other,
        Model::MaybeBody,
    ),
    plain("GET", "info", "info"),
];

#[rustfmt::skip] // one line an operation
const OPENAI: [Operation; 131] = [
    line("POST", "chat/completions", "chat-completions", Shape::Chat, Model::Body),
    plain("GET", "chat/completions", "chat-completions-list"),
    plain("GET", "chat/completions/{}", "chat-completions-get"),
    plain("POST", "chat/completions/{}", "chat-completions-update"),
    plain("DELETE", "chat/completions/{}", "chat-completions-delete"),
    plain("GET", "chat/completions/{}/messages", "chat-completions-messages"),
    line("POST", "completions", "completions", Shape::Completions, Model::Body),
    line("POST", "embeddings", "embeddings", Shape::Embeddings, Model::Body),
    line("POST", "responses", "responses", Shape::Responses, Model::Body),
    line("GET", "responses", "responses-websocket", Shape::Other, Model::Query),
    line("POST", "responses/input_tokens", "responses-input-tokens", Shape::Other, Model::MaybeBody),
    line("POST", "responses/compact", "responses-compact", Shape::Other, Model::Body),
    plain("GET", "responses/{}", "responses-get"),
    plain("DELETE", "responses/{}", "responses-delete"),
    plain("POST", "responses/{}/cancel", "responses-cancel"),
    plain("GET", "responses/{}/input_items", "responses-input-items"),
    line("POST", "images/generations", "images-generations", Shape::Other, Model::MaybeBody),
    line("POST", "images/edits", "images-edits", Shape::Other, Model::MaybeBody),
    line("POST", "images/variations", "images-variations", Shape::Other, Model::MaybeBody),
    line("POST", "audio/transcriptions", "audio-transcriptions", Shape::Other, Model::Body),
    line("POST", "audio/translations", "audio-translations", Shape::Other, Model::Body),
    line("POST", "audio/speech", "audio-speech", Shape::Other, Model::Body),
    line("POST", "moderations", "moderations", Shape::Other, Model::MaybeBody),
    plain("GET", "models", "models"),
    plain("GET", "models/{}", "models-get"),
    plain("DELETE", "models/{}", "models-delete"),
    line("GET", "realtime", "realtime", Shape::Other, Model::Query),
    line("POST", "realtime/calls", "realtime-calls", Shape::Other, Model::MaybeBody),
    line("POST", "realtime/client_secrets", "realtime-client-secrets", Shape::Other, Model::MaybeBody),
    line("POST", "realtime/sessions", "realtime-sessions", Shape::Other, Model::MaybeBody),
    line("POST", "realtime/transcription_sessions", "realtime-transcription-sessions", Shape::Other, Model::MaybeBody),
    plain("GET", "files", "files-list"),
    plain("POST", "files", "files-create"),
    plain("GET", "files/{}", "files-get"),
    plain("DELETE", "files/{}", "files-delete"),
    plain("GET", "files/{}/content", "files-content"),
    plain("POST", "uploads", "uploads-create"),
    plain("POST", "uploads/{}/parts", "uploads-parts"),
    plain("POST", "uploads/{}/complete", "uploads-complete"),
    plain("POST", "uploads/{}/cancel", "uploads-cancel"),
    plain("GET", "batches", "batches-list"),
    plain("POST", "batches", "batches-create"),
    plain("GET", "batches/{}", "batches-get"),
    plain("POST", "batches/{}/cancel", "batches-cancel"),
    plain("POST", "fine_tuning/alpha/graders/run", "fine-tuning-graders-run"),
    plain("POST", "fine_tuning/alpha/graders/validate", "fine-tuning-graders-validate"),
    plain("GET", "fine_tuning/jobs", "fine-tuning-jobs-list"),
    plain("POST", "fine_tuning/jobs", "fine-tuning-jobs-create"),
    plain("GET", "fine_tuning/jobs/{}", "fine-tuning-jobs-get"),
    plain("DELETE", "fine_tuning/jobs/{}", "fine-tuning-jobs-delete"),
    plain("POST", "fine_tuning/jobs/{}/cancel", "fine-tuning-jobs-cancel"),
    plain("POST", "fine_tuning/jobs/{}/pause", "fine-tuning-jobs-pause"),
    plain("POST", "fine_tuning/jobs/{}/resume", "fine-tuning-jobs-resume"),
    plain("GET", "fine_tuning/jobs/{}/events", "fine-tuning-jobs-events"),
    plain("GET", "fine_tuning/jobs/{}/checkpoints", "fine-tuning-jobs-checkpoints"),
    plain("POST", "fine_tuning/jobs/{}/checkpoints/{}/copy", "fine-tuning-checkpoints-copy"),
    plain("GET", "fine_tuning/jobs/{}/checkpoints/{}/copy", "fine-tuning-checkpoints-copy-get"),
    plain("GET", "assistants", "assistants-list"),
    line("POST", "assistants", "assistants-create", Shape::Other, Model::MaybeBody),
    plain("GET", "assistants/{}", "assistants-get"),
    line("POST", "assistants/{}", "assistants-update", Shape::Other, Model::MaybeBody),
    plain("DELETE", "assistants/{}", "assistants-delete"),
    plain("POST", "threads", "threads-create"),
    line("POST", "threads/runs", "threads-runs-create-with-thread", Shape::Other, Model::MaybeBody),
    plain("GET", "threads/{}", "threads-get"),
    plain("POST", "threads/{}", "threads-update"),
    plain("DELETE", "threads/{}", "threads-delete"),
    plain("GET", "threads/{}/messages", "threads-messages-list"),
    plain("POST", "threads/{}/messages", "threads-messages-create"),
    plain("GET", "threads/{}/messages/{}", "threads-messages-get"),
    plain("POST", "threads/{}/messages/{}", "threads-messages-update"),
    plain("DELETE", "threads/{}/messages/{}", "threads-messages-delete"),
    plain("GET", "threads/{}/runs", "threads-runs-list"),
    line("POST", "threads/{}/runs", "threads-runs-create", Shape::Other, Model::MaybeBody),
    plain("GET", "threads/{}/runs/{}", "threads-runs-get"),
    plain("POST", "threads/{}/runs/{}", "threads-runs-update"),
    plain("POST", "threads/{}/runs/{}/submit_tool_outputs", "threads-runs-submit-tool-outputs"),
    plain("POST", "threads/{}/runs/{}/cancel", "threads-runs-cancel"),
    plain("GET", "threads/{}/runs/{}/steps", "threads-runs-steps-list"),
    plain("GET", "threads/{}/runs/{}/steps/{}", "threads-runs-steps-get"),
    plain("GET", "vector_stores", "vector-stores-list"),
    plain("POST", "vector_stores", "vector-stores-create"),
    plain("GET", "vector_stores/{}", "vector-stores-get"),
    plain("POST", "vector_stores/{}", "vector-stores-update"),
    plain("DELETE", "vector_stores/{}", "vector-stores-delete"),
    plain("POST", "vector_stores/{}/search", "vector-stores-search"),
    plain("GET", "vector_stores/{}/files", "vector-stores-files-list"),
    plain("POST", "vector_stores/{}/files", "vector-stores-files-create"),
    plain("GET", "vector_stores/{}/files/{}", "vector-stores-files-get"),
    plain("POST", "vector_stores/{}/files/{}", "vector-stores-files-update"),
    plain("DELETE", "vector_stores/{}/files/{}", "vector-stores-files-delete"),
    plain("GET", "vector_stores/{}/files/{}/content", "vector-stores-files-content"),
    plain("POST", "vector_stores/{}/file_batches", "vector-stores-file-batches-create"),
    plain("GET", "vector_stores/{}/file_batches/{}", "vector-stores-file-batches-get"),
    plain("POST", "vector_stores/{}/file_batches/{}/cancel", "vector-stores-file-batches-cancel"),
    plain("GET", "vector_stores/{}/file_batches/{}/files", "vector-stores-file-batches-files"),
    plain("POST", "conversations", "conversations-create"),
    plain("GET", "conversations/{}", "conversations-get"),
    plain("POST", "conversations/{}", "conversations-update"),
    plain("DELETE", "conversations/{}", "conversations-delete"),
    plain("GET", "conversations/{}/items", "conversations-items-list"),
    plain("POST", "conversations/{}/items", "conversations-items-create"),
    plain("GET", "conversations/{}/items/{}", "conversations-items-get"),
    plain("DELETE", "conversations/{}/items/{}", "conversations-items-delete"),
    plain("GET", "evals", "evals-list"),
    plain("POST", "evals", "evals-create"),
    plain("GET", "evals/{}", "evals-get"),
    plain("POST", "evals/{}", "evals-update"),
    plain("DELETE", "evals/{}", "evals-delete"),
    plain("GET", "evals/{}/runs", "evals-runs-list"),
    plain("POST", "evals/{}/runs", "evals-runs-create"),
    plain("GET", "evals/{}/runs/{}", "evals-runs-get"),
    plain("DELETE", "evals/{}/runs/{}", "evals-runs-delete"),
    plain("POST", "evals/{}/runs/{}", "evals-runs-cancel"),
    plain("GET", "evals/{}/runs/{}/output_items", "evals-runs-output-items-list"),
    plain("GET", "evals/{}/runs/{}/output_items/{}", "evals-runs-output-items-get"),
    plain("GET", "containers", "containers-list"),
    plain("POST", "containers", "containers-create"),
    plain("GET", "containers/{}", "containers-get"),
    plain("DELETE", "containers/{}", "containers-delete"),
    plain("GET", "containers/{}/files", "containers-files-list"),
    plain("POST", "containers/{}/files", "containers-files-create"),
    plain("GET", "containers/{}/files/{}", "containers-files-get"),
    plain("DELETE", "containers/{}/files/{}", "containers-files-delete"),
    plain("GET", "containers/{}/files/{}/content", "containers-files-content"),
    plain("GET", "videos", "videos-list"),
    line("POST", "videos", "videos-create", Shape::Other, Model::MaybeBody),
    plain("GET", "videos/{}", "videos-get"),
    plain("DELETE", "videos/{}", "videos-delete"),
    plain("GET", "videos/{}/content", "videos-content"),
    plain("POST", "videos/{}/remix", "videos-remix"),
];
