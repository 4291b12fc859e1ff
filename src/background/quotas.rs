//! Keeps on disk what quotas have used: read before anybody is served, written twice a second while it changes,
//! and once more at the end. No request waits for it; where it cannot be written, the gateway goes on.

use crate::policy::quota::file::{Keep, Loaded, Saved};
use crate::policy::quota::{self, Store};
use crate::retained::Retained;
use crate::runtime::Current;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often it is written at most. What a crash loses is this old, and as old as a write takes.
const EVERY: Duration = Duration::from_millis(500);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Where what quotas have used is kept, and how that goes.
#[derive(Debug)]
pub struct QuotaKeeper {
    retained: Arc<Retained>,
    keep: Mutex<Keep>,
    saved_at: AtomicU64,
    failures: AtomicU64,
    /// The last try failed: the log has it already.
    is_failing: AtomicBool,
}

/// The folder for state: the configuration's, systemd's, or one beside the configuration at `path`.
pub fn state_folder(configured: Option<&Path>, path: &Path) -> PathBuf {
    let systemd = || {
        let folders = std::env::var_os("STATE_DIRECTORY")?;
        // Several have colons between them.
        let first = std::env::split_paths(&folders).next()?;
        first.is_absolute().then_some(first)
    };
    let beside = || {
        let folder = if path.is_dir() { Some(path) } else { path.parent() };
        folder.unwrap_or(Path::new(".")).join("state")
    };
    configured.map(Path::to_owned).or_else(systemd).unwrap_or_else(beside)
}

impl QuotaKeeper {
    /// Keeps what is in `retained` in this folder.
    pub fn new(retained: Arc<Retained>, folder: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            retained,
            keep: Mutex::new(Keep::new(folder)),
            saved_at: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        })
    }

    /// Reads what was used before, where there are quotas and it was not read yet. It may block.
    pub fn load(&self) {
        let Some(store) = Store::of(&self.retained).filter(|store| !store.is_loaded()) else { return };
        let keep = self.keep.lock();
        match keep.load(&store) {
            Ok(Loaded::Keys(count)) => {
                log::info!("quotas read file={:?} keys={count}", keep.file());
                self.is_failing.store(false, Ordering::Relaxed);
            }
            Ok(Loaded::Quarantined(aside, why)) => {
                log::error!(
                    "quotas: the file {:?} is not whole ({why}); it is put aside as {aside:?}, and counts begin anew",
                    keep.file()
                );
            }
            Err(error) => self.failed(&format!("quotas cannot be read file={:?} cause={error}", keep.file())),
        }
    }

    /// Writes what has changed. It may block.
    pub fn save(&self) {
        let Some(store) = Store::of(&self.retained) else { return };
        let mut keep = self.keep.lock();
        match keep.save(&store) {
            Ok(Saved::Written) => {
                self.saved_at.store(quota::now() / 1000, Ordering::Relaxed);
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    log::info!("quotas are saved again file={:?}", keep.file());
                }
            }
            Ok(Saved::Unchanged) => {}
            Ok(Saved::Elsewhere) => {
                log::debug!("quotas are another process's to save file={:?}", keep.file());
            }
            Err(error) => self.failed(&format!(
                "quotas are not saved file={:?} cause={error}; a restart would forget what is used",
                keep.file()
            )),
        }
    }

    fn failed(&self, what: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            log::error!("{what}");
        }
    }

    /// When it was written last, in seconds since 1970, and how often it could not be.
    pub fn counts(&self) -> (u64, u64) {
        (self.saved_at.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }
}

/// The service.
pub struct QuotaUpkeep {
    /// What it keeps.
    pub keeper: Arc<QuotaKeeper>,
    /// The configuration in force, which may come to have quotas.
    pub current: Arc<Current>,
}

#[async_trait]
impl BackgroundService for QuotaUpkeep {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut published = self.current.published();
        loop {
            let keeper = Arc::clone(&self.keeper);
            let work = tokio::task::spawn_blocking(move || {
                keeper.load();
                keeper.save();
            });
            if let Err(error) = work.await {
                self.keeper.failed(&format!("quotas are not saved: {error}"));
            }
            let pause = if self.keeper.is_failing.load(Ordering::Relaxed) { AGAIN } else { EVERY };
            tokio::select! {
                _ = shutdown.changed() => return,
                () = tokio::time::sleep(pause) => {}
                changed = published.changed() => if changed.is_err() { return },
            }
        }
    }
}
