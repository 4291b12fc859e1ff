//! What goes on besides requests: reloads, and what asks for them.

pub mod handover;
pub mod identity;
pub mod overload;
mod probe;
pub mod quotas;
pub mod reload;
mod resolve;
mod stores;
pub mod supervisor;
pub mod upkeep;
pub mod watch;

pub use identity::IdentityUpkeep;
pub use reload::{Cause, Reloader, Status};
pub use stores::StoreUpkeep;

use crate::telemetry::metrics::ReloadOutcome;
use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::sync::Arc;
use std::time::Duration;
use supervisor::Supervisor;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use watch::Watcher;

/// Files settle for this long before they are read again.
const SETTLE: Duration = Duration::from_millis(250);
/// Files that never settle are read all the same, this long after the first change.
const SETTLE_AT_MOST: Duration = Duration::from_secs(5);

/// A reload that somebody asked for, with where to tell what came of it.
pub struct Request {
    /// Why.
    pub cause: Cause,
    /// Told when it is done; whoever asked may have gone.
    pub done: Option<oneshot::Sender<Arc<reload::Event>>>,
}

/// The service that reloads, one at a time: on SIGHUP, on a changed file, on an admin's call. It
/// also has the logs reopened on SIGUSR1.
pub struct Reloads {
    reloader: Arc<parking_lot::Mutex<Reloader>>,
    requests: Mutex<mpsc::Receiver<Request>>,
    signals: bool,
    supervisor: Supervisor,
    /// Raised by one when signals are listened to.
    armed: tokio::sync::watch::Sender<u8>,
    /// Held while a reload is made. Whoever else holds it has the next one wait.
    turn: Arc<Mutex<()>>,
}

impl Reloads {
    /// Reloads by `reloader` on what comes by `requests` and from files; on signals only if told
    /// so, since they belong to the process and not to one of several gateways in it.
    pub fn new(
        reloader: Reloader,
        requests: mpsc::Receiver<Request>,
        (signals, supervisor, armed): (bool, Supervisor, tokio::sync::watch::Sender<u8>),
    ) -> Self {
        Self {
            reloader: Arc::new(parking_lot::Mutex::new(reloader)),
            requests: Mutex::new(requests),
            signals,
            supervisor,
            armed,
            turn: Arc::default(),
        }
    }

    /// The lock that reloads are made under.
    pub fn turn(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.turn)
    }

    /// Reads, compiles and publishes on a thread that may block.
    async fn reload(&self, cause: Cause) -> Option<Arc<reload::Event>> {
        let _turn = self.turn.lock().await;
        let reloader = Arc::clone(&self.reloader);
        self.supervisor.reloading();
        let done = tokio::task::spawn_blocking(move || reloader.lock().reload(cause)).await;
        let event = done.inspect_err(|error| log::error!("a reload broke off: {error}")).ok();
        // What is read again, unchanged, says what it said before.
        self.supervisor.ready(match event.as_ref().map(|event| event.outcome) {
            Some(ReloadOutcome::Applied) => Some("serving"),
            Some(ReloadOutcome::Unchanged) => None,
            Some(ReloadOutcome::Rejected) | None => {
                Some("serving; the last configuration was rejected, the one before stays in force")
            }
        });
        event
    }

    fn watch(&self, watcher: &mut Watcher) {
        let files = self.reloader.lock().files();
        watcher.follow(&files);
    }
}

#[async_trait]
impl BackgroundService for Reloads {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut requests = self.requests.lock().await;
        let mut hang_up = self.signals.then(|| signal(SignalKind::hangup()).ok()).flatten();
        let mut user1 = self.signals.then(|| signal(SignalKind::user_defined1()).ok()).flatten();
        self.armed.send_modify(|armed| *armed += 1);
        let mut watcher = Watcher::start();
        self.watch(&mut watcher);
        // What changed between the start and now was seen by nobody.
        if self.reloader.lock().is_stale() {
            self.reload(Cause::File).await;
            self.watch(&mut watcher);
        }
        let mut settling = Settling::default();
        loop {
            let (cause, done) = tokio::select! {
                _ = shutdown.changed() => return,
                request = requests.recv() => match request {
                    Some(request) => (request.cause, request.done),
                    None => return,
                },
                () = raised(&mut hang_up) => (Cause::Signal, None),
                () = raised(&mut user1) => {
                    self.reloader.lock().reopen_logs();
                    continue;
                }
                () = watcher.changed() => {
                    settling.changed(Instant::now());
                    continue;
                }
                () = settling.over() => (Cause::File, None),
            };
            let event = self.reload(cause).await;
            if let (Some(done), Some(event)) = (done, event) {
                let _ = done.send(event);
            }
            self.watch(&mut watcher);
        }
    }
}

async fn raised(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Files that have changed and may change again: an editor or a deployment writes several. Whoever asks for a
/// reload meanwhile does not wait for them.
#[derive(Default)]
struct Settling(Option<Unsettled>);

#[derive(Clone, Copy)]
struct Unsettled {
    /// Nothing has changed for long enough.
    due: Instant,
    /// Waiting has been long enough.
    latest: Instant,
}

impl Settling {
    fn changed(&mut self, now: Instant) {
        let latest = self.0.map_or(now + SETTLE_AT_MOST, |before| before.latest);
        self.0 = Some(Unsettled { due: (now + SETTLE).min(latest), latest });
    }

    /// Resolves, once, when files that have changed are to be read.
    async fn over(&mut self) {
        match self.0 {
            Some(Unsettled { due, .. }) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}

/// Waits for files of which one has changed just now.
async fn settle(watcher: &mut Watcher) {
    let mut settling = Settling::default();
    settling.changed(Instant::now());
    loop {
        tokio::select! {
            () = watcher.changed() => settling.changed(Instant::now()),
            () = settling.over() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_never_settle_are_read_in_the_end() {
        let began = Instant::now();
        let mut settling = Settling::default();
        let mut now = began;
        let mut due = began;
        while now <= due {
            settling.changed(now);
            due = settling.0.unwrap().due;
            assert!(due <= began + SETTLE_AT_MOST, "they are waited for without an end");
            now += SETTLE / 2;
        }
        assert_eq!(due, began + SETTLE_AT_MOST);
    }
}
