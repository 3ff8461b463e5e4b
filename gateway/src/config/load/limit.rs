//! `[[token-limit]]`: what is counted, by which key, how much of it there is, and what callers are told.

use std::sync::Arc;

use filters::expression::Expression;
use filters::limit::bucket::Rate;
use filters::limit::quota::Quota;
use filters::limit::reservation::Mode;
use filters::limit::{Hold, Limit, OnRedisError};
use http::{HeaderName, header};

use super::super::error::Located;
use super::super::file::policy as written;
use super::super::plan::{LimitHeaders, TokenLimit};
use super::names::report_duplicates;
use super::{Loader, or};

/// Every token limit.
pub(super) fn token_limits(loader: &Loader<'_>) -> Vec<Arc<TokenLimit>> {
    let files = &loader.file.policies.token_limits;
    let names = files.iter().filter_map(|limit| limit.name.as_ref());
    let budgets = loader.file.policies.budgets.iter();
    let names = names.chain(budgets.filter_map(|budget| budget.name.as_ref()));
    report_duplicates(loader.findings, "limit or budget", names);
    files
        .iter()
        .filter_map(|file| token_limit(loader, file))
        .map(Arc::new)
        .collect()
}

fn token_limit(loader: &Loader<'_>, file: &written::TokenLimit) -> Option<TokenLimit> {
    let when = loader.condition(file.when.as_ref());
    let counter_key = loader.request_text(file.counter_key.as_ref());
    if let (Some(expression), Some(text)) = (&counter_key, &file.counter_key) {
        refuse_uncountable(loader, expression, when.as_ref(), text);
    }
    let headers = headers(loader, file);
    let name = &file.name.as_ref()?.value;
    Some(TokenLimit {
        name: name.clone(),
        counter: name.clone(),
        budget: None,
        when,
        counter_key: counter_key?,
        limit: limit(file)?,
        on_redis_error: or(file.on_redis_error.as_ref(), OnRedisError::Local),
        mode: or(file.mode.as_ref(), Mode::Enforce),
        headers,
    })
}

/// `None` where an amount is missing, which the reader has reported.
fn limit(file: &written::TokenLimit) -> Option<Limit> {
    let rate = file.tokens_per_minute.as_ref();
    let rate = rate.and_then(|tokens| Rate::new(tokens.value));
    let quota = match (&file.quota, &file.period) {
        (Some(tokens), Some(period)) => Quota::new(tokens.value, period.value),
        (Some(_), None) | (None, Some(_)) | (None, None) => None,
    };
    let flag = |written: &Option<Located<bool>>| or(written.as_ref(), false);
    let hold = match (
        flag(&file.estimates_prompt),
        flag(&file.reserves_completion),
    ) {
        (_, true) => Hold::PromptAndCompletion,
        (true, false) => Hold::Prompt,
        (false, false) => Hold::Nothing,
    };
    Limit::new(rate, quota, hold).ok()
}

fn headers(loader: &Loader<'_>, file: &written::TokenLimit) -> LimitHeaders {
    let name = |text: &Option<Located<String>>| header_name(loader, text.as_ref()?);
    let names = &file.headers;
    LimitHeaders {
        retry_after: name(&names.retry_after).unwrap_or(header::RETRY_AFTER),
        remaining_tokens: name(&names.remaining_tokens),
        remaining_quota: name(&names.remaining_quota),
        consumed: name(&names.consumed),
        standard: or(file.standard_headers.as_ref(), true),
    }
}

/// A name that an answer may bear. One that frames the answer or names its content would break it.
fn header_name(loader: &Loader<'_>, text: &Located<String>) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.value.as_bytes()).ok();
    let taken = [
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::SET_COOKIE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let found = text.value.escape_debug();
    let message = match &name {
        None => format!("found \"{found}\", expected a header's name"),
        Some(name) if taken.contains(name) => {
            format!(
                "found \"{found}\", which every answer has for itself; expected another header's name"
            )
        }
        Some(_) => return name,
    };
    loader.findings.error(&text.place, message);
    None
}

/// A count by subscription can't be kept where callers need none, unless `when` keeps such APIs out.
///
/// An approximation: a `when` that names the API, the product or the subscription is taken to do so. Where it doesn't,
/// the expression fails at the request, which is refused under the limit's name.
pub(super) fn refuse_uncountable(
    loader: &Loader<'_>,
    key: &Expression,
    when: Option<&Expression>,
    text: &Located<String>,
) {
    let by = ["subscription", "product"]
        .into_iter()
        .find(|root| key.names(root));
    let restricts = |when: &Expression| {
        ["api", "product", "subscription"]
            .iter()
            .any(|root| when.names(root))
    };
    let Some(by) = by.filter(|_| !when.is_some_and(restricts)) else {
        return;
    };
    let is_open =
        |required: &Option<Located<bool>>| required.as_ref().is_some_and(|flag| !flag.value);
    let mut apis = loader.file.apis.iter();
    if let Some(open) = apis.find(|api| is_open(&api.subscription_required)) {
        let name = &open.name.value;
        let message = format!(
            "the count is by {by}, and API \"{name}\" needs no subscription; expected subscription-required = true there, or a when that leaves it out"
        );
        loader.findings.error(&text.place, message);
    }
}
