//! The last minutes, second by second: requests, refusals, tokens. Sums are read, differences are kept.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::state::State;

/// Seconds that are kept.
const SECONDS: usize = 300;

/// One second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Second {
    requests: u64,
    refused: u64,
    tokens: u64,
}

/// The last [`SECONDS`].
#[derive(Debug, Default)]
pub(super) struct History {
    sums: Second,
    seconds: VecDeque<Second>,
}

impl History {
    /// Notes what was added since it was last called.
    pub(super) fn note(&mut self, state: &State) {
        self.add(Second {
            requests: state.arrived(),
            refused: state.live.refused_sum(),
            tokens: state.live.tokens_sum(),
        });
    }

    fn add(&mut self, sums: Second) {
        if self.seconds.len() == SECONDS {
            self.seconds.pop_front();
        }
        self.seconds.push_back(Second {
            requests: sums.requests.saturating_sub(self.sums.requests),
            refused: sums.refused.saturating_sub(self.sums.refused),
            tokens: sums.tokens.saturating_sub(self.sums.tokens),
        });
        self.sums = sums;
    }

    /// The oldest first.
    pub(super) fn json(&self) -> Value {
        let list = |of: fn(&Second) -> u64| self.seconds.iter().map(of).collect::<Vec<_>>();
        json!({
            "seconds": SECONDS,
            "requests": list(|second| second.requests),
            "refused": list(|second| second.refused),
            "tokens": list(|second| second.tokens),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_is_what_was_added_in_it_and_the_oldest_go() {
        let mut history = History::default();
        for requests in [5, 5, 8] {
            history.add(Second {
                requests,
                ..Second::default()
            });
        }
        assert_eq!(history.json()["requests"], json!([5, 0, 3]));
        for _ in 0..SECONDS {
            history.add(Second::default());
        }
        assert_eq!(history.seconds.len(), SECONDS);
    }
}
