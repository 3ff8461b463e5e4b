//! Callers' tokens: every algorithm that is taken, and everything that makes a token bad.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use filters::time::UnixTime;
use filters::token::keys::{KeySet, KeySetError};
use filters::token::{Claims, Problem, Rule, check, is_token};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    RsaPublicKeyComponents,
};
use serde_json::{Value, json};

const NOW: u64 = 1_700_000_000;

fn rule() -> Rule {
    Rule {
        issuer: Some("https://issuer.example/v2.0".to_owned()),
        audiences: vec!["api://other".to_owned(), "api://tollgate".to_owned()],
        required: Vec::new(),
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example/v2.0", "aud": "api://tollgate", "exp": NOW + 3600,
        "sub": "s", "oid": "o", "roles": ["llm.call", "llm.list"], "scp": "read write", "level": 3,
    })
}

/// A claim set with one claim changed, or left out.
fn with(name: &str, value: Value) -> Value {
    let mut changed = claims();
    match value {
        Value::Null => drop(changed.as_object_mut().unwrap().remove(name)),
        value => changed[name] = value,
    }
    changed
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of this head, signed by `sign`.
fn token(head: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let text = format!(
        "{}.{}",
        base64(head.to_string()),
        base64(claims.to_string())
    );
    let signature = sign(text.as_bytes());
    format!("{text}.{}", base64(signature))
}

struct Rsa(RsaKeyPair);

impl Rsa {
    fn read() -> Rsa {
        let pem = include_str!("../../gateway/tests/managed_identity/client.pem");
        let key = pem.split("-----BEGIN PRIVATE KEY-----").nth(1).unwrap();
        let key = key.split("-----END").next().unwrap();
        let der = STANDARD.decode(key.replace('\n', "")).unwrap();
        Rsa(RsaKeyPair::from_pkcs8(&der).unwrap())
    }

    fn jwk(&self, more: &Value) -> Value {
        let public: RsaPublicKeyComponents<Vec<u8>> = self.0.public().into();
        let mut key =
            json!({ "kty": "RSA", "kid": "r", "n": base64(public.n), "e": base64(public.e) });
        for (name, value) in more.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn sign(&self, how: &'static dyn RsaEncoding) -> impl Fn(&[u8]) -> Vec<u8> {
        move |text| {
            let mut signature = vec![0; self.0.public().modulus_len()];
            let random = SystemRandom::new();
            self.0.sign(how, &random, text, &mut signature).unwrap();
            signature
        }
    }

    fn token(&self, claims: &Value) -> String {
        let head = json!({ "alg": "RS256", "kid": "r" });
        token(&head, claims, self.sign(&RSA_PKCS1_SHA256))
    }
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn judged(token: &str, keys: &KeySet, rule: &Rule) -> Result<Claims, Problem> {
    check(token, keys, rule, UnixTime::from_seconds(NOW))
}

#[track_caller]
fn refused(token: &str, keys: &KeySet, problem: Problem) {
    assert_eq!(judged(token, keys, &rule()).err(), Some(problem));
}

#[test]
fn each_algorithm_that_is_taken_is_checked() {
    let rsa = Rsa::read();
    let ways: [(&str, &'static dyn RsaEncoding); 6] = [
        ("RS256", &RSA_PKCS1_SHA256),
        ("RS384", &RSA_PKCS1_SHA384),
        ("RS512", &RSA_PKCS1_SHA512),
        ("PS256", &RSA_PSS_SHA256),
        ("PS384", &RSA_PSS_SHA384),
        ("PS512", &RSA_PSS_SHA512),
    ];
    let keys = set(&[rsa.jwk(&json!({}))]);
    for (name, how) in ways {
        let head = json!({ "alg": name, "kid": "r" });
        let token = token(&head, &claims(), rsa.sign(how));
        let found = judged(&token, &keys, &rule()).unwrap();
        assert_eq!(found.user(), Some("o"), "{name}");
        assert_eq!(found.value(), &claims());
    }
    let curves: [(&str, &str, &'static EcdsaSigningAlgorithm); 2] = [
        ("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        ("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
    ];
    let random = SystemRandom::new();
    for (name, curve, how) in curves {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(how_long(name));
        let key = json!({ "kty": "EC", "crv": curve, "kid": "e", "x": base64(x), "y": base64(y) });
        let head = json!({ "alg": name, "kid": "e" });
        let sign = |text: &[u8]| pair.sign(&random, text).unwrap().as_ref().to_vec();
        let token = token(&head, &claims(), sign);
        judged(&token, &set(&[key]), &rule()).unwrap();
    }
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let x = base64(pair.public_key());
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "d", "x": x, "alg": "EdDSA" });
    let head = json!({ "alg": "EdDSA", "kid": "d" });
    let sign = |text: &[u8]| pair.sign(text).as_ref().to_vec();
    judged(&token(&head, &claims(), sign), &set(&[key]), &rule()).unwrap();
}

fn how_long(algorithm: &str) -> usize {
    match algorithm {
        "ES256" => 32,
        _ => 48,
    }
}

/// RFC 7515, A.2 and A.3: signed by others. They have no audience, so that is what is wrong with them.
#[test]
fn the_examples_of_the_standard_are_signed_well() {
    const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = json!({ "kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" });
    let ec = json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    let examples = [
        (
            rsa,
            format!(
                "eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
            ),
        ),
        (
            ec,
            format!(
                "eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
            ),
        ),
    ];
    let anyone = Rule {
        issuer: Some("joe".to_owned()),
        ..rule()
    };
    let then = UnixTime::from_seconds(1_300_819_000);
    for (key, text) in examples {
        let keys = set(&[key]);
        let problem = check(&text, &keys, &anyone, then).err();
        assert_eq!(problem, Some(Problem::Audience));
        let changed = text.replace(".eyJpc3Mi", ".eyJpc3Nz");
        let problem = check(&changed, &keys, &anyone, then).err();
        assert_eq!(problem, Some(Problem::Signature));
    }
}

#[test]
fn a_token_without_a_signature_or_with_a_shared_secret_is_refused() {
    let rsa = Rsa::read();
    let keys = set(&[rsa.jwk(&json!({}))]);
    for name in ["none", "None", "NONE", ""] {
        let head = json!({ "alg": name, "kid": "r" });
        let token = token(&head, &claims(), |_| Vec::new());
        assert!(is_token(token.as_bytes()));
        refused(&token, &keys, Problem::Algorithm);
    }
    // The public key, in each form that it is published in, used as the secret.
    let jwk = rsa.jwk(&json!({}));
    let der = rsa.0.public().as_ref().to_vec();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(&der)
    );
    for secret in [der, pem.into_bytes(), jwk["n"].to_string().into_bytes()] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        let sign = |text: &[u8]| ring::hmac::sign(&key, text).as_ref().to_vec();
        let head = json!({ "alg": "HS256", "kid": "r" });
        refused(&token(&head, &claims(), sign), &keys, Problem::Algorithm);
    }
    // A shared secret in a key set is none of the issuer's public keys.
    let shared = json!({ "keys": [{ "kty": "oct", "kid": "r", "k": "c2VjcmV0" }] });
    let parsed = KeySet::parse(shared.to_string().as_bytes());
    assert_eq!(parsed.err(), Some(KeySetError::NoKey));
}

#[test]
fn a_key_signs_by_its_own_algorithm_alone() {
    let rsa = Rsa::read();
    let keys = set(&[rsa.jwk(&json!({ "alg": "RS256" }))]);
    judged(&rsa.token(&claims()), &keys, &rule()).unwrap();
    let head = json!({ "alg": "PS256", "kid": "r" });
    let other = token(&head, &claims(), rsa.sign(&RSA_PSS_SHA256));
    refused(&other, &keys, Problem::Algorithm);
    let head = json!({ "alg": "ES256", "kid": "r" });
    let other = token(&head, &claims(), |_| vec![1; 64]);
    refused(&other, &keys, Problem::Algorithm);
}

#[test]
fn a_key_is_found_by_its_id_or_among_all_where_there_is_none() {
    let rsa = Rsa::read();
    let token = rsa.token(&claims());
    refused(
        &token,
        &set(&[rsa.jwk(&json!({ "kid": "another" }))]),
        Problem::UnknownKey,
    );
    let mut nameless = rsa.jwk(&json!({}));
    nameless.as_object_mut().unwrap().remove("kid");
    judged(&token, &set(&[nameless]), &rule()).unwrap();
    let head = json!({ "alg": "RS256" });
    let unnamed = self::token(&head, &claims(), rsa.sign(&RSA_PKCS1_SHA256));
    let several = set(&[rsa.jwk(&json!({ "kid": "a" })), rsa.jwk(&json!({}))]);
    judged(&unnamed, &several, &rule()).unwrap();
    // Keys for other ends, and kinds that nobody knows yet, are passed over.
    let odd = [
        rsa.jwk(&json!({ "use": "enc" })),
        json!({ "kty": "new", "kid": "r" }),
        json!(1),
        rsa.jwk(&json!({ "kid": "another" })),
    ];
    refused(&token, &set(&odd), Problem::UnknownKey);
}

#[test]
fn times_are_kept_within_a_minute() {
    let rsa = Rsa::read();
    let keys = set(&[rsa.jwk(&json!({}))]);
    let good = |name, value| judged(&rsa.token(&with(name, value)), &keys, &rule()).is_ok();
    let bad = |name, value, problem| refused(&rsa.token(&with(name, value)), &keys, problem);
    assert!(good("exp", json!(NOW - 59)));
    assert!(good("exp", json!(NOW as f64 + 0.5)));
    bad("exp", json!(NOW - 60), Problem::Expired);
    bad("exp", json!(0), Problem::Expired);
    assert!(good("nbf", json!(NOW + 60)));
    bad("nbf", json!(NOW + 61), Problem::NotYetValid);
    for wrong in [Value::Null, json!("later"), json!(-1), json!([])] {
        bad("exp", wrong, Problem::Malformed);
    }
    bad("nbf", json!("now"), Problem::Malformed);
}

#[test]
fn issuer_audience_and_required_claims_are_held_to() {
    let rsa = Rsa::read();
    let keys = set(&[rsa.jwk(&json!({}))]);
    let problem = |claims: &Value, rule: &Rule| judged(&rsa.token(claims), &keys, rule).err();
    for issuer in [
        Value::Null,
        json!("https://issuer.example"),
        json!(["https://issuer.example/v2.0"]),
    ] {
        assert_eq!(
            problem(&with("iss", issuer), &rule()),
            Some(Problem::Issuer)
        );
    }
    assert_eq!(
        problem(&with("iss", json!("https://issuer.example/v2.0/")), &rule()),
        None
    );
    for audience in [Value::Null, json!("api://tollgate2"), json!([]), json!(7)] {
        assert_eq!(
            problem(&with("aud", audience), &rule()),
            Some(Problem::Audience)
        );
    }
    assert_eq!(
        problem(&with("aud", json!(["x", "api://tollgate"])), &rule()),
        None
    );
    let needs = |name: &str, wanted: &[&str]| {
        let wanted = wanted.iter().map(|text| (*text).to_owned()).collect();
        let required = vec![(name.to_owned(), wanted)];
        let rule = Rule { required, ..rule() };
        problem(&claims(), &rule)
    };
    for (name, wanted) in [
        ("roles", &["llm.call"][..]),
        ("roles", &["llm.call", "llm.list"]),
        ("scp", &["write", "read"]),
        ("sub", &["s"]),
        ("level", &["3"]),
        ("sub", &[]),
    ] {
        assert_eq!(needs(name, wanted), None, "{name} {wanted:?}");
    }
    for (name, wanted) in [
        ("roles", &["llm.call", "llm.none"][..]),
        ("roles", &["llm"]),
        ("scp", &["rea"]),
        ("nothing", &["s"]),
        ("nothing", &[]),
    ] {
        assert_eq!(
            needs(name, wanted),
            Some(Problem::Claim),
            "{name} {wanted:?}"
        );
    }
}

#[test]
fn where_a_key_is_to_be_had_isnt_asked_of_the_token() {
    let rsa = Rsa::read();
    let nobodys = set(&[
        json!({ "kty": "oct", "kid": "r", "k": "c2VjcmV0" }),
        rsa.jwk(&json!({ "kid": "other" })),
    ]);
    for more in [
        json!({ "jwk": rsa.jwk(&json!({})) }),
        json!({ "jku": "https://evil.example/keys" }),
        json!({ "x5u": "https://evil.example/chain.pem" }),
        json!({ "x5c": ["MIIB"] }),
    ] {
        let mut head = json!({ "alg": "RS256", "kid": "r" });
        head.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let text = token(&head, &claims(), rsa.sign(&RSA_PKCS1_SHA256));
        refused(&text, &nobodys, Problem::UnknownKey);
        // With the issuer's own key it is as good as without them.
        assert!(judged(&text, &set(&[rsa.jwk(&json!({}))]), &rule()).is_ok());
    }
}

#[test]
fn what_was_changed_or_is_no_token_is_refused() {
    let rsa = Rsa::read();
    let keys = set(&[rsa.jwk(&json!({}))]);
    let good = rsa.token(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let other = base64(with("sub", json!("admin")).to_string());
    refused(
        &format!("{}.{other}.{}", parts[0], parts[2]),
        &keys,
        Problem::Signature,
    );
    refused(
        &format!("{}.{}.", parts[0], parts[1]),
        &keys,
        Problem::Signature,
    );
    let must = json!({ "alg": "RS256", "kid": "r", "crit": ["exp"], "exp": 1 });
    let must = token(&must, &claims(), rsa.sign(&RSA_PKCS1_SHA256));
    for text in [
        "",
        ".",
        "..",
        "e.e.e",
        &good[1..],
        &format!("{good}.{good}"),
        &format!("{good} "),
        &format!("{good}="),
        &must,
        &format!("{}.{}", "e".repeat(20_000), good),
    ] {
        let problem = judged(text, &keys, &rule()).err();
        assert_eq!(problem, Some(Problem::Malformed), "{text:.40}");
    }
}

#[test]
fn a_key_set_is_read_with_its_odd_entries_and_never_without_a_key() {
    let parse = |text: &str| KeySet::parse(text.as_bytes()).err();
    for text in ["", "[]", "{}", r#"{"keys":{}}"#] {
        assert_eq!(parse(text), Some(KeySetError::NotASet), "{text}");
    }
    assert_eq!(parse(r#"{"keys":[]}"#), Some(KeySetError::NoKey));
    let weak = json!({ "keys": [{ "kty": "RSA", "n": base64([255; 128]), "e": "AQAB" }] });
    assert_eq!(parse(&weak.to_string()), Some(KeySetError::NoKey));
    let many = json!({ "keys": vec![json!({}); 257] });
    assert_eq!(parse(&many.to_string()), Some(KeySetError::TooMany));
    // With the zero in front that some write, and padding.
    let rsa = Rsa::read();
    let public: RsaPublicKeyComponents<Vec<u8>> = rsa.0.public().into();
    let padded = base64::engine::general_purpose::URL_SAFE.encode([&[0], &public.n[..]].concat());
    let keys = set(&[rsa.jwk(&json!({ "n": padded }))]);
    judged(&rsa.token(&claims()), &keys, &rule()).unwrap();
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_passes(text in "[ey.A-Za-z0-9_-]{0,200}") {
        let keys = set(&[Rsa::read().jwk(&json!({}))]);
        prop_assert!(judged(&text, &keys, &rule()).is_err());
    }
}
