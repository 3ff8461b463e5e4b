//! `[subscriptions.*]`: products resolved, keys hashed and held against each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use filters::auth::Digest;

use super::super::error::{Located, position};
use super::super::file::routing as written;
use super::super::plan::{Product, Subscription, SubscriptionState};
use super::Loader;
use super::names::is_known;

/// Every subscription, and whose each key is.
pub(super) struct Subscriptions {
    /// In file order.
    pub list: Vec<Arc<Subscription>>,
    /// Without those that two have.
    pub keys: Vec<Key>,
}

/// One key.
pub(super) struct Key {
    /// Its hash.
    pub digest: Digest,
    /// Index into the list.
    pub subscription: usize,
}

/// Loads them all.
pub(super) fn subscriptions(loader: &Loader<'_>, products: &[Arc<Product>]) -> Subscriptions {
    let list = loader.file.subscriptions.iter();
    let list = list.map(|file| Arc::new(subscription(loader, file, products)));
    Subscriptions {
        list: list.collect(),
        keys: keys(loader),
    }
}

fn subscription(
    loader: &Loader<'_>,
    file: &written::Subscription,
    products: &[Arc<Product>],
) -> Subscription {
    if file.keys.is_empty() && loader.file.jwt.is_none() {
        let message = "no keys: nobody can call as this subscription";
        loader.findings.warn(&file.name.place, message);
    }
    let attributes = file.attributes.iter();
    let attributes = attributes.map(|(name, text)| (name.value.clone(), text.value.clone()));
    let state = match file.state.as_ref().map(|state| state.value) {
        Some(written::State::Active) | None => SubscriptionState::Active,
        Some(written::State::Suspended) => SubscriptionState::Suspended,
    };
    let product = file.product.as_ref();
    Subscription {
        name: file.name.value.as_str().into(),
        product: product.and_then(|name| find_product(loader, name, products)),
        state,
        attributes: attributes.collect(),
    }
}

fn find_product(
    loader: &Loader<'_>,
    name: &Located<String>,
    products: &[Arc<Product>],
) -> Option<Arc<Product>> {
    let declared = loader.file.products.iter().map(|product| &product.name);
    is_known(loader.findings, "product", name, declared);
    let product = products
        .iter()
        .find(|product| *product.name == *name.value)?;
    Some(Arc::clone(product))
}

/// All keys. One that was met before decides nothing, and is reported by whose it is, never by what it is.
fn keys(loader: &Loader<'_>) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let mut seen: BTreeMap<String, &Located<String>> = BTreeMap::new();
    for (subscription, file) in loader.file.subscriptions.iter().enumerate() {
        for origin in &file.keys {
            let Some(digest) = loader.digest(origin) else {
                continue;
            };
            if let Some(owner) = seen.insert(digest.to_hex(), &file.name) {
                let (line, _) = position(loader.findings.text(), owner.place.offset);
                let message = format!(
                    "found a key of subscription \"{}\" that subscription \"{}\" of line {line} has too; expected each key once",
                    file.name.value, owner.value
                );
                loader.findings.error(&origin.place, message);
            } else {
                keys.push(Key {
                    digest,
                    subscription,
                });
            }
        }
    }
    keys
}
