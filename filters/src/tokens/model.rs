//! What a model's name says about counting beyond its encoding and format.
//!
//! Names here are base names (see `encoding`). Never guesses: a name that says nothing has no property.

use super::encoding::{base_name, encoding_of};
use super::image::sees_alike;

/// Whether two models' names say the same about counting.
pub fn counts_alike(one: &str, other: &str) -> bool {
    if encoding_of(one) != encoding_of(other) {
        return false;
    }
    let (one, other) = (base_name(one), base_name(other));
    is_gpt_5(&one) == is_gpt_5(&other)
        && hides_text(&one) == hides_text(&other)
        && sees_alike(&one, &other)
}

/// Models whose tools have another heading than the o-series'.
pub(super) fn is_gpt_5(model: &str) -> bool {
    model.starts_with("gpt-5")
}

/// Models that are shown text which isn't in the request.
pub(super) fn hides_text(model: &str) -> bool {
    model.contains("search-preview") || model.starts_with("o1-mini") || model.starts_with("o3-mini")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dated_or_tuned_model_counts_as_its_kin_and_another_size_does_not() {
        for (one, other) in [
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("gpt-4", "gpt-4-0613"),
            ("ft:gpt-4o-mini:x", "gpt-4o-mini"),
            ("gpt-5", "gpt-5-2025-08-07"),
        ] {
            assert!(counts_alike(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("gpt-4", "gpt-4o"),
            ("gpt-4o", "gpt-4o-mini"),
            ("o3", "gpt-5"),
            ("o3", "o3-mini"),
            ("gpt-5", "gpt-5-nano"),
            ("my-deployment", "gpt-4o"),
        ] {
            assert!(!counts_alike(one, other), "{one} {other}");
        }
    }
}
