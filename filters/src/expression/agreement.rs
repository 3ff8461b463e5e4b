//! The direct way and the library give the same, and no source makes either panic.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::tests::with_scope;
use super::*;

fn text_source() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("subscription.id"),
        Just("product.id"),
        Just("request.model"),
        Just("request.ip"),
        Just("jwt.appid"),
        Just("jwt.roles"),
        Just("jwt.nope"),
        Just("response.status"),
        Just("request.stream"),
        Just("'gold'"),
        Just("'gpt-4o'"),
        Just("request.headers['x-team']"),
        Just("request.headers.nope"),
        Just("request.query.a"),
        Just("backend.id"),
        Just("subscription.attributes['cost-center']"),
    ];
    (leaf.clone(), truth_source(), leaf, 0..3u8).prop_map(|(yes, condition, no, form)| match form {
        0 => yes.to_owned(),
        _ => format!("({condition}) ? {yes} : {no}"),
    })
}

fn truth_source() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("true"),
        Just("false"),
        Just("request.stream"),
        Just("product.id == 'gold'"),
        Just("backend.id != 'x'"),
        Just("has(jwt.appid)"),
        Just("has(subscription.id)"),
        Just("'x-team' in request.headers"),
        Just("'nope' in request.query"),
        Just("has(request.headers.nope)"),
        Just("request.headers['nope'] == 'x'"),
        Just("has(subscription.attributes.nope)"),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 8, 2, |inner| {
        (inner.clone(), inner, 0..3u8).prop_map(|(left, right, form)| match form {
            0 => format!("({left}) && ({right})"),
            1 => format!("({left}) || ({right})"),
            _ => format!("!({left})"),
        })
    })
}

proptest! {
    #[test]
    fn the_direct_way_and_the_library_agree(text in text_source(), truth in truth_source(), full in any::<bool>()) {
        let (direct, library) = both(&text, Want::Text, full);
        prop_assert_eq!(direct, library, "{}", text);
        let (direct, library) = both(&truth, Want::Truth, full);
        prop_assert_eq!(direct, library, "{}", truth);
    }

    #[test]
    fn no_source_makes_it_panic(source in "[a-z.\\[\\]\"'()?:&|!=<>+*/ 0-9é\n-]{0,40}") {
        for want in [Want::Text, Want::Truth] {
            if let Ok(expression) = Expression::compile(&source, Place::Answer, want) {
                with_scope(true, |scope| { let _ = (expression.text(scope), expression.truth(scope)); });
            }
        }
    }
}

type Outcome = Result<String, EvaluationError>;

fn both(source: &str, want: Want, full: bool) -> (Outcome, Outcome) {
    let expression = Expression::compile(source, Place::Answer, want).unwrap();
    assert!(
        matches!(expression.compiled.body, Body::Plain(_)),
        "{source}"
    );
    let program = bridge::environment().compile(source).unwrap();
    with_scope(full, |scope| match want {
        Want::Text => (
            expression.text(scope).map(Cow::into_owned),
            bridge::text(program.expression(), scope).map(Cow::into_owned),
        ),
        Want::Truth => (
            expression.truth(scope).map(|truth| truth.to_string()),
            bridge::truth(program.expression(), scope).map(|truth| truth.to_string()),
        ),
    })
}
