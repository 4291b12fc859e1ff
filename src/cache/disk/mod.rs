//! The disk tier: what outlives the memory tier and the process. A file per object, written under another
//! name and renamed; checked when it is read; found again after a restart by walking the folder while
//! traffic goes on.
//!
//! What may happen to the disk never happens to a request: reading and writing is done off the workers by
//! so many at once at most; who would have to wait too long, or comes after an error, goes on without.
//!
//! Two processes may share a folder, as during an upgrade. Files have the same name for the same object
//! whoever writes it, get it by a rename, and say themselves all that decides about their use, so each may
//! read and replace the other's. Each hears of the other's purges from the journal within half a second,
//! and of its files by the next walk. Purges are forgotten only by a process that is alone.

pub mod files;
pub mod format;
pub mod health;
mod heard;
pub mod index;
pub mod journal;
mod keeper;
mod reading;
mod writing;

#[cfg(test)]
mod tests;

pub use reading::{Hit, Pump};

use crate::cache::rules::key::Key;
use crate::cache::store::purge::{Clock, Purge, Purges, Target};
use crate::cache::store::urls::Urls;
use files::Folder;
use health::Health;
use index::{Bounds, Entry, Index, Name};
use journal::{Journal, Said};
use parking_lot::{Mutex, RwLock};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use tokio::sync::Semaphore;

/// How many read at once.
const READERS: usize = 32;

/// How many write at once.
const WRITERS: usize = 4;

/// So many purges are remembered before a walk carries them out.
const MANY_PURGES: usize = 8192;

/// At so many there is no time left for that: everything goes.
const MOST_PURGES: usize = 4 * MANY_PURGES;

/// What is told of purges by other processes.
pub type Heard = Box<dyn Fn(&Purge) + Send + Sync>;

/// A disk tier.
pub struct Disk {
    folder: Folder,
    index: Index,
    purges: Purges,
    journal: Mutex<Journal>,
    /// Up to when purges had been carried out when it was opened.
    floor: u64,
    /// Shared by who has asked the purges about an object and not yet told the index of it.
    gate: RwLock<()>,
    /// Held by who gives a file its name: what has the name and what the index says of it are one.
    naming: Mutex<()>,
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
    /// Bytes that wait to be written.
    queued: AtomicU64,
    reading: Health,
    writing: Health,
    /// The index knows all files that there were.
    is_rebuilt: AtomicBool,
    /// How many processes had opened the folder when this one, alone, came to know all that is in it.
    known_of: AtomicU64,
    /// Of which URLs there is something, in this tier and above it.
    urls: Arc<Urls>,
    wake: mpsc::SyncSender<()>,
    heard: Heard,
    /// For the metrics.
    pub counts: Counts,
}

/// What a disk tier counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answers that were found.
    pub hits: AtomicU64,
    /// Files that were written.
    pub written: AtomicU64,
    /// Files that had to leave for want of room.
    pub evicted: AtomicU64,
    /// Files that were not what had been written, and are gone.
    pub damaged: AtomicU64,
    /// Errors of the disk.
    pub errors: AtomicU64,
    /// Look-ups and writes that were left out because too much was going on, or after an error.
    pub passed_over: AtomicU64,
    /// Temporary files that dead processes left.
    pub swept: AtomicU64,
}

/// A purge on its way to the journal.
#[derive(Debug, Default)]
pub enum Recorded {
    /// There is no journal.
    #[default]
    Nowhere,
    /// It is done.
    Now(io::Result<()>),
    /// It will be.
    Soon(tokio::task::JoinHandle<io::Result<()>>),
}

impl Recorded {
    /// Waits until it is done.
    ///
    /// # Errors
    /// It is in force, but not written: it is tried again until it is.
    pub async fn done(self) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Now(done) => done,
            Self::Soon(job) => job.await.unwrap_or_else(|error| Err(io::Error::other(error))),
        }
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { folder, counts, .. } = self;
        f.debug_struct("Disk").field("root", &folder.root()).field("counts", counts).finish_non_exhaustive()
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Disk {
    /// Opens a folder, and begins to find out in the background what is in it. Blocks, briefly. Moments are
    /// `clock`'s, and `heard` is told of purges by other processes that use the folder.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub fn open(
        root: &Path,
        bounds: Bounds,
        (clock, urls): (Arc<Clock>, Arc<Urls>),
        heard: Heard,
    ) -> io::Result<Arc<Self>> {
        let folder = Folder::open(root)?;
        let purges = Purges::new(clock);
        let journal = open_journal(&folder, &purges)?;
        let (wake, woken) = mpsc::sync_channel(1);
        let disk = Arc::new(Self {
            floor: purges.floor(),
            folder,
            index: Index::new(bounds),
            purges,
            journal: Mutex::new(journal),
            gate: RwLock::new(()),
            naming: Mutex::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            writers: Arc::new(Semaphore::new(WRITERS)),
            queued: AtomicU64::new(0),
            reading: Health::new("reading"),
            writing: Health::new("writing"),
            is_rebuilt: AtomicBool::new(false),
            known_of: AtomicU64::new(0),
            urls,
            wake,
            heard,
            counts: Counts::default(),
        });
        keeper::start(&disk, woken)?;
        Ok(disk)
    }

    /// Changes how much there may be.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.index.set_bounds(bounds);
        self.wake();
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        self.folder.root()
    }

    /// Purges; in force for the next request, and after a restart. Blocks, briefly.
    ///
    /// # Errors
    /// It is in force, but not written: it is tried again until it is.
    pub fn purge(&self, purge: &Purge) -> io::Result<()> {
        let at = self.remember(purge);
        self.record(purge, at)
    }

    /// Purges; in force when this returns, and after a restart when what it returns is done.
    pub fn begin_purge(self: &Arc<Self>, purge: &Purge) -> Recorded {
        let at = self.remember(purge);
        let (disk, purge) = (Arc::clone(self), purge.clone());
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => Recorded::Soon(runtime.spawn_blocking(move || disk.record(&purge, at))),
            Err(_) => Recorded::Now(disk.record(&purge, at)),
        }
    }

    fn remember(&self, purge: &Purge) -> u64 {
        let at = self.purges.remember(purge);
        let many = self.purges.count();
        let is_everything = purge.target == Target::All && !purge.soft;
        if many >= MANY_PURGES || is_everything {
            self.wake();
        }
        at
    }

    fn record(&self, purge: &Purge, at: u64) -> io::Result<()> {
        let recorded = self.journal.lock().append(purge, at);
        if self.purges.count() < MOST_PURGES {
            return recorded;
        }
        // No walk keeps up with them.
        let everything = Purge { target: Target::All, soft: false };
        let at = self.purges.remember(&everything);
        self.wake();
        self.journal.lock().append(&everything, at)
    }

    /// True if there may be something under a key; costs no look at the disk.
    pub fn may_have(&self, key: &str) -> bool {
        !self.is_rebuilt() || self.index.has(Name::of(key, b"").key)
    }

    /// Takes an answer away, in the background.
    pub fn remove(self: &Arc<Self>, key: &Key, variant: &[u8]) {
        let (disk, name) = (Arc::clone(self), Name::of(key.as_str(), variant));
        self.index.remove(name, None);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || disk.folder.remove(name))),
            Err(_) => disk.folder.remove(name),
        }
    }

    /// True once all files are known.
    pub fn is_rebuilt(&self) -> bool {
        self.is_rebuilt.load(Ordering::Acquire)
    }

    /// True if there is nothing in the folder, or in the memory of another process that uses it, that this one does
    /// not know of.
    pub fn knows_all(&self) -> bool {
        let known_of = self.known_of.load(Ordering::Acquire);
        self.folder.guests().is_ok_and(|guests| guests == known_of)
    }

    /// Bytes that are kept, in whole blocks.
    pub fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// Files that are kept.
    pub fn objects(&self) -> u64 {
        self.index.objects()
    }

    /// True if the disk does not work at the moment.
    pub fn is_ill(&self) -> bool {
        self.reading.is_ill() || self.writing.is_ill()
    }

    fn wake(&self) {
        // If it is awake already, it looks again.
        let _ = self.wake.try_send(());
    }

    /// Takes a file away, and out of the index.
    fn drop_file(&self, name: Name, only: Option<&Arc<Entry>>) {
        self.index.remove(name, only);
        self.folder.remove(name);
    }

    fn drop_damaged(&self, name: Name) {
        count(&self.counts.damaged);
        log::warn!("cache_disk: a file was not what had been written, removed file={name}");
        self.drop_file(name, None);
    }

    /// Takes away the files of what had to leave.
    fn drop_evicted(&self) {
        for name in self.index.evicted() {
            count(&self.counts.evicted);
            self.folder.remove(name);
        }
    }

    fn read_failed(&self, error: &io::Error) {
        count(&self.counts.errors);
        self.reading.failed(error, self.folder.root(), std::time::Instant::now());
    }

    fn write_failed(&self, error: &io::Error) {
        count(&self.counts.errors);
        self.writing.failed(error, self.folder.root(), std::time::Instant::now());
    }
}

/// The journal, with what it says remembered. One that cannot be read, or that is gone while the folder is
/// older, makes everything purged that is there.
fn open_journal(folder: &Folder, purges: &Purges) -> io::Result<Journal> {
    let (mut journal, is_new) = Journal::open(folder)?;
    let said = journal.news()?;
    let is_lost = is_new && !folder.is_fresh();
    let is_damaged = said.is_damaged;
    recall(purges, said);
    if is_lost || is_damaged {
        if is_damaged {
            log::warn!(
                "cache_disk: the journal of purges is damaged, everything is purged folder={}",
                folder.root().display()
            );
        }
        let everything = Purge { target: Target::All, soft: false };
        purges.remember(&everything);
        journal.rewrite(folder, |said| {
            recall(purges, said);
            told(purges)
        })?;
    }
    Ok(journal)
}

fn recall(purges: &Purges, said: Said) {
    for (purge, at) in said.purges {
        purges.recall(&purge, at);
    }
    if said.floor > purges.floor() {
        purges.clock().pass(said.floor);
        purges.forget(said.floor);
    }
}

fn told(purges: &Purges) -> Said {
    Said { purges: purges.all(), floor: purges.floor(), is_damaged: false }
}
