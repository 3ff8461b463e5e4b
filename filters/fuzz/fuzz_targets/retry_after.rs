//! What an answer asks for is a wait above zero and within bounds, or nothing.

#![no_main]

use std::time::Duration;

use filters::expression::Headers;
use filters::retry_after::wait;
use filters::time::UnixTime;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = [
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
];

/// A value for each name, in order; an empty one isn't there.
struct Lines<'a>(Vec<&'a [u8]>);

impl Headers for Lines<'_> {
    fn value(&self, lower_case_name: &str) -> Option<&[u8]> {
        let place = NAMES.iter().position(|name| *name == lower_case_name)?;
        self.0.get(place).copied().filter(|value| !value.is_empty())
    }

    fn each<'h>(&'h self, visit: &mut dyn FnMut(&'h str, &'h [u8])) {
        for name in NAMES {
            if let Some(value) = self.value(name) {
                visit(name, value);
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let lines = Lines(
        data.split(|byte| *byte == b'\n')
            .take(NAMES.len())
            .collect(),
    );
    for now in [0, 1_790_000_000, 253_402_300_799] {
        if let Some(wait) = wait(&lines, UnixTime::from_seconds(now)) {
            assert!(wait > Duration::ZERO);
            assert!(wait <= Duration::from_secs(10 * 365 * 86_400));
        }
    }
});
