//! Durations and sizes as the file writes them: `"30s"`, `"32MiB"`.
//!
//! A whole number and one unit, nothing else: `"1h30m"` and `"1.5s"` save nobody a thought and would have
//! to be explained. Written back in the largest unit that divides them, so that an error names a bound
//! as the user would write it.

use std::time::Duration;

/// Reads `"250ms"`, `"30s"`, `"10m"`, `"24h"`, `"7d"`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let millis = parse(text, &DURATIONS)?;
    Some(Duration::from_millis(millis))
}

/// Reads `"100B"`, `"512KiB"`, `"32MiB"`, `"1GiB"`, `"10MB"`: bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// As the file would write it.
pub fn write_duration(duration: Duration) -> String {
    // Any duration of the file fits: they are bounded by days.
    write(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        &DURATIONS,
    )
}

/// As the file would write it.
pub fn write_size(bytes: u64) -> String {
    write(bytes, &SIZES[..4])
}

/// Smallest first. Milliseconds.
const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// The powers of 1024 first: sizes are written back in these. Bytes.
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn write(value: u64, units: &[(&str, u64)]) -> String {
    let whole = |unit: &&(&str, u64)| value != 0 && value.is_multiple_of(unit.1);
    let (name, scale) = units.iter().rev().find(whole).unwrap_or(&units[0]);
    format!("{}{name}", value / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        let read = |text| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(read("250ms"), Some(250));
        assert_eq!(read("30s"), Some(30_000));
        assert_eq!(read("7d"), Some(604_800_000));
        for wrong in [
            "",
            "30",
            "s",
            "1.5s",
            "1h30m",
            "-1s",
            "30 s",
            "30S",
            "+3s",
            "99999999999999999999s",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_know_both_kinds_of_prefix() {
        assert_eq!(parse_size("100B"), Some(100));
        assert_eq!(parse_size("32MiB"), Some(32 << 20));
        assert_eq!(parse_size("10MB"), Some(10_000_000));
        for wrong in ["", "32", "32mib", "32 MiB", "1TiB", "99999999999GiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for text in ["0ms", "250ms", "90s", "2m", "36h", "7d"] {
            assert_eq!(
                parse_duration(text).map(write_duration).as_deref(),
                Some(text)
            );
        }
        for text in ["0B", "1000B", "3KiB", "2047MiB", "1GiB"] {
            assert_eq!(parse_size(text).map(write_size).as_deref(), Some(text));
        }
    }
}
