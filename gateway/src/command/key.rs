//! `tollgate key new`: a new subscription key, and its hash for the configuration.
//!
//! The key is 32 random bytes of the operating system, in hex, after `tg-`: too many to guess, and the
//! beginning tells a leaked one from other secrets. It is printed once and kept nowhere; the
//! configuration needs only the hash.

use std::fs::File;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// A key, and what the configuration holds of it.
pub struct NewKey {
    /// For the caller.
    pub key: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// Makes a key that nobody has.
pub fn generate() -> io::Result<NewKey> {
    let mut bytes = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(of(bytes))
}

fn of(bytes: [u8; KEY_BYTES]) -> NewKey {
    let key = format!("tg-{}", hex(&bytes));
    let sha256 = hex(&Sha256::digest(key.as_bytes()));
    NewKey { key, sha256 }
}

/// Prints a new key and the entry for `keys = [...]`.
pub fn new(out: &mut dyn Write) -> io::Result<()> {
    print(&generate()?, out)
}

fn print(NewKey { key, sha256 }: &NewKey, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "key, for the caller (it is not kept anywhere):")?;
    writeln!(out, "  {key}")?;
    writeln!(out, "entry, for the configuration:")?;
    writeln!(out, "  keys = [{{ sha256 = \"{sha256}\" }}]")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 256 bits.
const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_entry_is_the_hash_of_the_key() {
        let mut out = Vec::new();
        print(&of([7; KEY_BYTES]), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let key = text.lines().nth(1).unwrap().trim();
        assert_eq!(key, format!("tg-{}", "07".repeat(32)));
        let hash = hex(&Sha256::digest(key.as_bytes()));
        assert!(
            text.contains(&format!("{{ sha256 = \"{hash}\" }}")),
            "{text}"
        );
    }

    #[test]
    fn two_keys_differ() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        new(&mut one).unwrap();
        new(&mut other).unwrap();
        assert_ne!(one, other);
    }
}
