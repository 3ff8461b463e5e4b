//! `[jwt]`: which tokens are taken, where their keys are, and whom they stand for.

use std::collections::HashMap;
use std::sync::Arc;

use filters::token::Rule;
use filters::token::keys::KeySet;

use super::super::error::Located;
use super::super::file::identity as written;
use super::super::plan::Subscription;
use super::super::plan::jwt::{Jwt, Keys, Site};
use super::Loader;
use super::endpoint::site;
use super::identity::is_loopback;

/// What callers' tokens are judged by, if any are taken.
pub(super) fn jwt(loader: &Loader<'_>, subscriptions: &[Arc<Subscription>]) -> Option<Arc<Jwt>> {
    let file = loader.file.jwt.as_ref()?;
    let subscription = loader.request_text(file.subscription.as_ref());
    if let (Some(written), Some(expression)) = (&file.subscription, &subscription) {
        for name in ["subscription", "product"] {
            if expression.names(name) {
                let message = format!(
                    "the expression names {name}, which is known only when this has said whose the token is"
                );
                loader.findings.error(&written.place, message);
            }
        }
    }
    if file.issuer.is_none() && file.jwks.is_some() {
        let message = "no issuer: a token of any issuer that these keys sign for is taken";
        loader.findings.warn(&file.place, message);
    }
    let ca = file.ca.as_ref();
    let ca = ca.and_then(|path| loader.pem(path, "CERTIFICATE"));
    let keys = keys(loader, file, ca.map(Arc::from));
    let audiences = file.audience.iter().flatten();
    let required = file.required_claims.iter().map(|(name, wanted)| {
        let wanted = wanted.iter().map(|text| text.value.clone());
        (name.value.clone(), wanted.collect())
    });
    let rule = Rule {
        issuer: file.issuer.as_ref().map(|text| text.value.clone()),
        audiences: audiences.map(|text| text.value.clone()).collect(),
        required: required.collect(),
    };
    let places = subscriptions.iter().enumerate();
    let places = places.map(|(place, subscription)| (subscription.name.clone(), place));
    Some(Arc::new(Jwt {
        rule,
        keys: keys?,
        subscription,
        subscriptions: places.collect::<HashMap<_, _>>(),
    }))
}

fn keys(loader: &Loader<'_>, file: &written::Jwt, ca_pem: Option<Arc<[u8]>>) -> Option<Keys> {
    // Read in any case, so that its mistakes are told.
    let issuer = file.issuer.as_ref();
    let discovery = issuer.and_then(|text| {
        let mut at = url(loader, text, ca_pem.clone())?;
        at.endpoint
            .base_path
            .push_str("/.well-known/openid-configuration");
        let issuer = text.value.clone();
        Some(Keys::Discovery { at, issuer })
    });
    let Some(jwks) = &file.jwks else {
        return discovery;
    };
    if jwks.value.contains("://") {
        return url(loader, jwks, ca_pem).map(Keys::Url);
    }
    let bytes = loader.file(&jwks.value, &jwks.place)?;
    match KeySet::parse(&bytes) {
        Ok(keys) => Some(Keys::File(Arc::new(keys))),
        Err(error) => {
            let message = format!("the file \"{}\" {error}", jwks.value);
            loader.findings.error(&jwks.place, message);
            None
        }
    }
}

fn url(loader: &Loader<'_>, text: &Located<String>, ca_pem: Option<Arc<[u8]>>) -> Option<Site> {
    match site(&text.value) {
        Ok((endpoint, query)) => {
            if !endpoint.tls && !is_loopback(&endpoint.host) {
                let message = "keys come over http://: whoever is on the way can put their own in their place; expected https://";
                loader.findings.warn(&text.place, message);
            }
            Some(Site {
                endpoint,
                query,
                ca_pem,
            })
        }
        Err(expected) => {
            let message = format!("found a URL that can't be used, {expected}");
            loader.findings.error(&text.place, message);
            None
        }
    }
}
