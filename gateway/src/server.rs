//! Pingora's services: the listeners, the admin listener, what runs in the background, and signals.
//!
//! Never looks at a request.

mod background;
mod ending;
mod handover;
mod sockets;
mod systemd;

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;
use pingora::apps::HttpServerOptions;
use pingora::connectors::ConnectorOptions;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use pingora::services::listening::Service;
use pingora_proxy::http_proxy;
use tokio::sync::watch;

use self::background::Background;
use self::ending::Ending;
use self::sockets::{Accepting, Inherited, Sockets};

use crate::admin;
use crate::cache::shared::engine;
use crate::config::plan::{self, Plan};
use crate::listener::{self, Door, Encrypted};
use crate::metrics::Metrics;
use crate::proxy::Gateway;
use crate::state::State;
use crate::tls::{self, Tls};
use crate::upstream::connector::Connector;

/// How often Pingora's loop may try a carried call: a pool's attempts, and the addresses of each name. What ends it is the
/// pool's own count.
const CARRIED_TRIES: usize = 64;
/// Connections to backends that are kept open and unused, per thread.
const POOLED_CONNECTIONS: usize = 512;
/// Pingora sleeps so long before it drops everything: longer than any end of ours, which leaves by itself. Seconds.
const GRACE_S: u64 = 2 * 3_600;

/// Why the gateway didn't start.
#[derive(Debug)]
pub struct StartError(String);

impl std::fmt::Display for StartError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Where the listening sockets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// They are bound.
    Fresh,
    /// The process that runs hands them over, and ends when this one is ready.
    Upgrade,
}

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// When a listener can't be bound or taken over, or a certificate can't be used.
pub fn run(plan: Plan, start: Start) -> Result<(), StartError> {
    listener::raise_open_files();
    has_engine(&plan)?;
    let material = tls::Material::of(&plan.server).map_err(StartError)?;
    let (inherited, former) = inherited(&plan.server, start)?;
    let admin = &plan.server.admin;
    let mut sockets = Sockets::open(listeners(&plan.server), admin, inherited)?;
    let metrics = Metrics::new().map_err(|error| StartError(error.to_string()))?;
    let names = plan.backends.iter().map(|backend| backend.name.as_ref());
    metrics.configured((&plan.revision, plan.loaded_at), None, names);
    let settings = plan.server.clone();
    let state = Arc::new(State::new(plan, metrics).map_err(StartError)?);
    if settings.upgrade_socket.is_some() {
        state.stop.keep(std::mem::take(&mut sockets.duplicates));
    }

    state.tls.take(material);
    let opening = watch::Sender::new(start == Start::Fresh);
    let mut server = Server::new_with_opt_and_conf(None, server_conf(&settings));
    server.bootstrap();
    let options = ConnectorOptions::from_server_conf(&server.configuration);
    let connector = Arc::new(Connector::new(options));
    state.identities.connect(connector.any());
    state.issuers.connect(connector.any());
    let proxy = |options: HttpServerOptions, encrypted: Option<Encrypted>| {
        let gateway = Gateway {
            state: state.clone(),
            connector: connector.clone(),
        };
        let mut proxy = http_proxy(&server.configuration, gateway.clone());
        proxy.server_options = Some(options);
        Door::new(proxy, gateway, encrypted)
    };
    let tls = encrypted(&settings, &state.tls, &sockets)?;
    for service in server_services(&settings, tls, proxy) {
        server.add_service(Accepting {
            service,
            sockets: sockets.public.clone(),
            opening: opening.subscribe(),
            closing: state.stop.closing(),
        });
    }
    let admin = admin::listen(sockets.admin, state.clone(), opening.subscribe());
    admin.map_err(|error| taken(&settings.admin, &error))?;
    let background = Background {
        opening,
        state: state.clone(),
        connector: connector.clone(),
        former: Mutex::new(former),
    };
    server.add_service(background_service("upkeep", background));
    server.run(RunArgs {
        shutdown_signal: Box::new(Ending(state.clone())),
    });
    state.close_logs();
    Ok(())
}

/// What another process hands over, and the line to it.
fn inherited(
    settings: &plan::Server,
    start: Start,
) -> Result<(Inherited, Option<UnixStream>), StartError> {
    let path = match (start, &settings.upgrade_socket) {
        (Start::Fresh, _) => return Ok((Inherited::new(), None)),
        (Start::Upgrade, Some(path)) => path,
        (Start::Upgrade, None) => {
            let message = "--upgrade: the configuration has no [server] upgrade-socket, at which the running process would wait";
            return Err(StartError(message.to_owned()));
        }
    };
    let taken = handover::take(path).map_err(|error| {
        let path = path.display();
        StartError(format!(
            "--upgrade: no running process hands its listeners over at {path}: {error}; without --upgrade this one binds them itself"
        ))
    })?;
    let (sockets, former) = taken.into_parts();
    Ok((sockets, Some(former)))
}

/// Where TLS is spoken, if anywhere.
fn encrypted(
    settings: &plan::Server,
    tls: &Tls,
    sockets: &Sockets,
) -> Result<Option<Encrypted>, StartError> {
    let Some(of_tls) = &settings.tls else {
        return Ok(None);
    };
    let spoken = tls.settings().map_err(StartError)?;
    Ok(Some(Encrypted::new(
        &sockets.bound(&of_tls.listen),
        &sockets.bound(&settings.listen),
        spoken,
    )))
}

fn server_services(
    settings: &plan::Server,
    tls: Option<Encrypted>,
    proxy: impl Fn(HttpServerOptions, Option<Encrypted>) -> Door,
) -> Vec<Service<Door>> {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(settings.limits.idle_timeout);
    let mut public = Service::new("gateway".into(), proxy(options.clone(), tls));
    for address in &settings.listen {
        public.add_listener(listener::plain(address));
    }
    for address in settings.tls.iter().flat_map(|tls| &tls.listen) {
        public.add_listener(listener::encrypted(address));
    }
    let mut services = vec![public];
    if let Some(address) = settings.h2c {
        options.h2c = true;
        let mut inside = Service::new("gateway-h2c".into(), proxy(options, None));
        inside.add_listener(listener::plain(&address));
        services.push(inside);
    }
    services
}

fn server_conf(settings: &plan::Server) -> ServerConf {
    ServerConf {
        threads: settings.threads,
        // One thread has nobody to steal from; a runtime that knows so needs a tenth less.
        work_stealing: settings.threads > 1,
        grace_period_seconds: Some(GRACE_S),
        upstream_keepalive_pool_size: POOLED_CONNECTIONS,
        max_retries: CARRIED_TRIES,
        // Pingora's own timers have a thread that wakes a hundred times a second, from the first one on.
        fast_timeout_to_tokio_threshold_seconds: Some(0),
        ..ServerConf::default()
    }
}

/// Without the query engine every look-up would be an error. A Redis that isn't there yet may have one.
fn has_engine(plan: &Plan) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| StartError(format!("no runtime: {error}")))?;
    match runtime.block_on(engine::of(plan)) {
        Some(engine) if engine.is_refused() => Err(StartError(format!(
            "[[semantic-cache]] in [redis]: {engine}"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Where callers come in.
fn listeners(settings: &plan::Server) -> impl Iterator<Item = &SocketAddr> {
    let tls = settings.tls.iter().flat_map(|tls| tls.listen.iter());
    settings.listen.iter().chain(tls).chain(&settings.h2c)
}

fn taken(address: &SocketAddr, error: &std::io::Error) -> StartError {
    StartError(format!(
        "can't listen on {address}: {error}; stop what uses it, or change [server] in the configuration"
    ))
}
