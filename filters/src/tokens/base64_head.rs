//! Reads single bytes of a file that a request carries in base64.
//!
//! Why: what an image or a recording costs stands in a few numbers of its head, and the file is megabytes
//! long. Four characters are three bytes wherever they stand, so each number is found without the rest.
//!
//! Never decodes more than eight characters at a time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The head of a file in base64, of which single bytes are read.
#[derive(Clone, Copy)]
pub(super) struct Head<'a>(pub(super) &'a [u8]);

impl Head<'_> {
    /// `N` bytes of the file from `offset` on, `N` at most 4.
    pub(super) fn bytes<const N: usize>(self, offset: usize) -> Option<[u8; N]> {
        let group = offset / 3 * 4;
        let characters = self.0.get(group..)?;
        let characters = &characters[..characters.len().min(8)];
        let padding = characters
            .iter()
            .rev()
            .take_while(|byte| **byte == b'=')
            .count();
        let mut decoded = [0; 6];
        let length = STANDARD_NO_PAD
            .decode_slice(&characters[..characters.len() - padding], &mut decoded)
            .ok()?;
        decoded[..length].get(offset % 3..)?.first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_at_any_offset() {
        let head = Head(b"AAECAwQFBgcICQ==");
        for offset in 0..=8 {
            let first = offset as u8;
            assert_eq!(head.bytes(offset), Some([first, first + 1]));
        }
        assert_eq!(head.bytes::<1>(9), Some([9]));
        assert_eq!(head.bytes::<2>(9), None);
        assert_eq!(head.bytes::<1>(usize::MAX / 4), None);
    }

    #[test]
    fn what_is_not_base64_has_no_bytes() {
        assert_eq!(Head(b"").bytes::<1>(0), None);
        assert_eq!(Head(b"====").bytes::<1>(0), None);
        assert_eq!(Head("ä€öü".as_bytes()).bytes::<1>(0), None);
    }
}
