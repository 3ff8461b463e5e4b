//! What recordings cost: ten tokens for a second, by the length that their head tells.
//!
//! Never decodes sound: the length is the size of the file by the bytes a second that its head names.

use super::base64_head::Head;

/// Tokens of a recording in base64. `None`: its length can't be read.
pub(super) fn audio(data: &str) -> Option<u64> {
    let head = Head(data.as_bytes());
    let file_bytes = data.trim_end_matches('=').len() as u64 * 3 / 4;
    let sound = match &head.bytes::<4>(0)? {
        b"RIFF" => Sound {
            head_bytes: 44,
            bytes_per_second: u32::from_le_bytes(head.bytes(28)?).into(),
        },
        [b'I', b'D', b'3', _] => mp3(head, tag_bytes(head)?)?,
        [0xFF, _, _, _] => mp3(head, 0)?,
        _ => return None,
    };
    let sound_bytes = file_bytes.saturating_sub(sound.head_bytes);
    (sound_bytes * TOKENS_PER_SECOND).checked_div(sound.bytes_per_second)
}

const TOKENS_PER_SECOND: u64 = 10;

struct Sound {
    head_bytes: u64,
    bytes_per_second: u64,
}

/// The length of the tag (title, cover) before the sound: seven bits of each of four bytes.
fn tag_bytes(head: Head<'_>) -> Option<usize> {
    let length = head.bytes::<4>(6)?;
    let length = length
        .iter()
        .fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7F));
    Some(length + 10)
}

/// The rate that the first frame names. A file whose rate varies is taken as if it didn't.
fn mp3(head: Head<'_>, offset: usize) -> Option<Sound> {
    let [0xFF, version, rate, _] = head.bytes(offset)? else {
        return None;
    };
    let kilobits = if version & 0x08 == 0 {
        HALF_RATE_KILOBITS
    } else {
        FULL_RATE_KILOBITS
    };
    let kilobits = *kilobits.get(usize::from(rate >> 4))?;
    Some(Sound {
        head_bytes: offset as u64,
        bytes_per_second: kilobits * 125,
    })
}

/// Kilobits a second of MPEG 1 layer III, by the four bits of a frame. Zero: free format, not read.
const FULL_RATE_KILOBITS: [u64; 15] = [
    0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
];

/// The same of MPEG 2.
const HALF_RATE_KILOBITS: [u64; 15] =
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_wave_file_costs_ten_tokens_a_second() {
        let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend(8000_u32.to_le_bytes());
        wav.extend(16000_u32.to_le_bytes());
        wav.extend(b"\x02\0\x10\0data\0\0\0\0");
        wav.extend(vec![0; 16000 * 7 - 640]);
        assert_eq!(audio(&STANDARD.encode(wav)), Some(69));
    }

    #[test]
    fn a_compressed_file_costs_by_its_rate() {
        let mut mp3 = b"ID3\x04\0\0\0\0\0\x05cover\xff\xfb\x70\0".to_vec();
        mp3.extend(vec![0; 12_000 * 2]);
        assert_eq!(audio(&STANDARD.encode(&mp3)), Some(20));
        assert_eq!(audio(&STANDARD.encode(&mp3[15..])), Some(20));
    }

    #[test]
    fn an_unreadable_head_has_no_length() {
        for data in ["", "UklGRg", "////", "SUQz", ",<elided>"] {
            assert_eq!(audio(data), None, "{data}");
        }
        assert_eq!(audio(&STANDARD.encode([0; 64])), None);
    }
}
