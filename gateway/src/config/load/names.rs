//! Names: what is declared, what is meant, what nobody uses.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::{Findings, Located, Place, suggestion};
use super::Loader;

/// Whether a name is declared; reports it where it isn't. `kind` is a word such as `backend`.
pub(super) fn is_known<'n>(
    findings: &Findings<'_>,
    kind: &str,
    name: &Located<String>,
    declared: impl Iterator<Item = &'n Located<String>> + Clone,
) -> bool {
    if declared.clone().any(|known| known.value == name.value) {
        return true;
    }
    let near = suggestion(&name.value, declared.map(|known| known.value.as_str()));
    let none = if near.is_empty() {
        format!("; there is no {kind} in this file")
    } else {
        near
    };
    let message = format!("unknown {kind} \"{}\"{none}", name.value);
    findings.error(&name.place, message);
    false
}

/// Reports every name that an earlier one of the list has already. `what` is a word such as `token limit`.
pub(super) fn report_duplicates<'n>(
    findings: &Findings<'_>,
    what: &str,
    names: impl Iterator<Item = &'n Located<String>>,
) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        if let Some(offset) = seen.get(name.value.as_str()) {
            let (line, _) = super::super::error::position(findings.text(), *offset);
            let message = format!(
                "found \"{}\" a second time, expected a name of its own; the {what} of line {line} has it",
                name.value
            );
            findings.error(&name.place, message);
        } else {
            seen.insert(&name.value, name.place.offset);
        }
    }
}

/// Warns of pools that no API leads to, and of backends that no pool holds.
pub(super) fn warn_of_unused(loader: &Loader<'_>) {
    let file = loader.file;
    if file.apis.is_empty() {
        let (offset, path) = (0, "apis".to_owned());
        let message = "there is no API: every request gets 404";
        loader.findings.warn(&Place { offset, path }, message);
    }
    let mut pools = BTreeSet::new();
    for api in &file.apis {
        pools.extend(api.models.iter().map(|(_, pool)| pool.value.as_str()));
        pools.extend(api.default_pool.iter().map(|pool| pool.value.as_str()));
    }
    let mut backends = BTreeSet::new();
    for member in file.pools.iter().flat_map(|pool| &pool.members) {
        backends.extend(member.backend.iter().map(|name| name.value.as_str()));
    }
    for cache in &file.policies.semantic_caches {
        let name = cache.embeddings.backend.iter();
        backends.extend(name.map(|name| name.value.as_str()));
    }
    for pool in file
        .pools
        .iter()
        .filter(|pool| !pools.contains(pool.name.value.as_str()))
    {
        let message = "no API leads to this pool, so it is never called";
        loader.findings.warn(&pool.name.place, message);
    }
    let unused = |name: &&Located<String>| !backends.contains(name.value.as_str());
    let names = file.backends.iter().map(|backend| &backend.name);
    for name in names.filter(unused) {
        let message = "no pool holds this backend, so it is never called";
        loader.findings.warn(&name.place, message);
    }
}
