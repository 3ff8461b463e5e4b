//! What images cost, from the head of the file that the request carries.
//!
//! Why only the head: the size of an image stands in its first bytes, and an image is megabytes of
//! base64 (see `base64_head`).
//!
//! Two rules are in use. Older models see tiles: the image is fitted into 2048 by 2048, then its short
//! side into 768, and each tile of 512 by 512 costs the same. Newer small models see patches of 32 by 32,
//! at most 1536 of them. The constants are the providers' figures where recordings agree, else the
//! recordings'. An image whose size isn't in the request (a link, a stored file) counts as 1024 by 1024.
//!
//! Never fetches a link, never decodes a picture.

use super::base64_head::Head;

/// How closely a model is asked to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// A fixed small cost on models that see tiles.
    Low,
    /// Any other: the model sees the image in full.
    Full,
}

/// Tokens of an image of `width` by `height` for a model of that base name.
pub(super) fn image(model: &str, (width, height): (u32, u32), detail: Detail) -> u64 {
    let (width, height) = (f64::from(width.max(1)), f64::from(height.max(1)));
    match sight(model) {
        Sight::Patches { hundredths } => {
            let patches = patches(width, height);
            (patches * hundredths).div_ceil(100) + 1
        }
        Sight::Tiles { base, tile } => match detail {
            Detail::Low => base,
            Detail::Full => base + tile * tiles(width, height),
        },
    }
}

/// Whether images cost two models of these base names the same.
pub(super) fn sees_alike(one: &str, other: &str) -> bool {
    sight(one) == sight(other)
}

/// The size that is assumed where none can be read: four tiles.
pub(super) const ASSUMED_SIZE: (u32, u32) = (1024, 1024);

/// How a model's images are charged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    Tiles { base: u64, tile: u64 },
    Patches { hundredths: u64 },
}

fn sight(model: &str) -> Sight {
    let row = SIGHTS.iter().find(|(prefix, _)| model.starts_with(prefix));
    row.map_or(
        Sight::Tiles {
            base: 85,
            tile: 170,
        },
        |(_, sight)| *sight,
    )
}

/// By prefix of the model's name, the longer first where one begins with another.
const SIGHTS: &[(&str, Sight)] = &[
    ("gpt-4.1-mini", Sight::Patches { hundredths: 162 }),
    ("gpt-4.1-nano", Sight::Patches { hundredths: 246 }),
    ("o4-mini", Sight::Patches { hundredths: 172 }),
    ("gpt-5-mini", Sight::Patches { hundredths: 120 }),
    ("gpt-5-nano", Sight::Patches { hundredths: 150 }),
    (
        "gpt-4o-mini",
        Sight::Tiles {
            base: 2833,
            tile: 5667,
        },
    ),
    (
        "gpt-5",
        Sight::Tiles {
            base: 70,
            tile: 140,
        },
    ),
    (
        "o1",
        Sight::Tiles {
            base: 75,
            tile: 150,
        },
    ),
    (
        "o3",
        Sight::Tiles {
            base: 75,
            tile: 150,
        },
    ),
    (
        "computer-use",
        Sight::Tiles {
            base: 65,
            tile: 129,
        },
    ),
];

/// Scales are rounded to this before they are cut into tiles, so that 768.0000001 isn't two tiles.
const ROUNDING: f64 = 1000.0;

fn tiles(width: f64, height: f64) -> u64 {
    let fit = (2048.0 / width.max(height)).min(1.0);
    let (width, height) = (width * fit, height * fit);
    let fit = (768.0 / width.min(height)).min(1.0);
    let side = |length: f64| {
        ((length * fit * ROUNDING).round() / ROUNDING / 512.0)
            .ceil()
            .max(1.0)
    };
    (side(width) * side(height)) as u64
}

const MAX_PATCHES: f64 = 1536.0;

fn patches(width: f64, height: f64) -> u64 {
    let whole = (width / 32.0).ceil() * (height / 32.0).ceil();
    if whole <= MAX_PATCHES {
        return whole as u64;
    }
    let fit = (MAX_PATCHES * 1024.0 / (width * height)).sqrt();
    let (across, down) = (width * fit / 32.0, height * fit / 32.0);
    // Shrunk a little further, so that one side is a whole number of patches.
    let whole = |patches: f64| patches.floor().max(1.0) / patches;
    let trim = whole(across).min(whole(down));
    let side = |patches: f64| ((patches * trim * 1e6).round() / 1e6).ceil().max(1.0);
    (side(across) * side(down)).min(MAX_PATCHES) as u64
}

/// Width and height of the image in a `data:` URL. `None`: a link, another format, or a broken head.
pub(super) fn size(url: &str) -> Option<(u32, u32)> {
    let (_, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    let head = Head(data.as_bytes());
    let (width, height) = match &head.bytes::<4>(0)? {
        [0x89, b'P', b'N', b'G'] => (
            u32::from_be_bytes(head.bytes(16)?),
            u32::from_be_bytes(head.bytes(20)?),
        ),
        b"GIF8" => (short_le(head.bytes(6)?), short_le(head.bytes(8)?)),
        b"RIFF" => webp(head)?,
        [0xFF, 0xD8, _, _] => jpeg(head)?,
        _ => return None,
    };
    (width > 0 && height > 0).then_some((width, height))
}

fn short_le(bytes: [u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(bytes))
}

fn short_be(bytes: [u8; 2]) -> u32 {
    u32::from(u16::from_be_bytes(bytes))
}

fn webp(head: Head<'_>) -> Option<(u32, u32)> {
    match &head.bytes::<4>(12)? {
        b"VP8X" => Some((three_le(head.bytes(24)?) + 1, three_le(head.bytes(27)?) + 1)),
        b"VP8L" => {
            let bits = u32::from_le_bytes(head.bytes(21)?);
            Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        }
        b"VP8 " => Some((
            short_le(head.bytes(26)?) & 0x3FFF,
            short_le(head.bytes(28)?) & 0x3FFF,
        )),
        _ => None,
    }
}

fn three_le([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

/// More sections than this before the size (profiles, previews) are not walked through.
const MAX_SECTIONS: usize = 256;

fn jpeg(head: Head<'_>) -> Option<(u32, u32)> {
    let mut offset = 2;
    for _ in 0..MAX_SECTIONS {
        let [0xFF, marker, high, low] = head.bytes(offset)? else {
            return None;
        };
        match marker {
            // The frame, but for three markers of the same range that mean something else.
            0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                return Some((
                    short_be(head.bytes(offset + 7)?),
                    short_be(head.bytes(offset + 5)?),
                ));
            }
            // A filling byte before a marker.
            0xFF => offset += 1,
            _ => offset += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn url(bytes: &[u8]) -> String {
        format!("data:image/x;base64,{}", STANDARD.encode(bytes))
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        file.extend(width.to_be_bytes());
        file.extend(height.to_be_bytes());
        file
    }

    #[test]
    fn sizes_are_read_from_each_format() {
        assert_eq!(size(&url(&png(640, 480))), Some((640, 480)));
        assert_eq!(size(&url(b"GIF89a\x80\x02\xe0\x01\0\0")), Some((640, 480)));
        let mut jpeg = b"\xff\xd8\xff\xe1\x9c\x42".to_vec();
        jpeg.extend(vec![7; 0x9c40]);
        jpeg.extend(b"\xff\xff\xc2\0\x11\x08\x01\xe0\x02\x80\x03");
        assert_eq!(size(&url(&jpeg)), Some((640, 480)));
        let lossy = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x80\x02\xe0\x01";
        assert_eq!(size(&url(lossy)), Some((640, 480)));
        let large = b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0";
        assert_eq!(size(&url(large)), Some((640, 480)));
        let lossless = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x7f\xc2\x77\0";
        assert_eq!(size(&url(lossless)), Some((640, 480)));
    }

    #[test]
    fn a_link_or_a_broken_head_has_no_size() {
        let cut: Vec<String> = (0..24).map(|length| url(&png(1, 1)[..length])).collect();
        let texts = [
            "https://x/y.png",
            "data:image/png;base64,",
            "data:,hello",
            "data:image/png;base64,%%%%%%%%",
        ];
        for text in texts.into_iter().chain(cut.iter().map(String::as_str)) {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!(size(&url(&png(0, 5))), None);
    }

    #[test]
    fn images_cost_what_was_recorded() {
        let cost = |model, width, height| image(model, (width, height), Detail::Full);
        assert_eq!(cost("gpt-4o", 640, 480), 425);
        assert_eq!(cost("gpt-4o", 3008, 2000), 1105);
        assert_eq!(cost("gpt-4o", 2560, 1669), 1105);
        assert_eq!(cost("gpt-4o-mini", 640, 480), 14167);
        assert_eq!(cost("gpt-5", 640, 480), 350);
        assert_eq!(image("gpt-4o", (9000, 9), Detail::Low), 85);
        assert_eq!(cost("gpt-4.1-mini", u32::MAX, u32::MAX), 2466);
        assert_eq!(cost("gpt-5-mini", u32::MAX, 1), 1845);
    }
}
