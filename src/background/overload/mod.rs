//! Watches how hard it is for the gateway itself, and says so to those who take work on: the listeners and
//! the phases of a request.

mod memory;
mod meter;

use crate::listen::Listeners;
use crate::runtime::pressure::{Level, Pressure};
use crate::runtime::{Current, Snapshot};
use async_trait::async_trait;
use meter::{Meter, Sample};
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(100);
/// A worker that takes longer than this is taken to have taken this long.
const LONGEST: Duration = Duration::from_secs(2);

/// The service.
pub struct OverloadWatch {
    /// What says how it is.
    pub pressure: Arc<Pressure>,
    /// Whose workers are asked, and who stop taking new connections.
    pub listeners: Listeners,
    /// Says what is too much.
    pub current: Arc<Current>,
}

#[async_trait]
impl BackgroundService for OverloadWatch {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let allowed = memory::allowed();
        let mut meter = Meter::default();
        self.listeners.started().await;
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                () = self.look(&mut meter, allowed) => {}
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

impl OverloadWatch {
    async fn look(&self, meter: &mut Meter, allowed: Option<u64>) {
        let began = Instant::now();
        let _ = tokio::time::timeout(LONGEST, self.listeners.alive()).await;
        let memory = memory::resident().zip(allowed).map_or(0.0, |(has, may)| has as f64 / may as f64);
        let sample = Sample { delay: began.elapsed(), memory, connections: self.listeners.fullness() };
        let snapshot: Arc<Snapshot> = self.current.load();
        let (level, delay) = meter.take(sample, &snapshot.config.process.overload);
        let before = self.pressure.level();
        self.pressure.set(level, u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
        self.listeners.refuse_new(level > Level::Calm);
        if level == before {
            return;
        }
        let how = format!(
            "level={} delay={delay:?} memory={:.1}% connections={:.1}%",
            level.as_str(),
            sample.memory * 100.0,
            sample.connections * 100.0
        );
        if level > before {
            log::warn!("the gateway is overloaded, and refuses what matters less: {how}");
        } else {
            log::info!("the gateway is less overloaded: {how}");
        }
    }
}
