//! `[pools.*]`: members resolved to backends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::file::pool as written;
use super::super::plan::{Backend, Member, Pool};
use super::names::is_known;
use super::{Loader, or};

/// Every pool, with the members that have no mistake.
pub(super) fn pools(loader: &Loader<'_>, backends: &[Arc<Backend>]) -> Vec<Arc<Pool>> {
    let pool = |file| Arc::new(pool(loader, file, backends));
    loader.file.pools.iter().map(pool).collect()
}

fn pool(loader: &Loader<'_>, file: &written::Pool, backends: &[Arc<Backend>]) -> Pool {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for name in file
        .members
        .iter()
        .filter_map(|member| member.backend.as_ref())
    {
        let times = seen.entry(&name.value).or_default();
        *times += 1;
        if *times == 2 {
            let message = format!(
                "found \"{}\" a second time, expected each backend once; give it more weight instead",
                name.value
            );
            loader.findings.error(&name.place, message);
        }
    }
    note_pending(loader, file);
    let member = |written| member(loader, written, backends);
    Pool {
        name: file.name.value.as_str().into(),
        members: file.members.iter().filter_map(member).collect(),
    }
}

fn member(
    loader: &Loader<'_>,
    file: &written::Member,
    backends: &[Arc<Backend>],
) -> Option<Member> {
    let name = file.backend.as_ref()?;
    let declared = loader.file.backends.iter().map(|backend| &backend.name);
    if !is_known(loader.findings, "backend", name, declared) {
        return None;
    }
    let number = |written, default| u32::try_from(or(written, default)).ok();
    Some(Member {
        backend: Arc::clone(
            backends
                .iter()
                .find(|backend| *backend.name == *name.value)?,
        ),
        priority: number(file.priority.as_ref(), 1)?,
        weight: number(file.weight.as_ref(), 1)?,
    })
}

fn note_pending(loader: &Loader<'_>, file: &written::Pool) {
    if file.members.len() > 1 {
        let what = format!("{} with more than one member", file.name.place.path);
        loader.findings.pending(&file.members_place, what);
    }
    if let Some(retry) = &file.retry {
        loader
            .findings
            .pending(&retry.place, retry.place.path.as_str());
    }
    if let Some(affinity) = &file.session_affinity {
        if let Some(cookie) = &affinity.cookie {
            // The rule for a cookie's name is that for a header's.
            if http::HeaderName::from_bytes(cookie.value.as_bytes()).is_err() {
                let message = format!(
                    "found \"{}\", expected a cookie's name",
                    cookie.value.escape_debug()
                );
                loader.findings.error(&cookie.place, message);
            }
        }
        let what = affinity.place.path.as_str();
        loader.findings.pending(&affinity.place, what);
    }
}
