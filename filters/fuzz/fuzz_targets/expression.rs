//! Whatever compiles is evaluated without a panic, and gives the same twice.

#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use filters::expression::{Expression, Place, RequestScope, Scope, SubscriptionScope, Want};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let attributes = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    let headers: &[(&str, &str)] = &[("x-team", "a"), ("x-empty", "")];
    let jwt = serde_json::json!({"appid": "a", "roles": ["x"], "n": 1});
    for (place, want) in [
        (Place::Request, Want::Text),
        (Place::Request, Want::Truth),
        (Place::Answer, Want::Text),
    ] {
        let Ok(expression) = Expression::compile(source, place, want) else {
            continue;
        };
        let scope = Scope {
            request: RequestScope {
                ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
                method: "POST",
                path: "/v1/chat/completions",
                headers: &headers,
                query: "a=b",
                model: "gpt-4o",
                stream: true,
                user: "",
            },
            subscription: Some(SubscriptionScope {
                id: "s",
                attributes: &attributes,
            }),
            product: Some("p"),
            api: "a",
            operation: "chat-completions",
            gateway_id: "g",
            gateway_location: "",
            jwt: Some(&jwt),
            backend: Some("b"),
            status: Some(200),
        };
        match want {
            Want::Text => {
                let (one, two) = (expression.text(&scope), expression.text(&scope));
                assert_eq!(one.ok(), two.ok());
            }
            Want::Truth => assert_eq!(expression.truth(&scope).ok(), expression.truth(&scope).ok()),
        }
    }
});
