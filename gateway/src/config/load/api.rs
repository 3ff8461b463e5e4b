//! `[apis.*]` and `[products.*]`: paths held against each other, models resolved to pools.

use std::collections::BTreeMap;
use std::sync::Arc;

use filters::pattern::Pattern;

use super::super::error::{Located, position};
use super::super::file::routing as written;
use super::super::plan::{Api, Pool, Product};
use super::Loader;
use super::backend::schema;
use super::names::is_known;
use super::operations;

/// Every API that has no mistake.
pub(super) fn apis(loader: &Loader<'_>, pools: &[Arc<Pool>]) -> Vec<Arc<Api>> {
    report_shared_paths(loader);
    let api = |file| api(loader, file, pools).map(Arc::new);
    loader.file.apis.iter().filter_map(api).collect()
}

fn api(loader: &Loader<'_>, file: &written::Api, pools: &[Arc<Pool>]) -> Option<Api> {
    let schema = file.schema.as_ref().and_then(|text| schema(loader, text));
    let path = file.path.as_ref().and_then(|text| path(loader, text));
    let models = file.models.iter().filter_map(|(name, pool)| {
        let pattern = pattern(loader, name);
        let pool = find_pool(loader, pool, pools);
        Some((pattern?, pool?))
    });
    let models: Vec<_> = models.collect();
    let default_pool = file.default_pool.as_ref();
    let default_pool = default_pool.and_then(|name| find_pool(loader, name, pools));
    let required = file.subscription_required.as_ref();
    let operations = file.operations.as_ref().zip(schema);
    let operations =
        operations.map(|(entries, schema)| operations::offered(loader, entries, schema));
    Some(Api {
        name: file.name.value.as_str().into(),
        path: path?,
        schema: schema?,
        models,
        default_pool,
        subscription_required: required.is_none_or(|flag| flag.value),
        operations,
    })
}

/// Reports each path that an earlier API has.
fn report_shared_paths(loader: &Loader<'_>) {
    let mut seen: BTreeMap<&str, &Located<String>> = BTreeMap::new();
    for api in &loader.file.apis {
        let Some(path) = &api.path else { continue };
        let normal = path.value.trim_end_matches('/');
        if let Some(owner) = seen.insert(normal, &api.name) {
            let (line, _) = position(loader.findings.text(), owner.place.offset);
            let owner = &owner.value;
            let message = format!(
                "found \"{}\", which API \"{owner}\" of line {line} has; expected a path of its own",
                path.value
            );
            loader.findings.error(&path.place, message);
        }
    }
}

/// Normalised: no `/` at the end, empty for the root.
fn path(loader: &Loader<'_>, text: &Located<String>) -> Option<String> {
    let path = text.value.trim_end_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~/".contains(c);
    let mut segments = path.split('/').skip(1);
    let odd = segments.any(|segment| ["", ".", ".."].contains(&segment));
    if text.value.starts_with('/') && path.chars().all(is_plain) && !odd {
        return Some(path.to_owned());
    }
    let message = format!(
        "found \"{}\", expected a path such as \"/openai\": it begins with /, and its segments are letters, digits and - _ . ~",
        text.value.escape_debug()
    );
    loader.findings.error(&text.place, message);
    None
}

fn pattern(loader: &Loader<'_>, text: &Located<String>) -> Option<Pattern> {
    match Pattern::new(&text.value) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!(
                "found \"{}\", which is no model name: {error}",
                text.value.escape_debug()
            );
            loader.findings.error(&text.place, message);
            None
        }
    }
}

fn find_pool(
    loader: &Loader<'_>,
    name: &Located<String>,
    pools: &[Arc<Pool>],
) -> Option<Arc<Pool>> {
    let declared = loader.file.pools.iter().map(|pool| &pool.name);
    if !is_known(loader.findings, "pool", name, declared) {
        return None;
    }
    let pool = pools.iter().find(|pool| *pool.name == *name.value)?;
    Some(Arc::clone(pool))
}

/// Every product.
pub(super) fn products(loader: &Loader<'_>) -> Vec<Arc<Product>> {
    let product = |file| Arc::new(product(loader, file));
    loader.file.products.iter().map(product).collect()
}

fn product(loader: &Loader<'_>, file: &written::Product) -> Product {
    let declared = loader.file.apis.iter().map(|api| &api.name);
    for name in file.apis.iter().flatten() {
        is_known(loader.findings, "API", name, declared.clone());
    }
    let patterns = |names: &Vec<Located<String>>| -> Vec<Pattern> {
        names
            .iter()
            .filter_map(|name| pattern(loader, name))
            .collect()
    };
    for name in file.models.iter().flatten() {
        if !is_offered(loader, file, &name.value) {
            let message = format!(
                "no API of this product offers a model that \"{}\" matches",
                name.value
            );
            loader.findings.warn(&name.place, message);
        }
    }
    let names = |names: &Vec<Located<String>>| {
        names
            .iter()
            .map(|name| name.value.as_str().into())
            .collect()
    };
    Product {
        name: file.name.value.as_str().into(),
        apis: file.apis.as_ref().map(names),
        models: file.models.as_ref().map(patterns),
    }
}

fn is_offered(loader: &Loader<'_>, product: &written::Product, model: &str) -> bool {
    let includes = |api: &written::Api| match &product.apis {
        Some(names) => names.iter().any(|name| name.value == api.name.value),
        None => true,
    };
    let apis = loader.file.apis.iter().filter(|api| includes(api));
    let mut offered = apis.flat_map(|api| &api.models);
    offered.any(|(name, _)| meet(model.as_bytes(), name.value.as_bytes()))
}

/// Whether some name matches both patterns. `*` is any run of characters.
///
/// One row of a table, from the right: `row[j]` says whether `one[i..]` and `other[j..]` meet. Costs the
/// product of both lengths.
fn meet(one: &[u8], other: &[u8]) -> bool {
    let all_stars = |rest: &[u8]| rest.iter().all(|byte| *byte == b'*');
    let columns = 0..=other.len();
    let mut row: Vec<bool> = columns.clone().map(|j| all_stars(&other[j..])).collect();
    for i in (0..one.len()).rev() {
        let below = row.clone();
        row[other.len()] = all_stars(&one[i..]);
        for j in (0..other.len()).rev() {
            row[j] = match (one[i], other[j]) {
                (b'*', _) | (_, b'*') => below[j] || row[j + 1],
                (a, b) => a == b && below[j + 1],
            };
        }
    }
    row[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_meet_where_one_name_matches_both() {
        let meet = |one: &str, other: &str| meet(one.as_bytes(), other.as_bytes());
        assert!(meet("gpt-4o", "gpt-4o"));
        assert!(meet("gpt-4o", "gpt-*"));
        assert!(meet("gpt-*", "*-mini"));
        assert!(meet("*", ""));
        assert!(meet("a*c", "ab*"));
        assert!(!meet("gpt-4o", "gpt-4"));
        assert!(!meet("gpt-*", "text-*"));
        assert!(!meet("a*b", "a*c"));
    }
}
