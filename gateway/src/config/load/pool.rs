//! `[pools.*]`: members resolved to backends and ready to be chosen from, and what follows an attempt that fails.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use filters::auth::Digest;
use filters::{balance, retry};

use super::super::file::pool as written;
use super::super::plan::{Backend, Member, Pool};
use super::affinity::{session_affinity, warn_of_shared_cookies};
use super::names::is_known;
use super::statuses::statuses;
use super::{Loader, or};

/// Every pool that can be made of the members that have no mistake.
pub(super) fn pools(
    loader: &Loader<'_>,
    backends: &[Arc<Backend>],
    keys: &[Digest],
) -> Vec<Arc<Pool>> {
    warn_of_shared_cookies(loader);
    let pool = |file| pool(loader, file, backends, keys).map(Arc::new);
    loader.file.pools.iter().filter_map(pool).collect()
}

fn pool(
    loader: &Loader<'_>,
    file: &written::Pool,
    backends: &[Arc<Backend>],
    keys: &[Digest],
) -> Option<Pool> {
    refuse_twins(loader, file);
    let member = |written| member(loader, written, backends);
    let members: Vec<Member> = file.members.iter().filter_map(member).collect();
    let balance = balance(loader, file, &members);
    let retry = retry(loader, file.retry.as_ref());
    let affinity = file.session_affinity.as_ref();
    let session_affinity = affinity
        .and_then(|written| session_affinity(loader, (&file.name.value, written), &members, keys));
    Some(Pool {
        name: file.name.value.as_str().into(),
        members,
        balance: balance?,
        retry: retry?,
        session_affinity,
    })
}

/// A backend that a pool holds twice would have two counts of one thing.
fn refuse_twins(loader: &Loader<'_>, file: &written::Pool) {
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

/// The members ready to be chosen from. None where they make no pool, which is reported: how many there are
/// by the reader, one that is left out for its mistake with that mistake.
fn balance(loader: &Loader<'_>, file: &written::Pool, members: &[Member]) -> Option<balance::Pool> {
    let standing = |member: &Member| balance::Standing {
        priority: member.priority,
        weight: member.weight,
    };
    let standings: Vec<_> = members.iter().map(standing).collect();
    let made = balance::Pool::new(&standings);
    match &made {
        Ok(_) | Err(balance::PoolError::Members(_)) => {}
        Err(error @ balance::PoolError::Weight(wrong)) => {
            let weights = file.members.iter().filter_map(|one| one.weight.as_ref());
            let mut weights = weights.filter(|weight| weight.value == u64::from(*wrong));
            let place = weights.next().map(|weight| &weight.place);
            let place = place.unwrap_or(&file.members_place);
            loader.findings.error(place, error.to_string());
        }
    }
    made.ok()
}

fn retry(loader: &Loader<'_>, file: Option<&written::Retry>) -> Option<retry::Rule> {
    let count = file.and_then(|retry| retry.count.as_ref());
    let ranges = file.and_then(|retry| retry.status_code_ranges.as_ref());
    Some(retry::Rule {
        count: u32::try_from(or(count, RETRIES)).ok()?,
        statuses: statuses(loader, ranges, &STATUSES)?,
    })
}

/// Further attempts: the second one helps where two members share a fate, a fourth seldom finds another.
const RETRIES: u64 = 2;
/// What another member may answer better.
const STATUSES: [RangeInclusive<u16>; 3] = [408..=408, 429..=429, 500..=599];
