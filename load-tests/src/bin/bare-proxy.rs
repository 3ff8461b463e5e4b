//! The least that a Pingora proxy can be: one upstream, one thread, no policy.
//!
//! The benchmark's yardstick: what any gateway on Pingora costs at least when it uses Pingora's own loop.

use std::net::SocketAddr;

use async_trait::async_trait;
use clap::Parser;
use pingora::prelude::{HttpPeer, Server};
use pingora::server::configuration::ServerConf;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// A bare Pingora proxy, for comparison only
#[derive(Debug, Parser)]
struct Arguments {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
    /// Where everything goes
    #[arg(long)]
    upstream: SocketAddr,
    /// Threads of the proxy
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        (): &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() {
    let arguments = Arguments::parse();
    let configuration = ServerConf {
        threads: arguments.threads,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let proxy = Bare {
        upstream: arguments.upstream,
    };
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(&arguments.listen.to_string());
    server.add_service(service);
    server.run_forever();
}
