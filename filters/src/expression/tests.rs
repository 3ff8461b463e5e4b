//! What expressions give, and what is said of those that are none.

#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

const HEADERS: &[(&str, &str)] = &[("x-user-id", "ann"), ("x-empty", ""), ("x-team", "gold")];

pub(super) fn with_scope<T>(full: bool, run: impl FnOnce(&Scope<'_>) -> T) -> T {
    let attributes = BTreeMap::from([("cost-center".to_owned(), "4711".to_owned())]);
    let claims = json!({"appid": "app-1", "roles": ["llm.call", 7], "exp": 17, "ok": true, "deep": {"er": "x"}});
    run(&Scope {
        request: RequestScope {
            ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            method: "POST",
            path: "/openai/v1/responses",
            headers: &HEADERS,
            query: "a=1&b=x%20y&a=2&empty",
            model: "gpt-4o",
            stream: true,
            user: "ann",
        },
        subscription: full.then_some(SubscriptionScope {
            id: "team-a",
            attributes: &attributes,
        }),
        product: full.then_some("gold"),
        api: "azure",
        operation: "responses",
        gateway_id: "pod-1",
        gateway_location: "westeurope",
        jwt: full.then_some(&claims),
        backend: full.then_some("ptu-east"),
        status: full.then_some(200),
    })
}

fn text(source: &str, full: bool) -> Result<String, EvaluationError> {
    let expression = Expression::compile(source, Place::Answer, Want::Text).unwrap();
    with_scope(full, |scope| expression.text(scope).map(Cow::into_owned))
}

fn truth(source: &str, full: bool) -> Result<bool, EvaluationError> {
    let expression = Expression::compile(source, Place::Answer, Want::Truth).unwrap();
    with_scope(full, |scope| expression.truth(scope))
}

fn error(source: &str, want: Want) -> ExpressionError {
    Expression::compile(source, Place::Request, want).unwrap_err()
}

fn is_plain(source: &str, want: Want) -> bool {
    let expression = Expression::compile(source, Place::Answer, want).unwrap();
    matches!(expression.compiled.body, Body::Plain(_))
}

#[test]
fn every_known_name_gives_its_value() {
    for (source, expected) in [
        ("request.ip", "192.0.2.1"),
        ("request.method", "POST"),
        ("request.path", "/openai/v1/responses"),
        (r#"request.headers["x-user-id"]"#, "ann"),
        (r#"request.headers["x-empty"]"#, ""),
        ("request.query.a", "1"),
        (r#"request.query["b"]"#, "x y"),
        ("request.query.empty", ""),
        ("request.model", "gpt-4o"),
        ("request.stream", "true"),
        ("subscription.id", "team-a"),
        (r#"subscription.attributes["cost-center"]"#, "4711"),
        ("product.id", "gold"),
        ("api.id", "azure"),
        ("operation.id", "responses"),
        ("gateway.id", "pod-1"),
        ("gateway.location", "westeurope"),
        ("backend.id", "ptu-east"),
        ("response.status", "200"),
        ("jwt.appid", "app-1"),
        ("jwt.exp", "17"),
        ("jwt.ok", "true"),
        ("jwt.deep.er", "x"),
        ("jwt.roles[0]", "llm.call"),
        (r#""fixed""#, "fixed"),
        (r#"subscription.id + "/" + request.model"#, "team-a/gpt-4o"),
        ("string(response.status / 100) + 'xx'", "2xx"),
        (r#"{"gpt-4o": "large"}[request.model]"#, "large"),
        (
            r#""x-user-id" in request.headers ? request.headers["x-user-id"] : "N/A""#,
            "ann",
        ),
        (
            r#""x-other" in request.headers ? request.headers["x-other"] : "N/A""#,
            "N/A",
        ),
        ("size(request.model)", "6"),
    ] {
        assert_eq!(text(source, true).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn conditions_hold_as_written() {
    for (source, expected) in [
        (r#"product.id == "gold""#, true),
        (r#"product.id != "gold""#, false),
        (r#"request.stream && !(api.id == "x")"#, true),
        (r#""llm.call" in jwt.roles"#, true),
        (r#""x" in jwt"#, false),
        ("has(jwt.appid)", true),
        ("has(request.headers.nope)", false),
        (r#""cost-center" in subscription.attributes"#, true),
        ("jwt.exp == 17 && jwt.exp < 18", true),
        (r#"jwt.exp == "17""#, false),
        ("response.status >= 200 && response.status < 300", true),
        (
            r#"request.model.startsWith("gpt-") && request.path.contains("v1")"#,
            true,
        ),
        (r#"request.model in ["gpt-4o", "o3"]"#, true),
        ("true", true),
    ] {
        assert_eq!(truth(source, true), Ok(expected), "{source}");
    }
}

#[test]
fn what_is_not_there_fails_and_can_be_asked_for() {
    for source in [
        "subscription.id",
        "jwt.appid",
        "jwt.deep.er",
        "backend.id",
        "response.status",
        r#"request.headers["nope"]"#,
        r#"request.headers["nope"] + "x""#,
        r#"subscription.attributes["x"]"#,
    ] {
        assert_eq!(
            text(source, false),
            Err(EvaluationError::Missing),
            "{source}"
        );
    }
    for source in [
        "has(jwt.appid)",
        "has(subscription.id)",
        r#""appid" in jwt"#,
        "has(product.id) && true",
    ] {
        assert_eq!(truth(source, false), Ok(false), "{source}");
    }
    assert_eq!(text("jwt.roles", true), Err(EvaluationError::WrongKind));
    assert_eq!(truth("jwt.appid", true), Err(EvaluationError::WrongKind));
    assert_eq!(
        text("1 / (size(request.model) - 6)", true),
        Err(EvaluationError::Failed)
    );
}

#[test]
fn a_product_that_is_not_there_reads_as_empty() {
    for (source, expected) in [
        (r#"product.id == "gold""#, false),
        (r#"product.id != "gold""#, true),
        (r#"product.id == """#, true),
        (r#"product["id"] == """#, true),
        (r#"product.id in ["gold", "silver"]"#, false),
        (
            r#"product.id.startsWith("go") || size(product.id) > 3"#,
            false,
        ),
        ("has(product.id)", false),
        (r#"has(product.id) || size(product.id) == 0"#, true),
    ] {
        assert_eq!(truth(source, false), Ok(expected), "{source}");
    }
    assert_eq!(text("product.id", false).as_deref(), Ok(""));
    assert_eq!(text("product.id + '/x'", false).as_deref(), Ok("/x"));
}

#[test]
fn a_wrong_name_is_told_with_its_place_and_the_nearest_one() {
    let found = error(
        "api.id == \"é\" &&\n  subscription.idd == \"x\"",
        Want::Truth,
    );
    assert_eq!(
        found.message,
        "`subscription` has no field `idd`; did you mean `id`?"
    );
    assert_eq!((found.line, found.column), (2, 15), "at the dot");
    for (source, expected) in [
        (
            "reqest.ip",
            "unknown name `reqest`; did you mean `request`?",
        ),
        (
            "request.header",
            "`request` has no field `header`; did you mean `headers`?",
        ),
        (
            r#"request["modle"]"#,
            "`request` has no field `modle`; did you mean `model`?",
        ),
        (
            "has(product.name) ? 'a' : 'b'",
            "`product` has no field `name`; known are id",
        ),
        (
            "request[request.model]",
            "the fields of `request` are asked for by name: `request.NAME`",
        ),
        (
            "sise(request.path)",
            "unknown function `sise`; did you mean `size`?",
        ),
        (
            r#"request.headers["X-User"]"#,
            "header names are lower case here; write \"x-user\"",
        ),
        (
            r#""X-A" in request.headers"#,
            "header names are lower case here; write \"x-a\"",
        ),
        (
            "backend.id",
            "`backend` is known in a dimension's value only: nothing has answered yet",
        ),
        (
            "request",
            "this gives the whole of `request`, text is wanted; known are ip, method, path, headers, query, model, stream",
        ),
        ("request.headers", "this gives a map, text is wanted"),
        ("[1]", "this gives a list, text is wanted"),
        (r#"request.model + 1"#, "text and a number can't be added"),
        (
            r#"api.id == 1 ? "a" : "b""#,
            "text and a number can't be compared",
        ),
        (
            r#""a" in request.model ? "a" : "b""#,
            "`in` looks into a map or a list, not into text; for text use `contains`",
        ),
        ("request.model.id", "text has no field `id`"),
        ("", "the expression is empty"),
    ] {
        assert_eq!(error(source, Want::Text).message, expected, "{source}");
    }
}

#[test]
fn a_wrong_kind_and_wrong_syntax_are_told_with_their_place() {
    assert_eq!(
        error("request.model", Want::Truth).message,
        "this gives text, true or false is wanted"
    );
    assert_eq!(
        error("'on'", Want::Truth).message,
        "this gives text, true or false is wanted"
    );
    for (source, column, expected) in [
        ("api.id ==", 10, "the expression ends too early"),
        (
            "api.id = 'x'",
            8,
            "a single `=` compares nothing here; write `==`",
        ),
        ("api.id == 'x", 11, "this text isn't closed on its line"),
        ("request.headers[", 17, "the expression ends too early"),
        ("api.id api.id", 8, "unexpected 'api'"),
        (
            "request.?ip",
            8,
            "optional fields (`.?`, `[?...]`) aren't offered; use `has(...)` or `in`",
        ),
    ] {
        let found = error(source, Want::Text);
        assert_eq!(
            (found.message.as_str(), found.column),
            (expected, column),
            "{source}"
        );
    }
}

#[test]
fn places_are_counted_in_characters_whatever_stands_before() {
    for (before, column) in [("a", 18), ("é", 18), ("\u{1f600}", 18)] {
        let source = format!("api.id == '{before}' || apy.id == 'x'");
        assert_eq!(error(&source, Want::Truth).column, column, "{source}");
        let source = format!("api.id == '{before}' || ) == 'x'");
        assert_eq!(error(&source, Want::Truth).column, column, "{source}");
    }
}

#[test]
fn what_could_cost_more_than_its_input_is_refused() {
    for source in [
        "jwt.roles.exists(role, role == 'x')",
        "jwt.roles.all(a, jwt.roles.all(b, a == b))",
        "[1, 2].map(x, x)[0] == 1",
        "request.path.matches('(a+)+$')",
    ] {
        let message = error(source, Want::Truth).message;
        assert!(message.contains("offered"), "{source}: {message}");
    }
    assert!(
        error(&"x".repeat(5000), Want::Truth)
            .message
            .contains("longer")
    );
    let long = format!("api.id{}", " + 'x'".repeat(300));
    assert!(error(&long, Want::Text).message.contains("nests deeper"));
    for deep in [
        format!("{}true", "!".repeat(2001)),
        format!("{}true{}", "(".repeat(2000), ")".repeat(2000)),
        "true ? false : ".repeat(250),
    ] {
        let _ = Expression::compile(&deep, Place::Request, Want::Truth);
    }
}

#[test]
fn it_tells_which_roots_it_mentions() {
    let source = "has(jwt.sub) ? jwt.sub : subscription.id";
    let expression = Expression::compile(source, Place::Request, Want::Text).unwrap();
    assert!(
        expression.names("jwt") && expression.names("subscription") && !expression.names("request")
    );
    assert_eq!(expression.source(), source);
}

#[test]
fn what_most_people_write_is_evaluated_directly() {
    for source in [
        "subscription.id",
        r#"request.headers["x"]"#,
        r#"subscription.attributes["cost-center"]"#,
        "jwt.appid",
        r#""x-user-id" in request.headers ? request.headers["x-user-id"] : "N/A""#,
        "has(jwt.sub) ? jwt.sub : subscription.id",
    ] {
        assert!(is_plain(source, Want::Text), "{source}");
    }
    assert!(is_plain(
        r#"product.id == "gold" && request.stream"#,
        Want::Truth
    ));
    assert!(!is_plain(r#"jwt.appid == "x""#, Want::Truth));
}
