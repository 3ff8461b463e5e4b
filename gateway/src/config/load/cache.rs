//! `[[semantic-cache]]`: which calls, how near, who embeds, whose answers are kept apart, for how long.

use std::sync::Arc;
use std::time::Duration;

use filters::cache::entry::ToolCalls;
use filters::cache::prompt::SystemMessages;
use filters::cache::score::Threshold;
use filters::limit::reservation;

use super::super::error::Located;
use super::super::file::policy as written;
use super::super::plan::Backend;
use super::super::plan::Redis;
use super::super::plan::cache::{Embedder, Keeps, LocalModel, Mode, SemanticCache, VaryBy};
use super::names::{is_known, report_duplicates};
use super::{Loader, or};

/// Every semantic cache.
pub(super) fn semantic_caches(
    loader: &Loader<'_>,
    backends: &[Arc<Backend>],
    redis: Option<&Redis>,
) -> Vec<Arc<SemanticCache>> {
    let files = &loader.file.policies.semantic_caches;
    let names = files.iter().filter_map(|cache| cache.name.as_ref());
    report_duplicates(loader.findings, "semantic cache", names);
    let caches = files.iter();
    caches
        .filter_map(|file| {
            let keeps = keeps(loader, file, redis);
            semantic_cache(loader, file, backends, keeps)
        })
        .map(Arc::new)
        .collect()
}

fn semantic_cache(
    loader: &Loader<'_>,
    file: &written::SemanticCache,
    backends: &[Arc<Backend>],
    keeps: Keeps,
) -> Option<SemanticCache> {
    let when = loader.condition(file.when.as_ref());
    let vary_by = vary_by(loader, file.vary_by.as_ref());
    let embeddings = embeddings(loader, file, backends);
    let number = |written: &Option<Located<u64>>, default| {
        usize::try_from(or(written.as_ref(), default)).unwrap_or(usize::MAX)
    };
    let system = match or(file.ignores_system_messages.as_ref(), false) {
        true => SystemMessages::Ignored,
        false => SystemMessages::Embedded,
    };
    let tool_calls = match or(file.keeps_tool_calls.as_ref(), false) {
        true => ToolCalls::Allowed,
        false => ToolCalls::Refused,
    };
    let mode = match or(file.mode.as_ref(), reservation::Mode::Enforce) {
        reservation::Mode::Enforce => Mode::Serve,
        reservation::Mode::Observe => Mode::Observe,
    };
    Some(SemanticCache {
        name: file.name.as_ref()?.value.as_str().into(),
        when,
        threshold: Threshold::new(or(file.score_threshold.as_ref(), THRESHOLD) as f32)?,
        embeddings: embeddings?,
        vary_by,
        system,
        tool_calls,
        max_message_count: number(&file.max_message_count, MAX_MESSAGE_COUNT),
        duration: or(file.duration.as_ref(), DURATION),
        keeps,
        max_entries: number(&file.max_entries, MAX_ENTRIES),
        mode,
    })
}

/// In Redis, where there is one and the file doesn't say otherwise.
fn keeps(loader: &Loader<'_>, file: &written::SemanticCache, redis: Option<&Redis>) -> Keeps {
    let place = file
        .store
        .as_ref()
        .map_or(&file.place, |store| &store.place);
    let told = file.store.as_ref().map(|store| store.value);
    match (told, &loader.file.redis) {
        (Some(written::Store::Process), _) | (None, None) => return Keeps::Process,
        (Some(written::Store::Redis), None) => {
            let message = "found \"redis\", and there is no [redis]; expected [redis] with a url, or store = \"process\"";
            loader.findings.error(place, message);
        }
        (Some(written::Store::Redis) | None, Some(_)) => {}
    }
    if redis.is_some_and(Redis::is_cluster) {
        let message = "in a Redis Cluster the query engine sees the keys of one node only, so answers can't be kept there; expected [redis] with a url of one server, or store = \"process\"";
        loader.findings.error(place, message);
    }
    Keeps::Redis
}

fn vary_by(loader: &Loader<'_>, written: Option<&Vec<Located<String>>>) -> VaryBy {
    let Some(sources) = written else {
        return VaryBy::Subscription;
    };
    let values = sources.iter();
    let values = values.filter_map(|source| loader.request_text(Some(source)));
    VaryBy::Values(values.collect())
}

fn embeddings(
    loader: &Loader<'_>,
    file: &written::SemanticCache,
    backends: &[Arc<Backend>],
) -> Option<Embedder> {
    let Some(name) = &file.embeddings.backend else {
        return local(loader, &file.embeddings).map(Embedder::Local);
    };
    let declared = loader.file.backends.iter().map(|backend| &backend.name);
    is_known(loader.findings, "backend", name, declared);
    let mut backends = backends.iter();
    let backend = backends.find(|backend| *backend.name == *name.value);
    backend.cloned().map(Embedder::Backend)
}

fn local(loader: &Loader<'_>, file: &written::Embeddings) -> Option<LocalModel> {
    let path = file.path.as_ref().map_or(LOCAL_PATH, |path| &path.value);
    let written = file
        .sha256
        .as_ref()
        .map_or(LOCAL_SHA256, |text| &text.value);
    let sha256 = hex(written);
    if let (None, Some(text)) = (sha256, &file.sha256) {
        let message = format!(
            "found \"{written}\", expected the SHA-256 of model.safetensors: 64 hexadecimal digits"
        );
        loader.findings.error(&text.place, message);
    }
    Some(LocalModel {
        path: path.into(),
        sha256: sha256?,
    })
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes.filter(|_| is_hex)?.try_into().ok()
}

/// Where `scripts/local-embeddings` puts the model.
const LOCAL_PATH: &str = "/usr/share/tollgate/all-minilm-l6-v2";
/// The weights as their authors published them.
const LOCAL_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
/// As in API Management's examples.
const THRESHOLD: f64 = 0.05;
const MAX_MESSAGE_COUNT: u64 = 10;
const DURATION: Duration = Duration::from_secs(600);
const MAX_ENTRIES: u64 = 100_000;
