//! How a gateway ends: who tells it to, and what happens then.

use super::{Handle, Stop};
use crate::background::quotas::QuotaKeeper;
use crate::background::supervisor::Supervisor;
use crate::telemetry::access_log::AccessLog;
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long the last log lines may take.
const FLUSH: Duration = Duration::from_secs(2);

/// How long tunnels may take to say goodbye when the drain time is over.
const FAREWELL: Duration = Duration::from_secs(2);

/// Waits for the word to stop, then drains: everything happens before Pingora is told.
pub(super) struct StopWatch {
    pub stopped: watch::Receiver<Stop>,
    pub signals: bool,
    /// Raised by one when signals are listened to.
    pub armed: watch::Sender<u8>,
    pub handle: Handle,
    pub access_log: Arc<ArcSwapOption<AccessLog>>,
    pub quotas: Arc<QuotaKeeper>,
    /// Tells the tunnels.
    pub stopping: watch::Sender<bool>,
    pub supervisor: Supervisor,
}

#[async_trait]
impl ShutdownSignalWatch for StopWatch {
    async fn recv(&self) -> ShutdownSignal {
        let on = |kind| self.signals.then(|| signal(kind).ok()).flatten();
        let mut words = Words {
            terminate: on(SignalKind::terminate()),
            interrupt: on(SignalKind::interrupt()),
            stopped: self.stopped.clone(),
        };
        self.armed.send_modify(|armed| *armed += 1);
        // It may have been said before anybody listened.
        let said = *words.stopped.borrow_and_update();
        let first = if said == Stop::No { words.next().await } else { said };
        if first == Stop::Gracefully {
            tokio::select! {
                () = self.drain() => {}
                // A second word means it.
                _ = words.next() => {}
            }
        }
        self.flush();
        let quotas = Arc::clone(&self.quotas);
        let saved = tokio::task::spawn_blocking(move || quotas.save());
        if tokio::time::timeout(FLUSH, saved).await.is_err() {
            log::error!("what quotas used last is lost: its folder takes nothing");
        }
        ShutdownSignal::FastShutdown
    }
}

/// What tells the gateway to stop.
struct Words {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    stopped: watch::Receiver<Stop>,
}

impl Words {
    /// The next one; one that was taken already does not count again.
    async fn next(&mut self) -> Stop {
        tokio::select! {
            () = raised(&mut self.terminate) => Stop::Gracefully,
            () = raised(&mut self.interrupt) => Stop::AtOnce,
            changed = self.stopped.changed() => match changed {
                Ok(()) => *self.stopped.borrow_and_update(),
                Err(_) => Stop::Gracefully,
            },
        }
    }
}

impl StopWatch {
    async fn drain(&self) {
        let limit = self.handle.current.load().config.process.drain.get();
        log::info!("shutdown begins drain_ms={}", limit.as_millis());
        self.supervisor.stopping(limit + FAREWELL + FLUSH);
        self.handle.readiness.set(false);
        let listeners = &self.handle.listeners;
        listeners.close();
        listeners.shutdown();
        let drained = tokio::time::timeout(limit, listeners.drained()).await.is_ok();
        self.stopping.send_replace(true);
        if !drained && tokio::time::timeout(FAREWELL, listeners.drained()).await.is_err() {
            log::warn!("drain time is over, cut connections={}", listeners.connections());
        }
        log::info!("shutdown ends");
    }

    fn flush(&self) {
        if let Some(log) = &*self.access_log.load()
            && !log.flush(Instant::now() + FLUSH)
        {
            log::error!("the last lines of the access log are lost: its target takes none");
        }
    }
}

async fn raised(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
