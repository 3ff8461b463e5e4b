//! The manifests and the dependency tree.

use toml::Table;

/// Tables and keys that no manifest of ours has.
pub fn forbidden_keys(path: &str, manifest: &Table) -> Vec<String> {
    let mut found = Vec::new();
    let features = at(manifest, "features");
    let is_ours = |name: &str| path.ends_with("gateway/Cargo.toml") && name == THE_FEATURE;
    if manifest.contains_key("features") && !features.keys().all(|name| is_ours(name)) {
        found.push(format!(
            "{path}: has [features] beside {THE_FEATURE}; what is built is one thing"
        ));
    }
    if manifest.contains_key("build-dependencies") || at(manifest, "package").contains_key("build")
    {
        found.push(format!("{path}: has a build script"));
    }
    if manifest.contains_key("package") && at(manifest, "lints").get("workspace").is_none() {
        found.push(format!("{path}: doesn't take the workspace's [lints]"));
    }
    found
}

/// The one feature that there is: it brings 130 crates for what few need.
const THE_FEATURE: &str = "local-embeddings";

/// Names of `cargo tree --prefix none` that mustn't be there.
pub fn forbidden_packages(tree: &str, banned: &[&str]) -> Vec<String> {
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let mut names: Vec<String> = tree.lines().map(name).collect();
    names.sort();
    names.dedup();
    let is_banned = |name: &String| {
        let of = |banned: &&str| name == banned || name.starts_with(&format!("{banned}-"));
        banned.iter().any(of)
    };
    names.retain(is_banned);
    names
}

/// The names in `[workspace.dependencies]`.
pub fn dependencies(manifest: &Table) -> Vec<String> {
    let workspace = at(manifest, "workspace");
    at(&workspace, "dependencies").keys().cloned().collect()
}

/// Dependencies that are declared for a member by itself and not taken from the workspace's one table.
pub fn own_versions(path: &str, manifest: &Table) -> Vec<String> {
    let mut found = Vec::new();
    for table in ["dependencies", "dev-dependencies"] {
        for (name, entry) in &at(manifest, table) {
            let shared = entry.get("workspace").is_some() || entry.get("path").is_some();
            if !shared {
                found.push(format!(
                    "{path}: {name} isn't taken from the workspace's table"
                ));
            }
        }
    }
    found
}

fn at(table: &Table, key: &str) -> Table {
    table
        .get(key)
        .and_then(|found| found.as_table())
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn forbidden_keys_are_found() {
        let judge = |text| forbidden_keys("x", &parse(text)).len();
        assert_eq!(judge("[package]\nname='a'\n[lints]\nworkspace=true"), 0);
        assert_eq!(
            judge("[package]\nname='a'\n[lints]\nworkspace=true\n[features]\nb=[]"),
            1
        );
        let ours = "[package]\nname='a'\n[lints]\nworkspace=true\n[features]\nlocal-embeddings=[]";
        assert_eq!(judge(ours), 1);
        assert_eq!(forbidden_keys("gateway/Cargo.toml", &parse(ours)).len(), 0);
        let more = format!("{ours}\nmore=[]");
        assert_eq!(forbidden_keys("gateway/Cargo.toml", &parse(&more)).len(), 1);
        assert_eq!(judge("[package]\nname='a'\nbuild='build.rs'"), 2);
    }

    #[test]
    fn a_package_is_found_by_its_family() {
        let tree = "filters v0.1.0 (/x)\ntokio-util v0.7.0\ntokio v1.0.0 (*)\ntokiox v1.0.0\nmetrics v0.24.0\n";
        let found = forbidden_packages(tree, &["tokio", "metrics"]);
        assert_eq!(found, ["metrics", "tokio", "tokio-util"]);
    }

    #[test]
    fn the_table_is_read_and_a_version_of_ones_own_is_found() {
        let root = parse("[workspace.dependencies]\na='1'\nb={version='2'}");
        assert_eq!(dependencies(&root), ["a", "b"]);
        let member = parse("[dependencies]\na.workspace=true\nb='2'\nc={path='../c'}");
        assert_eq!(own_versions("x", &member).len(), 1);
    }
}
