//! Pingora's services: the listeners, the admin listener, what runs in the background, and signals.
//!
//! Never looks at a request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::listeners::tls::TlsSettings;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use pingora_proxy::http_proxy;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin;
use crate::cache::shared::engine;
use crate::clock;
use crate::config::plan::{self, Plan, ServerTls};
use crate::listener::{self, Door};
use crate::metrics::Metrics;
use crate::proxy::Gateway;
use crate::reload::reload;
use crate::state::State;
use crate::trips;
use crate::upstream::addresses::RESOLVE_INTERVAL;

/// How often Pingora's loop may try a carried call: a pool's attempts, and the addresses of each name. What ends it is the
/// pool's own count.
const CARRIED_TRIES: usize = 64;
/// Histograms hold their samples until they are folded this often.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How often idle counters are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// A start waits this long for the trips that other replicas have told.
const TRIPS_WAIT: Duration = Duration::from_secs(1);
/// A start waits this long for the answers that replicas share.
const CACHE_WAIT: Duration = Duration::from_secs(1);
/// How often a listener that isn't bound yet is tried.
const BIND_POLL: Duration = Duration::from_millis(5);
/// How often a draining process looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// Connections to backends that are kept open and unused, per thread.
const POOLED_CONNECTIONS: usize = 512;
/// Runtimes get this long to end after the drain.
const RUNTIME_STOP_S: u64 = 2;

/// Why the gateway didn't start.
#[derive(Debug)]
pub struct StartError(String);

impl std::fmt::Display for StartError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// When a listener can't be bound or a certificate can't be used.
pub fn run(plan: Plan) -> Result<(), StartError> {
    listener::raise_open_files();
    bindable(&plan.server)?;
    has_engine(&plan)?;
    let tls = tls_listeners(plan.server.tls.as_ref())?;
    let metrics = Metrics::new().map_err(|error| StartError(error.to_string()))?;
    let names = plan.backends.iter().map(|backend| backend.name.as_ref());
    metrics.configured(&plan.revision, None, names);
    let settings = plan.server.clone();
    let state = Arc::new(State::new(plan, metrics).map_err(StartError)?);

    let mut server = Server::new_with_opt_and_conf(None, server_conf(&settings));
    server.bootstrap();
    let options = ConnectorOptions::from_server_conf(&server.configuration);
    let connector = Arc::new(Connector::new(Some(options)));
    let proxy = |options: HttpServerOptions| {
        let gateway = Gateway {
            state: state.clone(),
            connector: connector.clone(),
        };
        let mut proxy = http_proxy(&server.configuration, gateway);
        proxy.server_options = Some(options);
        Door::new(proxy, state.clone())
    };
    server_services(&settings, tls, proxy)
        .into_iter()
        .for_each(|service| {
            server.add_service(service);
        });
    server.add_service(background_service("upkeep", Background(state.clone())));
    admin::listen(settings.admin, state.clone()).map_err(|error| taken(&settings.admin, &error))?;
    server.run(RunArgs {
        shutdown_signal: Box::new(Signals(state.clone())),
    });
    state.close_usage_log();
    Ok(())
}

fn server_services(
    settings: &plan::Server,
    tls: Vec<(SocketAddr, TlsSettings)>,
    proxy: impl Fn(HttpServerOptions) -> Door,
) -> Vec<Service<Door>> {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(settings.limits.idle_timeout);
    let mut public = Service::new("gateway".into(), proxy(options.clone()));
    for address in &settings.listen {
        public.add_tcp(&address.to_string());
    }
    for (address, tls) in tls {
        public.add_tls_with_settings(&address.to_string(), None, tls);
    }
    let mut services = vec![public];
    if let Some(address) = settings.h2c {
        options.h2c = true;
        let mut inside = Service::new("gateway-h2c".into(), proxy(options));
        inside.add_tcp(&address.to_string());
        services.push(inside);
    }
    services
}

fn server_conf(settings: &plan::Server) -> ServerConf {
    ServerConf {
        threads: settings.threads,
        grace_period_seconds: Some(settings.drain_timeout.as_secs()),
        graceful_shutdown_timeout_seconds: Some(RUNTIME_STOP_S),
        upstream_keepalive_pool_size: POOLED_CONNECTIONS,
        max_retries: CARRIED_TRIES,
        ..ServerConf::default()
    }
}

/// Pingora tries a taken port again and again, silently; a user wants to be told.
fn bindable(settings: &plan::Server) -> Result<(), StartError> {
    for address in listeners(settings).chain([&settings.admin]) {
        try_bind(address)?;
    }
    Ok(())
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

fn try_bind(address: &SocketAddr) -> Result<(), StartError> {
    match TcpListener::bind(address) {
        Ok(_listener) => Ok(()),
        Err(error) => Err(taken(address, &error)),
    }
}

fn taken(address: &SocketAddr, error: &std::io::Error) -> StartError {
    StartError(format!(
        "can't listen on {address}: {error}; stop what uses it, or change [server] in the configuration"
    ))
}

fn tls_listeners(tls: Option<&ServerTls>) -> Result<Vec<(SocketAddr, TlsSettings)>, StartError> {
    let listeners = tls
        .into_iter()
        .flat_map(|tls| tls.listen.iter().map(move |at| (at, tls)));
    listeners
        .map(|(address, tls)| Ok((*address, tls_settings(tls)?)))
        .collect()
}

fn tls_settings(tls: &ServerTls) -> Result<TlsSettings, StartError> {
    let chain = tls.certificate.display().to_string();
    let key = tls.key.display().to_string();
    let usable = CertificateDer::from_pem_file(&tls.certificate)
        .map(|_| ())
        .and_then(|()| PrivateKeyDer::from_pem_file(&tls.key).map(|_| ()));
    usable.map_err(|error| StartError(format!("certificate {chain} with key {key}: {error}")))?;
    let mut settings = TlsSettings::intermediate(&chain, &key)
        .map_err(|error| StartError(format!("certificate {chain} with key {key}: {error}")))?;
    settings.enable_h2();
    if let Some(authority) = &tls.client_ca {
        settings.set_client_cert_verifier(client_verifier(authority)?);
    }
    Ok(settings)
}

fn client_verifier(
    authority: &std::path::Path,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, StartError> {
    let shown = authority.display();
    let wrong = |error: String| StartError(format!("client-ca {shown}: {error}"));
    let mut roots = rustls::RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(authority).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map(|verifier| verifier as Arc<dyn rustls::server::danger::ClientCertVerifier>)
        .map_err(|error| wrong(error.to_string()))
}

/// Resolves names, folds histograms, reloads on SIGHUP, and ends a drained process early.
struct Background(Arc<State>);

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let state = &self.0;
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP can't be watched; the configuration can't be reloaded");
            return;
        };
        let loading = tokio::task::spawn_blocking(filters::tokens::load);
        state.peers.resolve().await;
        if loading.await.is_err() {
            tracing::error!("the token encodings couldn't be loaded");
        }
        trips::follow(state);
        state.limits.start().await;
        let connected = state.caches.wait_until_connected();
        if tokio::time::timeout(CACHE_WAIT, connected).await.is_err() {
            tracing::warn!(
                "redis: no answer yet; the semantic cache goes without it until there is one"
            );
        }
        trips::wait_until_read(state, TRIPS_WAIT).await;
        wait_until_bound(&state.plan.load().server).await;
        state.ready.store(true, Ordering::Relaxed);
        let mut resolve = tokio::time::interval(RESOLVE_INTERVAL);
        let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        resolve.reset();
        loop {
            tokio::select! {
                _ = hangup.recv() => reload(state).await,
                _ = resolve.tick() => state.peers.resolve().await,
                _ = upkeep.tick() => state.metrics.run_upkeep(),
                _ = sweep.tick() => sweep_counters(state).await,
                _ = shutdown.changed() => break,
            }
        }
        drain(state).await;
    }
}

/// Idle counters and expired answers go. A million of them take a moment, so not on this thread.
async fn sweep_counters(state: &Arc<State>) {
    let state = state.clone();
    let now = clock::now().time();
    let sweep = move || (state.limits.sweep(), state.caches.sweep(now));
    if let Ok((counters, answers)) = tokio::task::spawn_blocking(sweep).await
        && counters + answers > 0
    {
        tracing::debug!(
            counters,
            answers,
            "idle counters and expired answers removed"
        );
    }
}

/// Pingora binds on its own time and tells nobody when it has: so a connection is tried.
async fn wait_until_bound(settings: &plan::Server) {
    for address in listeners(settings) {
        let local = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let host = match address.ip().is_unspecified() {
            true => local,
            false => address.ip(),
        };
        while TcpStream::connect((host, address.port())).await.is_err() {
            tokio::time::sleep(BIND_POLL).await;
        }
    }
}

/// Pingora sleeps its whole grace period even when nothing is left to wait for.
async fn drain(state: &State) {
    while state.in_flight() > 0 {
        tokio::time::sleep(DRAIN_POLL).await;
    }
    state.limits.stop().await;
    // Nothing else runs any more that it could hold up.
    state.close_usage_log();
    tracing::info!("drained; bye");
    tokio::time::sleep(DRAIN_POLL).await;
    std::process::exit(0);
}

/// SIGTERM drains; SIGINT (Ctrl-C) and SIGQUIT end at once.
struct Signals(Arc<State>);

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut quit)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::quit()),
        ) else {
            tracing::error!("signals can't be watched; stopping");
            return ShutdownSignal::FastShutdown;
        };
        let how = tokio::select! {
            _ = terminate.recv() => ShutdownSignal::GracefulTerminate,
            _ = interrupt.recv() => ShutdownSignal::FastShutdown,
            _ = quit.recv() => ShutdownSignal::FastShutdown,
        };
        self.0.draining.store(true, Ordering::Relaxed);
        let in_flight = self.0.in_flight();
        tracing::info!(in_flight, "stopping");
        let delay = self.0.plan.load().server.shutdown_delay;
        if matches!(how, ShutdownSignal::GracefulTerminate) && !delay.is_zero() {
            // A second signal ends the wait, and the process.
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
                _ = quit.recv() => return ShutdownSignal::FastShutdown,
            }
        }
        how
    }
}
