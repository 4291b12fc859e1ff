//! A reload: a transaction that changes all or nothing.

use super::upkeep::Keeper;
use crate::config::model::listener::{Limits, Listener as ListenerModel};
use crate::config::model::process::{Admin, Process};
use crate::config::model::telemetry::{AccessLog as AccessLogModel, LogLevel, LogTarget as LogTargetModel};
use crate::config::{Config, ConfigErrors, Loader, Reading};
use crate::listen::{ListenerSpec, Listeners, bind};
use crate::policy::config::{Policies, Setting};
use crate::runtime::{Compiled, Compiler, Current, Listener, Snapshot};
use crate::telemetry::access_log::{AccessLog, AccessLogSettings, LinePlan, LogTarget};
use crate::telemetry::error_log::ErrorLog;
use crate::telemetry::metrics::{CertificateExpiry, Metrics, MetricsSettings, ReloadOutcome};
use crate::values::{ConfigPath, Finding, ListenerId, Name};
use arc_swap::ArcSwapOption;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// A larger file is no part of a configuration: a configuration file may have 32 MiB.
const LARGEST_FILE: u64 = 64 << 20;

/// Why a configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGHUP.
    Signal,
    /// A file changed.
    File,
    /// An admin's call.
    Admin,
}

/// What came of a reload.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was over.
    pub time: SystemTime,
    /// How it went.
    pub outcome: ReloadOutcome,
    /// What was wrong, or worth saying.
    pub report: ConfigErrors,
    /// Changes that were not made because they need an upgrade, by the names of their fields.
    pub needs_upgrade: Vec<&'static str>,
}

impl Event {
    /// For the admin listener.
    pub fn to_json(&self) -> serde_json::Value {
        let outcome = match self.outcome {
            ReloadOutcome::Applied => "applied",
            ReloadOutcome::Rejected => "rejected",
            ReloadOutcome::Unchanged => "unchanged",
        };
        let since = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        serde_json::json!({
            "outcome": outcome,
            "unix_time": since.as_secs(),
            "problems": self.report.to_json(),
            "needs_upgrade": self.needs_upgrade,
        })
    }
}

/// What the admin listener shows of reloads.
#[derive(Debug, Default)]
pub struct Status {
    last: ArcSwapOption<Event>,
}

impl Status {
    /// The last one, if there was one since the start.
    pub fn last(&self) -> Option<Arc<Event>> {
        self.last.load_full()
    }
}

/// Everything that a configuration sets in force.
#[derive(Clone)]
pub struct InForce {
    /// The snapshot that requests take.
    pub current: Arc<Current>,
    /// Where clients connect.
    pub listeners: Listeners,
    /// The admin listener's own handle.
    pub admin: Listeners,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where requests are logged.
    pub access_log: Arc<ArcSwapOption<AccessLog>>,
    /// The log of what happens besides.
    pub error_log: Option<ErrorLog>,
    /// What finds endpoints and probes them.
    pub keeper: Keeper,
}

/// Reads a configuration again and puts it in force, or leaves everything as it is.
pub struct Reloader {
    /// What the configuration is read from.
    pub path: PathBuf,
    /// Remembers files that did not change.
    pub loader: Loader,
    /// Makes snapshots.
    pub compiler: Arc<Compiler>,
    /// What is set.
    pub in_force: InForce,
    /// The process as it was started; what changes of it waits for an upgrade.
    pub process: Process,
    /// What the admin listener shows.
    pub status: Arc<Status>,
    /// The files that the configuration names that was read last, whatever came of it: what was
    /// missing may come.
    pub named: Vec<PathBuf>,
    /// Of these files when they were read, as [`read`] tells.
    pub fingerprint: u64,
}

/// How often files that change while they are read are read again.
const READINGS: usize = 3;

/// Reads a configuration, with a fingerprint of all files that it names: what has another one later
/// has changed since. A secret's file that changes in this very moment is noticed at its next change.
pub fn read(loader: &mut Loader, path: &Path) -> (Reading, u64) {
    let root = [path.to_owned()];
    let mut before = fingerprint(&root);
    for _ in 1..READINGS {
        let reading = loader.read(path);
        let all = fingerprint(&reading.config.files());
        let after = fingerprint(&root);
        if before == after {
            return (reading, all);
        }
        before = after;
    }
    (loader.read(path), before)
}

/// Of the contents of files; what cannot be read counts as empty.
fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    let is_yaml = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let in_folder = |file: &PathBuf| {
        let entries = std::fs::read_dir(file).ok()?;
        Some(entries.flatten().map(|entry| entry.path()).filter(is_yaml).collect::<BTreeSet<_>>())
    };
    let mut all: BTreeSet<PathBuf> = files.iter().cloned().collect();
    all.extend(files.iter().filter_map(in_folder).flatten());
    for file in all {
        file.hash(&mut hasher);
        // Not a device.
        let is_small = |data: &std::fs::Metadata| data.is_file() && data.len() <= LARGEST_FILE;
        match std::fs::metadata(&file) {
            Ok(data) if is_small(&data) => std::fs::read(&file).unwrap_or_default().hash(&mut hasher),
            // A file of consumers may be larger: what says that it is another one is enough.
            Ok(data) if data.is_file() => (data.len(), data.modified().ok()).hash(&mut hasher),
            _ => {}
        }
    }
    hasher.finish()
}

/// What changes among the listeners. Made before anything is published, so that an address that
/// cannot be bound rejects the whole.
struct ListenerChanges {
    added: Vec<ListenerSpec>,
    admin: Option<TcpListener>,
}

impl Reloader {
    /// The files and folders whose changes matter.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.in_force.current.load().config.files();
        files.extend(self.named.iter().cloned());
        files
    }

    /// True if a file has changed since it was read.
    pub fn is_stale(&self) -> bool {
        self.fingerprint != fingerprint(&self.named)
    }

    /// Has the access log opened anew, after its file was moved away.
    pub fn reopen_logs(&self) {
        if let Some(log) = &*self.in_force.access_log.load() {
            log.reopen();
        }
    }

    /// The transaction. It blocks: it reads files and binds sockets.
    pub fn reload(&mut self, cause: Cause) -> Arc<Event> {
        let began = Instant::now();
        let (outcome, report, needs_upgrade) = match self.try_reload(cause) {
            Ok((outcome, warnings, needs_upgrade)) => (outcome, warnings, needs_upgrade),
            Err(errors) => (ReloadOutcome::Rejected, errors, Vec::new()),
        };
        let took = began.elapsed().as_millis();
        match outcome {
            ReloadOutcome::Rejected => {
                log::error!(
                    "reload rejected cause={cause:?} took_ms={took}; the configuration before stays in force"
                );
                for error in &report {
                    log::error!("{error}");
                }
            }
            ReloadOutcome::Unchanged => log::debug!("reload unchanged cause={cause:?} took_ms={took}"),
            ReloadOutcome::Applied => {
                log::info!("reload applied cause={cause:?} took_ms={took}");
                for warning in &report {
                    log::warn!("{warning}");
                }
            }
        }
        for field in &needs_upgrade {
            log::warn!("`{field}` changed; it stays as it was until an upgrade or a restart");
        }
        self.in_force.metrics.reloaded(outcome);
        let event = Arc::new(Event { time: SystemTime::now(), outcome, report, needs_upgrade });
        if outcome != ReloadOutcome::Unchanged {
            self.status.last.store(Some(Arc::clone(&event)));
        }
        event
    }

    fn try_reload(
        &mut self,
        cause: Cause,
    ) -> Result<(ReloadOutcome, ConfigErrors, Vec<&'static str>), ConfigErrors> {
        let before = self.in_force.current.load();
        let (reading, fingerprint) = read(&mut self.loader, &self.path);
        self.named = reading.config.files();
        let last = std::mem::replace(&mut self.fingerprint, fingerprint);
        if cause == Cause::File && last == fingerprint {
            return Ok((ReloadOutcome::Unchanged, ConfigErrors::default(), Vec::new()));
        }
        let (mut compiled, warnings) = self.compiler.build(reading)?;
        let config = Arc::clone(&compiled.snapshot.config);
        let changes = self
            .prepare_listeners(&before, &compiled.snapshot)
            .map_err(|finding| config.errors(vec![*finding]))?;
        let log = self
            .in_force
            .prepare_access_log(&config, self.process.workers.count())
            .map_err(|finding| config.errors(vec![*finding]))?;

        let needs_upgrade = needs_upgrade(&self.process, &config.process);

        // From here on nothing can fail.
        self.in_force.apply_telemetry(&config, log);
        if metrics_settings(&before.config) != metrics_settings(&config) {
            // Handles have the shape of the settings that they were made with.
            self.in_force.metrics.configure(&metrics_settings(&config));
            if let Ok(again) = self.compiler.compile(&config) {
                compiled = again;
            }
        }
        let Compiled { snapshot, .. } = compiled;
        self.in_force.keeper.prepare(&snapshot);
        self.in_force.publish(&before, &snapshot, changes.added);
        self.in_force.move_admin(changes.admin, &config);
        drop(before);
        self.compiler.retained.sweep();
        Ok((ReloadOutcome::Applied, warnings, needs_upgrade))
    }

    fn prepare_listeners(
        &self,
        before: &Snapshot,
        after: &Snapshot,
    ) -> Result<ListenerChanges, Box<Finding>> {
        let mut changes = ListenerChanges { added: Vec::new(), admin: None };
        let stays = |old: &Listener| {
            after.listener(old.id).is_some_and(|new| new.config.address == old.config.address)
        };
        let leaving = || before.listeners.iter().flatten().filter(|old| !stays(old));
        for listener in after.listeners.iter().flatten() {
            if before.listener(listener.id).is_some_and(stays) {
                continue;
            }
            let path = ConfigPath::root().key("listeners").key(&listener.name).key("address");
            // A listener that is renamed, or two that swap, keep the sockets that are there.
            let inherited = leaving().find(|old| old.config.address == listener.config.address);
            let socket = match inherited.and_then(|old| self.in_force.socket_of(&old.name)) {
                Some(socket) => socket,
                None => bind_at(listener.config.address, path)?,
            };
            changes.added.push(spec(listener, socket));
        }
        let address = |config: &Config| config.admin.as_ref().map(|admin| admin.address);
        if let Some(wanted) = address(&after.config).filter(|wanted| address(&before.config) != Some(*wanted))
        {
            changes.admin = Some(bind_at(wanted, ConfigPath::root().key("admin").key("address"))?);
        }
        Ok(changes)
    }
}

fn bind_at(address: std::net::SocketAddr, path: ConfigPath) -> Result<TcpListener, Box<Finding>> {
    bind(address).map_err(|problem| Box::new(Finding::error(path, problem)))
}

/// Open connections of the admin listener. File descriptors are kept for them, so that it can be reached
/// when clients have all others.
const ADMIN_CONNECTIONS: u32 = 64;
/// File descriptors that are neither sockets of listeners nor connections: reactors, logs, files of a
/// configuration that is read, calls of the gateway's own.
const OTHER_DESCRIPTORS: u64 = 64;

/// How many clients' connections all listeners together may have when the process may have `limit` file
/// descriptors: what is left after listening sockets, the admin listener and the rest, less a share for
/// upstream connections, which is at most half. At least 16.
pub fn most_connections(config: &Config, limit: u64) -> usize {
    let workers = config.process.workers.count() as u64;
    let listening = (config.listeners.len() as u64 + 1) * (workers + 1);
    let left = limit.saturating_sub(listening + u64::from(ADMIN_CONNECTIONS) + OTHER_DESCRIPTORS);
    let upstream = u64::from(config.process.upstream_connections).min(left / 2);
    usize::try_from(left - upstream).unwrap_or(usize::MAX).max(16)
}

/// How many file descriptors the process may have.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// The number of the admin listener, which has a handle of its own.
const ADMIN: ListenerId = ListenerId(0);

/// The admin listener as the room `listen` takes it: plain, with the limits that listeners have by
/// default.
pub fn admin_spec(admin: &Admin, socket: TcpListener) -> ListenerSpec {
    let config = ListenerModel {
        address: admin.address,
        tls: None,
        h2c: false,
        limits: Limits {
            connections: ADMIN_CONNECTIONS,
            client_connections: ADMIN_CONNECTIONS,
            ..Limits::default()
        },
        proxy_protocol: None,
        trusted_proxies: Vec::new(),
        policies: Policies::default(),
        error_pages: BTreeMap::new(),
    };
    ListenerSpec { id: ADMIN, name: admin_name(), config: Arc::new(config), socket, tls: None }
}

fn admin_name() -> Name {
    "admin".parse().unwrap_or_else(|_| unreachable!("`admin` is a name"))
}

/// A listener as the room `listen` takes it.
pub fn spec(listener: &Listener, socket: TcpListener) -> ListenerSpec {
    ListenerSpec {
        id: listener.id,
        name: listener.name.clone(),
        config: Arc::clone(&listener.config),
        socket,
        tls: listener.tls.clone(),
    }
}

/// What of the process differs from the configuration and stays as it is.
fn needs_upgrade(running: &Process, wanted: &Process) -> Vec<&'static str> {
    let mut fields = Vec::new();
    if running.workers != wanted.workers {
        fields.push("process.workers");
    }
    if running.upstream_connections != wanted.upstream_connections {
        fields.push("process.upstream_connections");
    }
    if running.limit_keys != wanted.limit_keys {
        fields.push("process.limit_keys");
    }
    if running.quota_keys != wanted.quota_keys {
        fields.push("process.quota_keys");
    }
    if running.state != wanted.state {
        fields.push("process.state");
    }
    if running.control != wanted.control {
        fields.push("process.control");
    }
    fields
}

impl InForce {
    /// A duplicate of a listener's socket, with the queue that it has.
    fn socket_of(&self, name: &Name) -> Option<TcpListener> {
        let sockets = self.listeners.sockets().ok()?;
        sockets.into_iter().find_map(|(known, _, socket)| (known == *name).then_some(socket))
    }

    /// Swaps the snapshot, then tells the listeners what new connections get, and those that went
    /// that they did.
    fn publish(&self, before: &Snapshot, after: &Arc<Snapshot>, added: Vec<ListenerSpec>) {
        self.listeners.limit_connections(most_connections(&after.config, descriptor_limit()));
        self.current.publish(Arc::clone(after));
        for old in before.listeners.iter().flatten() {
            match after.listener(old.id).filter(|new| new.config.address == old.config.address) {
                Some(new) => self.listeners.update(new.id, Arc::clone(&new.config), new.tls.clone()),
                None => self.listeners.remove(old.id),
            };
        }
        for spec in added {
            let name = spec.name.clone();
            if let Err(problem) = self.listeners.add(spec) {
                log::error!("listener `{name}`: {problem}");
            }
        }
        self.metrics.set_certificates(expiries(after));
        self.keeper.keep(after);
    }

    fn move_admin(&self, socket: Option<TcpListener>, config: &Config) {
        if socket.is_some() || config.admin.is_none() {
            self.admin.remove(ADMIN);
        }
        if let (Some(socket), Some(admin)) = (socket, &config.admin)
            && let Err(problem) = self.admin.add(admin_spec(admin, socket))
        {
            log::error!("admin listener: {problem}");
        }
    }

    /// Opens another access log where the one that is open does not fit. What is wrong rejects the
    /// reload.
    fn prepare_access_log(&self, config: &Config, workers: usize) -> Result<PreparedLog, Box<Finding>> {
        let path = || ConfigPath::root().key("telemetry").key("access_log");
        let wrong = |problem| Box::new(Finding::error(path(), problem));
        let Setting::On(model) = &config.telemetry.access_log else { return Ok(PreparedLog::Off) };
        let settings = access_log_settings(model);
        match &*self.access_log.load() {
            Some(open) if open.fits(&settings) => {
                LinePlan::compile(&settings).map(PreparedLog::Keep).map_err(wrong)
            }
            _ => AccessLog::open(&settings, workers, self.metrics.access_log_dropped())
                .map(|log| PreparedLog::Open(Arc::new(log)))
                .map_err(wrong),
        }
    }

    fn apply_telemetry(&self, config: &Config, log: PreparedLog) {
        match log {
            PreparedLog::Off => self.access_log.store(None),
            PreparedLog::Open(log) => self.access_log.store(Some(log)),
            PreparedLog::Keep(plan) => {
                if let Some(log) = &*self.access_log.load() {
                    log.configure(plan);
                }
            }
        }
        let before = self.current.load().config.telemetry.error_log.level;
        let wanted = config.telemetry.error_log.level;
        if let Some(error_log) = self.error_log.as_ref().filter(|_| before != wanted) {
            error_log.set_level(level(wanted));
        }
    }
}

enum PreparedLog {
    Off,
    /// The one that is open fits; only this changes.
    Keep(LinePlan),
    Open(Arc<AccessLog>),
}

/// When each certificate of a snapshot ends.
pub fn expiries(snapshot: &Snapshot) -> Vec<CertificateExpiry> {
    let with_tls =
        snapshot.listeners.iter().flatten().filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    let each = |(listener, tls): (&Listener, &Arc<crate::listen::tls::TlsSetup>)| {
        let name = listener.name.to_string();
        tls.expiries()
            .into_iter()
            .map(move |(certificate, not_after)| CertificateExpiry {
                listener: name.clone(),
                certificate,
                not_after,
            })
            .collect::<Vec<_>>()
    };
    with_tls.flat_map(each).collect()
}

/// The model's access log as telemetry takes it.
pub fn access_log_settings(model: &AccessLogModel) -> AccessLogSettings {
    AccessLogSettings {
        target: match &model.to {
            LogTargetModel::Stdout => LogTarget::Stdout,
            LogTargetModel::Stderr => LogTarget::Stderr,
            LogTargetModel::File(path) => LogTarget::File(path.clone()),
        },
        fields: model.fields.clone(),
        redact: model.redact.clone(),
        sample: model.sample.basis_points(),
        queue: model.queue as usize,
    }
}

/// The model's metrics as telemetry takes them.
pub fn metrics_settings(config: &Config) -> MetricsSettings {
    let model = &config.telemetry.metrics;
    MetricsSettings {
        max_routes: model.max_routes as usize,
        buckets: model.buckets.iter().map(|bound| bound.get()).collect(),
    }
}

/// The model's level as the `log` crate has it.
pub const fn level(level: LogLevel) -> log::LevelFilter {
    match level {
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warn => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
        LogLevel::Trace => log::LevelFilter::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_out() {
        let mut config = Config::default();
        config.process.workers = crate::config::model::process::Workers::Count(3);
        config.process.upstream_connections = 4096;
        // One listening socket and three accept tasks for the admin listener.
        let kept = 4 + 64 + 64;
        for (limit, most) in [
            (0, 16),
            (100, 16),
            (1024, (1024 - kept) / 2),
            (8192 + kept, 4096),
            (1 << 20, (1 << 20) - kept - 4096),
            (u64::MAX, u64::MAX - kept - 4096),
        ] {
            assert_eq!(most_connections(&config, limit), usize::try_from(most).unwrap(), "{limit}");
        }
    }
}
