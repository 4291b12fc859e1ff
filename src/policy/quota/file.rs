//! The file of what is used: lines of JSON, the last of which is a digest of those before. It is written
//! whole beside the old one and then takes its place, so that at any moment there is one that is whole.
//!
//! Whoever writes it holds a lock, so that two processes that share a folder never write in turns.

use super::count::{Count, Millis};
use super::store::{Digest, Entry, Store, now};
use crate::values::Sha256;
use ahash::HashMap;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The form of the file.
const VERSION: u32 = 1;
/// The largest file that is read, in bytes.
const LARGEST: u64 = 4 << 30;
/// So long a process that has handed over leaves the file alone, in milliseconds; then, if nobody has taken it,
/// the hand-over has failed.
const PATIENCE: Millis = 10_000;

/// Where what is used is kept.
#[derive(Debug)]
pub struct Keep {
    folder: PathBuf,
    /// Held by whoever writes.
    lock: Option<Flock<File>>,
    /// Something that was to be written was not.
    is_behind: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is on disk.
    Written,
    /// There is nothing new.
    Unchanged,
    /// Another process keeps it there.
    Elsewhere,
}

/// What came of reading.
#[derive(Debug)]
pub enum Loaded {
    /// So many keys.
    Keys(usize),
    /// The file was not whole; it is here now, and nothing is known.
    Quarantined(PathBuf, String),
}

#[derive(Serialize, Deserialize)]
struct Head {
    quotas: u32,
    /// When it was written, in milliseconds since 1970.
    at: Millis,
}

/// A key of a quota, as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    key: String,
    quota: Arc<str>,
    #[serde(rename = "for")]
    label: Box<str>,
    max: u64,
    touched: Millis,
    /// How long a part is, in milliseconds; 0 for a period of the calendar.
    part: Millis,
    used: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Tail {
    sha256: String,
}

impl Line {
    pub(super) fn of(key: &Digest, entry: &Entry) -> Self {
        let (part, used) = entry.count.written();
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let (quota, label) = (Arc::clone(&entry.quota), entry.label.clone());
        Self { key, quota, label, max: entry.max, touched: entry.touched, part, used }
    }

    /// `None` if it says nothing that there can be.
    pub(super) fn read(self) -> Option<(Digest, Entry)> {
        let mut digest = Digest::default();
        if self.key.len() != 2 * digest.len() {
            return None;
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(self.key.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        let count = Count::read(self.part, &self.used)?;
        let Self { quota, label, max, touched, .. } = self;
        Some((digest, Entry { quota, label, count, max, touched, untold: None }))
    }
}

impl Keep {
    /// In this folder, which is made when something is written.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, lock: None, is_behind: false }
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("quotas")
    }

    /// Adds what the file holds to what is known, once. A file that is not whole is put aside.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn load(&self, store: &Store) -> io::Result<Loaded> {
        let file = self.file();
        let text = match std::fs::metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(data) if !data.is_file() || data.len() > LARGEST => Ok(Some(Vec::new())),
            Ok(_) => std::fs::read(&file).map(Some),
        };
        // What cannot be read is not tried again, and not written over: see `save`.
        let Some(text) = text? else {
            store.loaded.store(true, Ordering::Release);
            return Ok(Loaded::Keys(0));
        };
        let outcome = match parse(&text) {
            Ok(lines) => {
                let now = now();
                let mut quotas = HashMap::<Arc<str>, Arc<str>>::default();
                let entries = lines.into_iter().filter_map(Line::read);
                let mut count = 0;
                for (key, mut entry) in entries.filter(|(_, entry)| !entry.count.is_over(now)) {
                    // Each quota's name stands in memory once.
                    let quota =
                        quotas.entry(Arc::clone(&entry.quota)).or_insert_with(|| Arc::clone(&entry.quota));
                    entry.quota = Arc::clone(quota);
                    store.put(key, entry, (true, now));
                    count += 1;
                }
                Loaded::Keys(count)
            }
            Err(why) => {
                let aside = self.folder.join("quotas.corrupt");
                std::fs::rename(&file, &aside)?;
                Loaded::Quarantined(aside, why)
            }
        };
        store.loaded.store(true, Ordering::Release);
        Ok(outcome)
    }

    /// Writes what is used, if that is something else than the file has.
    ///
    /// # Errors
    /// It cannot be written. What is there stays, and all of it is tried again next time.
    pub fn save(&mut self, store: &Store) -> io::Result<Saved> {
        let handed_over = store.handed_over.load(Ordering::Acquire);
        if handed_over > 0 && now().saturating_sub(handed_over) < PATIENCE {
            self.lock = None;
            return Ok(Saved::Elsewhere);
        }
        let is_changed = store.parts().any(|part| part.is_changed);
        if !(is_changed || self.is_behind) || !store.loaded.load(Ordering::Acquire) {
            return Ok(Saved::Unchanged);
        }
        self.is_behind = true;
        if self.lock.is_none() && !self.take_lock()? {
            return Ok(Saved::Elsewhere);
        }
        write(&self.folder, &self.file(), &text(store)?)?;
        self.is_behind = false;
        Ok(Saved::Written)
    }

    /// False if another process has it.
    fn take_lock(&mut self) -> io::Result<bool> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let path = self.folder.join("quotas.lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                self.lock = Some(lock);
                Ok(true)
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(false),
            Err((_, error)) => Err(error.into()),
        }
    }
}

/// All of it as text. What does not count any more is forgotten on the way.
fn text(store: &Store) -> io::Result<Vec<u8>> {
    let now = now();
    let mut text = Vec::with_capacity(1 << 16);
    let put = |text: &mut Vec<u8>, line: &Line| -> io::Result<()> {
        serde_json::to_writer(&mut *text, line)?;
        text.push(b'\n');
        Ok(())
    };
    serde_json::to_writer(&mut text, &Head { quotas: VERSION, at: now })?;
    text.push(b'\n');
    for mut part in store.parts() {
        part.is_changed = false;
        part.keys.retain(|_, entry| !entry.count.is_over(now));
        let lines: Vec<Line> = part.keys.iter().map(|(key, entry)| Line::of(key, entry)).collect();
        // Written out of the lock.
        drop(part);
        lines.iter().try_for_each(|line| put(&mut text, line))?;
    }
    let tail = Tail { sha256: Sha256::of(&text).to_string() };
    serde_json::to_writer(&mut text, &tail)?;
    text.push(b'\n');
    Ok(text)
}

fn write(folder: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let fresh = folder.join("quotas.tmp");
    let written = (|| {
        // It says who calls: nobody else's business.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text)?;
        file.sync_data()?;
        std::fs::rename(&fresh, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written?;
    // The name is on disk as well then.
    File::open(folder)?.sync_all()
}

/// The lines between the first and the last, if the last says that they are whole.
fn parse(text: &[u8]) -> Result<Vec<Line>, String> {
    let without_end = text.strip_suffix(b"\n").ok_or("its last line is not whole")?;
    let border = without_end.iter().rposition(|byte| *byte == b'\n').ok_or("it has no lines")? + 1;
    let (body, tail) = without_end.split_at(border);
    let tail: Tail = serde_json::from_slice(tail).map_err(|_| "its last line is no digest")?;
    if Sha256::of(body).to_string() != tail.sha256 {
        return Err("its digest is another one".to_owned());
    }
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let head: Head =
        lines.next().and_then(|line| serde_json::from_slice(line).ok()).ok_or("its first line is none")?;
    if head.quotas != VERSION {
        return Err(format!("its form {} is not known to this build", head.quotas));
    }
    lines.map(|line| serde_json::from_slice(line).map_err(|error| error.to_string())).collect()
}
