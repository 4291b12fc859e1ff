//! Whether the disk can be used. After an error it is left alone for a while, which doubles up to a minute:
//! requests go on without it, and the log has one line at the beginning and one at the end.

use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// How one side of a disk is, reading or writing.
#[derive(Debug)]
pub struct Health {
    what: &'static str,
    began: Instant,
    /// Milliseconds from `began` up to which it is left alone; zero while it is well.
    until: AtomicU64,
    pause: Mutex<Duration>,
}

impl Health {
    /// Of a disk that is well; `what` is done with it.
    pub fn new(what: &'static str) -> Self {
        Self { what, began: Instant::now(), until: AtomicU64::new(0), pause: Mutex::new(FIRST) }
    }

    /// True while it is left alone.
    pub fn is_paused(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && self.millis(now) < until
    }

    /// True from an error to the next success.
    pub fn is_ill(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// It did not work.
    pub fn failed(&self, error: &io::Error, folder: &Path, now: Instant) {
        let mut pause = self.pause.lock();
        if self.is_paused(now) {
            // Others that were under way: known already.
            return;
        }
        let is_news = !self.is_ill();
        let until = self.millis(now + *pause).max(1);
        self.until.store(until, Ordering::Relaxed);
        if is_news {
            log::warn!(
                "cache_disk: {} stopped folder={} error={error}; requests go on without it, tried again in {}s",
                self.what,
                folder.display(),
                pause.as_secs()
            );
        }
        *pause = (*pause * 2).min(LONGEST);
    }

    /// It worked.
    pub fn worked(&self, folder: &Path) {
        if self.is_ill() {
            let mut pause = self.pause.lock();
            if self.until.swap(0, Ordering::Relaxed) != 0 {
                *pause = FIRST;
                log::info!("cache_disk: {} works again folder={}", self.what, folder.display());
            }
        }
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}
