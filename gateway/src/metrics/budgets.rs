//! What budgets tell beside their refusals.

use metrics::Label;

use super::Metrics;

pub(super) const WARNINGS: &str = "tollgate_budget_warnings_total";
pub(super) const UNPRICED: &str = "tollgate_budget_unpriced_total";

impl Metrics {
    /// A call was admitted by a budget that is nearly spent.
    pub fn budget_warning(&self, policy: &str) {
        let labels = vec![Label::new("policy", policy.to_owned())];
        self.counter(WARNINGS, labels).increment(1);
    }

    /// A call was admitted whose model has no price, so a budget won't count it.
    pub fn budget_unpriced(&self, policy: &str) {
        let labels = vec![Label::new("policy", policy.to_owned())];
        self.counter(UNPRICED, labels).increment(1);
    }
}
