//! A wait as people say it. Never shorter than it is: whoever comes back then isn't refused again.

/// Up to here, seconds are said as they are. Clients look for them in messages.
const SECONDS_MAX: u64 = 120;
/// From the largest.
const UNITS: [(u64, &str); 4] = [
    (86_400, "day"),
    (3_600, "hour"),
    (60, "minute"),
    (1, "second"),
];

/// `1 second`, `90 seconds`, `21 minutes and 33 seconds`, `5 days and 6 hours`.
pub fn in_words(seconds: u64) -> String {
    if seconds <= SECONDS_MAX {
        return counted(seconds, "second");
    }
    let mut pairs = UNITS.iter().zip(&UNITS[1..]);
    let Some(((large, large_name), (small, small_name))) =
        pairs.find(|((large, _), _)| seconds >= *large)
    else {
        return counted(seconds, "second");
    };
    let whole = seconds.div_ceil(*small).saturating_mul(*small);
    if whole > seconds {
        return in_words(whole);
    }
    let first = counted(seconds / large, large_name);
    match seconds % large / small {
        0 => first,
        rest => format!("{first} and {}", counted(rest, small_name)),
    }
}

fn counted(count: u64, unit: &str) -> String {
    match count {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_tell_a_wait_and_never_a_shorter_one() {
        for (seconds, expected) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (53, "53 seconds"),
            (120, "120 seconds"),
            (121, "2 minutes and 1 second"),
            (1_293, "21 minutes and 33 seconds"),
            (3_600, "1 hour"),
            (3_601, "1 hour and 1 minute"),
            (86_399, "1 day"),
            (86_401, "1 day and 1 hour"),
            (453_709, "5 days and 7 hours"),
            (31_536_000, "365 days"),
        ] {
            assert_eq!(in_words(seconds), expected, "{seconds}");
        }
        assert!(in_words(u64::MAX).contains("days"));
    }
}
