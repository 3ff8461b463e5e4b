//! `[pools.*]`: backends with priority and weight.

use std::ops::RangeInclusive;

use filters::balance::{MAX_MEMBERS, MAX_WEIGHT};

use super::super::error::{Located, Place};
use super::table::Table;

/// `[pools.NAME]`
#[derive(Debug)]
pub struct Pool {
    /// Its key in the file.
    pub name: Located<String>,
    /// Where `members` stands.
    pub members_place: Place,
    /// In file order.
    pub members: Vec<Member>,
    /// Further attempts.
    pub retry: Option<Retry>,
    /// Keeps a caller with a backend.
    pub session_affinity: Option<SessionAffinity>,
}

/// One of `members`.
#[derive(Debug)]
pub struct Member {
    /// A backend's name.
    pub backend: Option<Located<String>>,
    /// Lower first.
    pub priority: Option<Located<u64>>,
    /// Share within a priority.
    pub weight: Option<Located<u64>>,
}

/// `retry`
#[derive(Debug)]
pub struct Retry {
    /// Where it stands.
    pub place: Place,
    /// Further attempts.
    pub count: Option<Located<u64>>,
    /// Which answers are tried again.
    pub status_code_ranges: Option<Located<Vec<RangeInclusive<u16>>>>,
}

/// `session-affinity`
#[derive(Debug)]
pub struct SessionAffinity {
    /// Where it stands.
    pub place: Place,
    /// The cookie's name.
    pub cookie: Option<Located<String>>,
}

/// Reads `[pools.NAME]`.
pub fn pool(name: Located<String>, table: Table<'_, '_>) -> Pool {
    let members = table.field("members");
    let members = members.required("an array such as [{ backend = \"NAME\" }]");
    let elements = members.elements();
    let count = elements.map_or(1, |elements| elements.len());
    if !(1..=MAX_MEMBERS).contains(&count) {
        let message = format!("found {count} members, expected 1 to {MAX_MEMBERS}");
        members.refuse(&message);
    }
    let pool = Pool {
        name,
        members_place: members.place(),
        members: members.tables().into_iter().map(member).collect(),
        retry: table.field("retry").table().map(retry),
        session_affinity: table.field("session-affinity").table().map(affinity),
    };
    table.finish();
    pool
}

fn member(table: Table<'_, '_>) -> Member {
    let backend = table.field("backend").required("a backend's name");
    let member = Member {
        backend: backend.text(),
        priority: table.field("priority").integer(PRIORITY),
        weight: table.field("weight").integer(WEIGHT),
    };
    table.finish();
    member
}

fn retry(table: Table<'_, '_>) -> Retry {
    let retry = Retry {
        place: table.place().clone(),
        count: table.field("count").integer(RETRIES),
        status_code_ranges: table.field("status-code-ranges").status_code_ranges(),
    };
    table.finish();
    retry
}

fn affinity(table: Table<'_, '_>) -> SessionAffinity {
    let cookie = table.field("cookie").required("a cookie's name");
    let affinity = SessionAffinity {
        place: table.place().clone(),
        cookie: cookie.text(),
    };
    table.finish();
    affinity
}

/// Room for a scheme of one's own (10, 20, 30).
const PRIORITY: RangeInclusive<u64> = 0..=1_000;
/// Relative numbers. A member of weight 0 would never be called: leave it out.
const WEIGHT: RangeInclusive<u64> = 1..=MAX_WEIGHT as u64;
/// Every attempt may take the backend's whole `first-byte`.
const RETRIES: RangeInclusive<u64> = 0..=10;
