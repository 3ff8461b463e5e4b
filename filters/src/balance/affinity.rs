//! Requests that belong to one member: by a session's cookie, or by the id of what a backend holds.
//!
//! **The cookie** is a signature over pool and member, and nothing else: it names no backend, can't be made
//! without the member's key, and is compared in constant time with those of all members, which are computed
//! when the pool is made. A caller may keep one, or go back to one that it was given before; it can't
//! reach a member that balancing never gave it. Replicas with the same keys understand each other's. A
//! member that left the configuration has no cookie any more, and one that is added changes nobody else's.
//!
//! **Ids** (a response, a file, a thread) are kept as digests: short, of one size, and nothing to read in a
//! store. An id decides nothing but which backend is asked: whether the caller may have it is the backend's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A cookie's bytes before base64. More than anyone can guess, and a short header.
const SIGNATURE_BYTES: usize = 16;

/// The longest id that is remembered. Providers' have up to a hundred.
const MAX_ID_BYTES: usize = 256;

/// What a SHA-256 block holds.
const BLOCK_BYTES: usize = 64;

/// A pool's cookies, one for each member.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookies(Box<[String]>);

/// Something a backend holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldId([u8; 16]);

impl Cookies {
    /// Signs the pool's members, each by its key and name and in the pool's order. A key must be secret, and the same on
    /// all replicas.
    pub fn new<'n>(pool: &str, members: impl IntoIterator<Item = (&'n [u8], &'n str)>) -> Self {
        let sign = |(key, member): (&[u8], &str)| {
            // Lengths first, so that no two pairs of names give the same text.
            let length = (pool.len() as u64).to_be_bytes();
            let parts: [&[u8]; 4] = [
                b"tollgate affinity 1",
                &length,
                pool.as_bytes(),
                member.as_bytes(),
            ];
            URL_SAFE_NO_PAD.encode(&hmac(key, &parts)[..SIGNATURE_BYTES])
        };
        Self(members.into_iter().map(sign).collect())
    }

    /// The value that leads back to this member.
    pub fn value(&self, member: usize) -> Option<&str> {
        self.0.get(member).map(String::as_str)
    }

    /// The member that a caller's value leads to; none for anything that wasn't signed.
    pub fn member(&self, value: &[u8]) -> Option<usize> {
        let mut found = None;
        for (member, signed) in self.0.iter().enumerate() {
            if bool::from(signed.as_bytes().ct_eq(value)) {
                found = Some(member);
            }
        }
        found
    }
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Cookies(..)")
    }
}

impl HeldId {
    /// The key for an id within a scope; none for an id that is empty or too long to be one.
    pub fn new(scope: &str, id: &str) -> Option<Self> {
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return None;
        }
        let digest = Sha256::new()
            .chain_update((scope.len() as u64).to_be_bytes())
            .chain_update(scope)
            .chain_update(id)
            .finalize();
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Some(Self(short))
    }

    /// The key as bytes, for a store.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The id that a path below its API speaks of: `/responses/resp_1/input_items` is about `resp_1`.
pub fn id_in_path(path: &str) -> Option<&str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_prefix("openai/").unwrap_or(path);
    let path = path.strip_prefix("v1/").unwrap_or(path);
    if path == NEW_THREAD_AND_RUN {
        return None;
    }
    let mut segments = path.split('/');
    let id = match segments.next()? {
        "fine_tuning" if segments.next()? == "jobs" => segments.next()?,
        "chat" if segments.next()? == "completions" => segments.next()?,
        collection if COLLECTIONS.contains(&collection) => segments.next()?,
        _ => return None,
    };
    (!id.is_empty()).then_some(id)
}

/// Whether a POST to a path below its API makes something that its backend then holds, and names its id.
pub fn makes_held(path: &str) -> bool {
    path == "fine_tuning/jobs" || path == NEW_THREAD_AND_RUN || COLLECTIONS.contains(&path)
}

/// Whether a segment can be an id that a provider gave, and not a word such as in `/threads/runs`.
pub fn can_be_given(id: &str) -> bool {
    id.bytes().any(|byte| byte.is_ascii_digit())
}

/// Makes a thread and its first run in one.
const NEW_THREAD_AND_RUN: &str = "threads/runs";

/// What backends hold, by the path segment before its id.
const COLLECTIONS: [&str; 11] = [
    "responses",
    "conversations",
    "files",
    "uploads",
    "batches",
    "assistants",
    "threads",
    "vector_stores",
    "containers",
    "evals",
    "videos",
];

/// HMAC-SHA256 (RFC 2104) over the parts as one message.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = parts.iter().fold(
        Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)),
        |hash, part| hash.chain_update(part),
    );
    let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn signed(key: &[u8], pool: &str, members: &[&str]) -> Cookies {
        Cookies::new(pool, members.iter().map(|member| (key, *member)))
    }

    #[test]
    fn hmac_gives_the_values_of_rfc_4231() {
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        let short = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            hex(short),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let long = hmac(
            &[0xaa; 131],
            &[b"Test Using Larger Than Block-Size Key - Hash Key First"],
        );
        assert_eq!(
            hex(long),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn a_cookie_leads_back_to_its_member_of_its_pool_under_its_key_only() {
        let cookies = signed(b"key", "chat", &["east", "west"]);
        for member in [0, 1] {
            let value = cookies.value(member).unwrap();
            assert_eq!(cookies.member(value.as_bytes()), Some(member));
            for other in [
                signed(b"other", "chat", &["east", "west"]),
                signed(b"key", "chate", &["ast", "west"]),
            ] {
                assert_eq!(other.member(value.as_bytes()), None);
            }
            let moved = signed(b"key", "chat", &["north", "west", "east"]);
            assert_eq!(moved.member(value.as_bytes()), Some(2 - member));
        }
        assert_eq!(cookies.value(2), None);
        assert_eq!(format!("{cookies:?}"), "Cookies(..)");
    }

    #[test]
    fn another_key_of_one_member_leaves_the_others_cookies_as_they_are() {
        let before = signed(b"key", "chat", &["east", "west"]);
        let keys: [(&[u8], &str); 2] = [(b"new", "east"), (b"key", "west")];
        let after = Cookies::new("chat", keys);
        assert_eq!(after.member(before.value(0).unwrap().as_bytes()), None);
        assert_eq!(after.member(before.value(1).unwrap().as_bytes()), Some(1));
    }

    #[test]
    fn ids_are_found_in_paths_of_what_backends_hold() {
        for (path, id) in [
            ("/responses/resp_1", Some("resp_1")),
            ("/v1/responses/resp_1/input_items", Some("resp_1")),
            ("/openai/v1/files/file-1/content", Some("file-1")),
            ("/threads/t/runs/r", Some("t")),
            ("/fine_tuning/jobs/ft-1/cancel", Some("ft-1")),
            ("/chat/completions/c-1", Some("c-1")),
            ("/chat/completions", None),
            ("/responses", None),
            ("/responses/", None),
            ("/threads/runs", None),
            ("/deployments/gpt-4o/embeddings", None),
            ("", None),
        ] {
            assert_eq!(id_in_path(path), id, "{path}");
        }
    }

    #[test]
    fn what_makes_something_is_told_from_what_speaks_of_it() {
        for path in ["responses", "files", "threads", "fine_tuning/jobs"] {
            assert!(makes_held(path), "{path}");
        }
        for path in ["responses/resp_1/cancel", "chat/completions", "models", ""] {
            assert!(!makes_held(path), "{path}");
        }
        assert!(can_be_given("resp_0a"));
        assert!(!can_be_given("runs") && !can_be_given("input_tokens"));
    }

    #[test]
    fn an_id_belongs_to_its_scope_and_has_a_bound() {
        assert_ne!(HeldId::new("a", "bc"), HeldId::new("ab", "c"));
        assert_eq!(HeldId::new("a", ""), None);
        assert_eq!(HeldId::new("a", &"x".repeat(MAX_ID_BYTES + 1)), None);
        assert!(HeldId::new("a", &"x".repeat(MAX_ID_BYTES)).is_some());
    }

    proptest! {
        #[test]
        fn no_other_bytes_lead_to_a_member(value in prop::collection::vec(any::<u8>(), 0..40), path in "(/|v1|openai|\\PC){0,40}") {
            let cookies = signed(b"key", "chat", &["east", "west"]);
            prop_assert_eq!(cookies.member(&value), None);
            id_in_path(&path);
        }
    }
}
