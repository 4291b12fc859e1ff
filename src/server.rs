//! The composition root: builds everything once and hands it to Pingora's `Server`. The one file
//! that knows all rooms.

mod counts;
mod stop;
mod upgrade;

use crate::admin::{Admin, Readiness};
use crate::background::overload::OverloadWatch;
use crate::background::quotas::{self, QuotaKeeper, QuotaUpkeep};
use crate::background::reload::{self, InForce};
use crate::background::supervisor::{Supervisor, Watchdog};
use crate::background::upkeep::{FIRST_ANSWERS, Keeper, Upkeep};
use crate::background::{Cause, IdentityUpkeep, Reloader, Reloads, Request, Status, StoreUpkeep, identity};
use crate::config::{Config, ConfigErrors, Loader};
use crate::listen::inherited::{self, Inherited};
use crate::listen::{self, ConnInfo, HandshakeFailure, Listeners, Observer, Refusal, Unseen};
use crate::policy::quota;
use crate::proxy::Gateway;
use crate::proxy::app::App;
use crate::retained::Retained;
use crate::runtime::pressure::Pressure;
use crate::runtime::{Compiled, Compiler, Current, Snapshot};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::error_log::ErrorLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::random;
use crate::values::{ConfigPath, Finding, ListenerId, Name};
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use http::HeaderValue;
use pingora_core::connectors::TransportConnector;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server, ShutdownWatch};
use pingora_core::services::background::{BackgroundService, background_service};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stop::StopWatch;
use tokio::sync::{mpsc, oneshot, watch};

/// How a gateway is embedded.
#[derive(Default)]
pub struct Options {
    /// Sockets that are bound already, by the listener's name; `admin` is the admin listener's.
    /// What is not here is bound by its address.
    pub sockets: BTreeMap<String, TcpListener>,
    /// Sockets that the process was started with; each has to be some listener's.
    pub inherited: Vec<Inherited>,
    /// Whether the process's signals are this gateway's.
    pub signals: bool,
    /// The error log, if it is this gateway's own.
    pub error_log: Option<ErrorLog>,
    /// Who is told how it goes.
    pub supervisor: Supervisor,
    /// Whether it takes over from one that runs.
    pub upgrade: Option<Upgrade>,
}

/// Whom to take over from: who serves at this control socket, or at the configuration's.
pub type Upgrade = Option<PathBuf>;

/// A gateway that is built, not yet running.
pub struct Assembly {
    server: Server,
    stop: StopWatch,
    handle: Handle,
    upgrade: upgrade::Outcome,
}

/// A gateway from outside.
#[derive(Clone)]
pub struct Handle {
    /// The configuration in force.
    pub current: Arc<Current>,
    /// Where clients connect.
    pub listeners: Listeners,
    admin: Listeners,
    readiness: Arc<Readiness>,
    ready: watch::Receiver<bool>,
    reloads: mpsc::Sender<Request>,
    stop: watch::Sender<Stop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Gracefully,
    AtOnce,
}

/// How a gateway came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to stop, or another process has taken over.
    Stopped,
    /// It was to take over from another process, and did not.
    NotTakenOver,
}

/// Builds a gateway from the configuration at `path`.
///
/// # Errors
/// What is wrong with the configuration, or with an address, each with its place. Nothing runs then.
pub fn build(path: &Path, options: Options) -> Result<(Assembly, ConfigErrors), ConfigErrors> {
    // First of all: Pingora would install another provider silently.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Options { mut sockets, inherited, signals, error_log, supervisor, upgrade } = options;
    let mut loader = Loader::default();
    let (reading, fingerprint) = reload::read(&mut loader, path);
    let named = reading.config.files();
    let workers = reading.config.process.workers.count();
    let metrics = Metrics::new(&reload::metrics_settings(&reading.config), workers);
    let compiler = Arc::new(Compiler::new(Arc::clone(&metrics)).serving());
    let (Compiled { snapshot, .. }, report) = compiler.build(reading)?;
    let config = Arc::clone(&snapshot.config);
    let refuse = |finding: Finding| config.errors(vec![finding]);

    sockets.extend(given(inherited, &snapshot).map_err(refuse)?);
    let mut upgrade = upgrade::Begun::new(path, &config, upgrade.as_ref()).map_err(refuse)?;
    upgrade.inherit(&snapshot, &mut sockets);

    let in_force = InForce {
        current: Arc::new(Current::new(Arc::clone(&snapshot))),
        listeners: Listeners::new(),
        admin: Listeners::new(),
        metrics: Arc::clone(&metrics),
        access_log: Arc::new(ArcSwapOption::from(
            open_access_log(&config, workers, &metrics).map_err(refuse)?,
        )),
        error_log: error_log.clone(),
        keeper: Keeper::new(&snapshot),
    };
    add_listeners(&in_force, &snapshot, &mut sockets).map_err(refuse)?;
    metrics.set_certificates(reload::expiries(&snapshot));
    counts::connections(&in_force);
    counts::endpoints(&in_force);
    counts::stores(&in_force);
    counts::caches(&in_force);
    counts::limits(&in_force, &compiler.retained);
    let state = quotas::state_folder(config.process.state.as_deref(), path);
    let quotas = QuotaKeeper::new(Arc::clone(&compiler.retained), state);
    quotas.load();
    counts::quotas(&in_force, &compiler.retained, &quotas);
    counts::revocations(&in_force);
    let most = reload::most_connections(&config, reload::descriptor_limit());
    in_force.listeners.limit_connections(most);
    log::info!("file descriptors leave room for client_connections={most}");
    if let Some(log) = error_log.as_ref().filter(|_| std::env::var_os("RUST_LOG").is_none()) {
        log.set_level(reload::level(config.telemetry.error_log.level));
    }
    let reloader = Reloader {
        path: path.to_owned(),
        loader,
        compiler,
        in_force: in_force.clone(),
        process: config.process.clone(),
        status: Arc::default(),
        named,
        fingerprint,
    };
    Ok((assemble(&config, &in_force, (reloader, quotas), (signals, supervisor, upgrade)), report))
}

fn open_access_log(
    config: &Config,
    workers: usize,
    metrics: &Metrics,
) -> Result<Option<Arc<AccessLog>>, Finding> {
    let Some(model) = config.telemetry.access_log.on() else { return Ok(None) };
    let settings = reload::access_log_settings(model);
    let path = || ConfigPath::root().key("telemetry").key("access_log");
    AccessLog::open(&settings, workers, metrics.access_log_dropped())
        .map(|log| Some(Arc::new(log)))
        .map_err(|problem| Finding::error(path(), problem))
}

/// The sockets that the process was started with, by listener.
fn given(inherited: Vec<Inherited>, snapshot: &Snapshot) -> Result<BTreeMap<String, TcpListener>, Finding> {
    let listeners = snapshot.listeners.iter().flatten();
    let mut wanted: Vec<_> = listeners.map(|one| (one.name.as_str(), one.config.address)).collect();
    wanted.extend(snapshot.config.admin.as_ref().map(|admin| ("admin", admin.address)));
    let path = || ConfigPath::root().key("listeners");
    inherited::by_listener(inherited, &wanted).map_err(|problem| Finding::error(path(), problem))
}

fn add_listeners(
    in_force: &InForce,
    snapshot: &Snapshot,
    sockets: &mut BTreeMap<String, TcpListener>,
) -> Result<(), Finding> {
    let mut bound = |name: &str, address: SocketAddr, path: ConfigPath| match sockets.remove(name) {
        Some(socket) => Ok(socket),
        None => listen::bind(address).map_err(|problem| Finding::error(path.key("address"), problem)),
    };
    for listener in snapshot.listeners.iter().flatten() {
        let path = ConfigPath::root().key("listeners").key(&listener.name);
        let socket = bound(listener.name.as_str(), listener.config.address, path.clone())?;
        let added = in_force.listeners.add(reload::spec(listener, socket));
        added.map_err(|problem| Finding::error(path, problem))?;
    }
    if let Some(admin) = &snapshot.config.admin {
        let path = ConfigPath::root().key("admin");
        let socket = bound("admin", admin.address, path.clone())?;
        let added = in_force.admin.add(reload::admin_spec(admin, socket));
        added.map_err(|problem| Finding::error(path, problem))?;
    }
    Ok(())
}

fn assemble(
    config: &Config,
    in_force: &InForce,
    (reloader, quotas): (Reloader, Arc<QuotaKeeper>),
    (signals, supervisor, upgrade): (bool, Supervisor, upgrade::Begun),
) -> Assembly {
    let threads = config.process.workers.count();
    let conf = ServerConf {
        threads,
        // Pingora multiplies by the threads to get the one cap that the pool has.
        upstream_keepalive_pool_size: (config.process.upstream_connections as usize).div_ceil(threads),
        max_retries: 16,
        // Accept tasks for each listener: one for each worker, on one queue. Measured 3 to 4 % cheaper
        // than one for all, and 8 to 9 % cheaper than workers that do not share their tasks.
        listener_tasks_per_fd: threads,
        work_stealing: true,
        // The drain is ours, inside the signal watch: Pingora would sleep this out.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(5),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let (stopping, are_stopping) = watch::channel(false);
    let pressure = Arc::<Pressure>::default();
    counts::pressure(in_force, &pressure);
    let gateway = Gateway {
        current: Arc::clone(&in_force.current),
        metrics: Arc::clone(&in_force.metrics),
        access_log: Arc::clone(&in_force.access_log),
        via: via(),
        connector: TransportConnector::new(None),
        pressure: Arc::clone(&pressure),
        stopping: are_stopping,
    };
    let unseen = Arc::new(UnseenRequests {
        current: Arc::clone(&in_force.current),
        access_log: Arc::clone(&in_force.access_log),
    });
    let app = App::new(gateway, &server.configuration);

    let (stop, stopped) = watch::channel(Stop::No);
    let (reloads, requests) = mpsc::channel(16);
    let (ready, is_ready) = watch::channel(false);
    let readiness = Arc::<Readiness>::default();
    let handle = Handle {
        current: Arc::clone(&in_force.current),
        listeners: in_force.listeners.clone(),
        admin: in_force.admin.clone(),
        readiness: Arc::clone(&readiness),
        ready: is_ready,
        reloads,
        stop,
    };
    let retained = Arc::clone(&reloader.compiler.retained);
    let admin = admin(in_force, &handle, (&reloader.status, &retained));
    let (armed, is_armed) = watch::channel(0);
    let public =
        listen::Service::new("public", in_force.listeners.clone(), Arc::new(app)).observed_by(unseen);
    server.add_service(public);
    server.add_service(listen::Service::new("admin", in_force.admin.clone(), Arc::new(admin)).threads(1));
    let reloads = Reloads::new(reloader, requests, (signals, supervisor.clone(), armed.clone()));
    let turn = reloads.turn();
    server.add_service(background_service("reload", reloads));
    let (keeper, current) = (in_force.keeper.clone(), Arc::clone(&in_force.current));
    let warm = Warm { keeper, current, armed: is_armed };
    // A process that takes over is ready only when it has.
    let told = if upgrade.is_joining() { Supervisor::default() } else { supervisor.clone() };
    let announce = AnnounceReady { handle: handle.clone(), warm: warm.clone(), ready, supervisor: told };
    server.add_service(background_service("readiness", announce));
    server.add_service(background_service("upkeep", Upkeep::new(&in_force.keeper)));
    server.add_service(background_service("stores", StoreUpkeep::new(&in_force.keeper)));
    let upkeep = QuotaUpkeep { keeper: Arc::clone(&quotas), current: Arc::clone(&in_force.current) };
    server.add_service(background_service("quotas", upkeep));
    server.add_service(background_service("identity", IdentityUpkeep::new(Arc::clone(&in_force.current))));
    let upgrade = upgrade.serve(
        &mut server,
        &handle,
        (turn, config.process.upgrade_time.get()),
        (warm, retained, supervisor.clone()),
    );
    let overload = OverloadWatch {
        pressure,
        listeners: in_force.listeners.clone(),
        current: Arc::clone(&in_force.current),
    };
    server.add_service(background_service("overload", overload));
    let watchdog = Watchdog { supervisor: supervisor.clone(), listeners: in_force.listeners.clone() };
    server.add_service(background_service("watchdog", watchdog));
    let stop = StopWatch {
        stopped,
        signals,
        armed,
        handle: handle.clone(),
        access_log: Arc::clone(&in_force.access_log),
        quotas,
        stopping,
        supervisor,
    };
    Assembly { server, stop, handle, upgrade }
}

fn admin(in_force: &InForce, handle: &Handle, (status, retained): (&Arc<Status>, &Arc<Retained>)) -> Admin {
    let (asking, status, retained) = (handle.clone(), Arc::clone(status), Arc::clone(retained));
    Admin {
        current: Arc::clone(&in_force.current),
        metrics: Arc::clone(&in_force.metrics),
        readiness: Arc::clone(&handle.readiness),
        error_log: in_force.error_log.clone(),
        reload: Box::new(move || {
            let handle = asking.clone();
            Box::pin(async move { handle.reload().await.map(|event| event.to_json()) })
        }),
        last_reload: Box::new(move || status.last().map(|event| event.to_json())),
        quotas: Box::new(move |wanted| Some(quota::Store::of(&retained)?.usage(wanted))),
    }
}

/// This process in `via`: another one for each, so that a chain of gateways is no loop.
fn via() -> HeaderValue {
    let text = format!("1.1 tollgate-{:08x}", random::next_u64() as u32);
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("1.1 tollgate"))
}

impl Assembly {
    /// The gateway from outside.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Serves until it is told to stop, then drains. Not to be called inside an async runtime.
    pub fn run(self) -> Ending {
        self.server.run(RunArgs { shutdown_signal: Box::new(self.stop) });
        self.upgrade.end()
    }
}

impl Handle {
    /// Waits until every listener accepts. False if the gateway ended before.
    pub async fn ready(&self) -> bool {
        self.ready.clone().wait_for(|ready| *ready).await.is_ok()
    }

    /// Waits, on a thread that may block, until every listener accepts; false if that takes longer.
    pub fn ready_within(&self, time: Duration) -> bool {
        let began = Instant::now();
        while !*self.ready.borrow() {
            if began.elapsed() > time {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        true
    }

    /// The bound address of a listener in force.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        let snapshot = self.current.load();
        let id = snapshot.listeners.iter().flatten().find(|known| known.name.as_str() == listener)?.id;
        self.listeners.address(id)
    }

    /// The bound address of the admin listener.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.address(ListenerId(0))
    }

    /// Reads the configuration again. None if the gateway is shutting down.
    pub async fn reload(&self) -> Option<Arc<reload::Event>> {
        let (done, event) = oneshot::channel();
        self.reloads.send(Request { cause: Cause::Admin, done: Some(done) }).await.ok()?;
        event.await.ok()
    }

    /// Begins a shutdown: requests that have begun may end, within the drain time.
    pub fn stop(&self) {
        self.stop.send_replace(Stop::Gracefully);
    }

    /// Ends at once.
    pub fn kill(&self) {
        self.stop.send_replace(Stop::AtOnce);
    }
}

/// What requests need besides a configuration.
#[derive(Clone)]
struct Warm {
    keeper: Keeper,
    current: Arc<Current>,
    /// How many listen to signals.
    armed: watch::Receiver<u8>,
}

/// Those who listen to signals: [`Reloads`] and [`StopWatch`].
const WHO_LISTEN: u8 = 2;

impl Warm {
    /// Waits for it, within bounds. Requests that come before the first endpoints are found, or the
    /// first keys, would be refused; and a signal that nobody listens to ends the process.
    async fn wait(&self) {
        // It fails only where the server has ended.
        let _ = self.armed.clone().wait_for(|armed| *armed >= WHO_LISTEN).await;
        tokio::join!(self.keeper.settled(), identity::settled(&self.current, FIRST_ANSWERS));
    }
}

/// Says that the gateway is ready once its listeners accept.
struct AnnounceReady {
    handle: Handle,
    warm: Warm,
    ready: watch::Sender<bool>,
    supervisor: Supervisor,
}

#[async_trait]
impl BackgroundService for AnnounceReady {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = async {
                tokio::join!(self.handle.listeners.ready(), self.handle.admin.ready(), self.warm.wait());
            } => {}
            _ = shutdown.changed() => return,
        }
        self.handle.readiness.set(true);
        self.ready.send_replace(true);
        self.supervisor.ready(Some("serving"));
        let _ = shutdown.changed().await;
    }
}

/// Counts and logs what reached no hook.
struct UnseenRequests {
    current: Arc<Current>,
    access_log: Arc<ArcSwapOption<AccessLog>>,
}

impl Observer for UnseenRequests {
    fn unseen(&self, conn: &ConnInfo, cause: Unseen) {
        if cause == Unseen::Idle {
            return;
        }
        if let Some(listener) = self.current.load().listener(conn.listener()) {
            listener.metrics.unseen(cause.as_str());
        }
        if let Some(log) = &*self.access_log.load() {
            log.log(&crate::proxy::app::unseen_record(conn, cause));
        }
    }

    // At `debug`: anyone can be refused as fast as they like.
    fn refused(&self, listener: &Name, peer: SocketAddr, cause: Refusal) {
        log::debug!("connection refused listener={listener} peer={peer} cause={}", cause.as_str());
    }

    // At `debug`: anyone can fail handshakes as fast as they like.
    fn handshake_failed(&self, listener: &Name, peer: SocketAddr, cause: HandshakeFailure, detail: &str) {
        log::debug!(
            "handshake failed listener={listener} peer={peer} cause={} detail={detail:?}",
            cause.as_str()
        );
    }
}
