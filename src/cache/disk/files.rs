//! The folder of a disk tier, and the files in it. All of it blocks.
//!
//! ```text
//! lock           held shared by each process that uses the folder
//! purges         what was purged (see the journal)
//! tmp/           files that are being written, each locked by its writer
//! 00/ … ff/      objects, by the first byte of their key's hash
//! ```

use super::format::{self, PIECE, PREFIX, Record};
use super::index::Name;
use parking_lot::RwLock;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// So much of a file is read at first: most heads are in it.
const FIRST: usize = 8 << 10;

/// How often a new file is tried. Each failure means that another process's sweep came in the moment in which it was made.
const TRIES: usize = 8;

/// Objects stand in so many folders.
pub const FOLDERS: u16 = 256;

/// The folder.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    lock: File,
    written: AtomicU64,
    /// Held by who makes a file until it is locked, and by who sweeps, so that those of one process never meet.
    making: RwLock<()>,
    is_fresh: bool,
}

/// What is found under a name.
#[derive(Debug)]
pub enum Opened {
    /// A file with a sound head.
    Sound(Box<Sound>),
    /// Something that is no such file, or no longer.
    Damaged,
    /// Nothing.
    Missing,
}

/// A file whose head is sound. It stays readable when its name goes to another.
#[derive(Debug)]
pub struct Sound {
    file: File,
    /// What it says.
    pub record: Record,
    body: u64,
}

/// Why a piece is not there.
#[derive(Debug)]
pub enum Fault {
    /// It is not what was written.
    Damaged,
    /// The disk says so.
    Io(io::Error),
}

impl Folder {
    /// Opens a folder, and makes what it lacks.
    ///
    /// # Errors
    /// It cannot be made, or not be written to.
    pub fn open(root: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(root)?;
        let is_fresh = !root.join("tmp").exists();
        builder.create(root.join("tmp"))?;
        for at in 0..FOLDERS {
            builder.create(root.join(format!("{at:02x}")))?;
        }
        let lock = open_options().create(true).append(true).open(root.join("lock"))?;
        let folder = Self {
            root: root.to_owned(),
            lock,
            written: AtomicU64::new(0),
            making: RwLock::default(),
            is_fresh,
        };
        folder.lock.lock_shared()?;
        (&folder.lock).write_all(b".")?;
        // Whether there is a right to write is known when something is written.
        drop(folder.temporary()?);
        Ok(folder)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `act` makes while no other process uses the folder; none if one does.
    ///
    /// # Errors
    /// The lock cannot be had back, or what `act` says.
    pub fn alone<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
        let made = match self.lock.try_lock() {
            Ok(()) => Some(act()),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => Some(Err(error)),
        };
        // A lock that was refused is lost as well (flock(2)).
        self.lock.lock_shared()?;
        made.transpose()
    }

    /// True if there was nothing in it.
    pub const fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// How many processes have opened it so far.
    ///
    /// # Errors
    /// The disk's.
    pub fn guests(&self) -> io::Result<u64> {
        Ok(self.lock.metadata()?.size())
    }

    /// Where the file of a name is.
    pub fn path(&self, name: Name) -> PathBuf {
        let text = name.to_string();
        let first = text.get(..2).unwrap_or("00");
        self.root.join(first).join(&text)
    }

    /// The names of one of the folders, and what stands there under no name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn list(&self, at: u16) -> io::Result<(Vec<Name>, Vec<PathBuf>)> {
        let prefix = format!("{at:02x}");
        let (mut names, mut strangers) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(self.root.join(&prefix))? {
            let entry = entry?;
            let name = entry.file_name();
            match name.to_str().filter(|name| name.starts_with(&prefix)).and_then(Name::parse) {
                Some(name) => names.push(name),
                None => strangers.push(entry.path()),
            }
        }
        Ok((names, strangers))
    }

    /// Opens the file of a name.
    ///
    /// # Errors
    /// The disk's.
    pub fn object(&self, name: Name) -> io::Result<Opened> {
        match read_head(&self.path(name)) {
            Ok(Some(sound)) => Ok(Opened::Sound(Box::new(sound))),
            Ok(None) => Ok(Opened::Damaged),
            Err(error) => match error.kind() {
                ErrorKind::NotFound => Ok(Opened::Missing),
                ErrorKind::IsADirectory | ErrorKind::UnexpectedEof => Ok(Opened::Damaged),
                _ => Err(error),
            },
        }
    }

    /// Takes a file away; one that is not there is none.
    pub fn remove(&self, name: Name) {
        // What stays is found, and tried again, by the next walk.
        let _ = fs::remove_file(self.path(name));
    }

    /// A new file under no name yet.
    ///
    /// # Errors
    /// The disk's.
    pub fn temporary(&self) -> io::Result<Temporary> {
        let _making = self.making.read();
        for _ in 0..TRIES {
            let number = self.written.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}-{:016x}", std::process::id(), nonce());
            let path = self.root.join("tmp").join(name);
            let file = open_options().create_new(true).open(&path)?;
            // Who sweeps knows by the lock that its writer lives; it ends with the process.
            let temporary = Temporary { file, path, is_kept: false };
            temporary.file.lock()?;
            // The sweep of another process may have come between the two.
            if temporary.file.metadata()?.nlink() > 0 {
                return Ok(temporary);
            }
        }
        Err(io::Error::new(ErrorKind::NotFound, "new files are taken away at once"))
    }

    /// Takes away what writers left that are no more. How many.
    pub fn sweep_temporary(&self) -> u64 {
        let _making = self.making.write();
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else { return 0 };
        let paths = entries.flatten().map(|entry| entry.path());
        // The lock is held until the file is gone: whoever waits for it looks whether it still is there.
        let take = |path: &PathBuf| {
            File::open(path).is_ok_and(|file| file.try_lock().is_ok() && fs::remove_file(path).is_ok())
        };
        paths.filter(take).count() as u64
    }
}

/// What tells two processes apart that have the same number one after the other, as in containers.
fn nonce() -> u64 {
    crate::cache::rules::date::now().as_nanos() as u64
}

pub(super) fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn read_head(path: &Path) -> io::Result<Option<Sound>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.size();
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(FIRST).min(FIRST)];
    file.read_exact(&mut bytes)?;
    let Some(prefix) = format::prefix(&bytes) else { return Ok(None) };
    let end = PREFIX + prefix.head;
    let known = bytes.len();
    bytes.resize(end, 0);
    if let Some(rest) = bytes.get_mut(known..) {
        file.read_exact(rest)?;
    }
    let record = format::decode(&bytes).filter(|record| record.file_length(prefix.head) == size);
    Ok(record.map(|record| Sound { file, record, body: end as u64 }))
}

impl Sound {
    /// The length of the file.
    pub const fn size(&self) -> u64 {
        self.body + self.record.length
    }

    /// How many pieces its body has.
    pub fn pieces(&self) -> usize {
        self.record.sums.len()
    }

    /// A piece of its body, checked.
    ///
    /// # Errors
    /// It is not what was written, or cannot be read.
    pub fn piece(&self, at: usize) -> Result<Vec<u8>, Fault> {
        let sum = self.record.sums.get(at).ok_or(Fault::Damaged)?;
        let first = at as u64 * PIECE as u64;
        let length = self.record.length.saturating_sub(first).min(PIECE as u64);
        // No more than a piece.
        let mut piece = vec![0; length as usize];
        match self.file.read_exact_at(&mut piece, self.body + first) {
            Ok(()) if format::sum(&piece) == *sum => Ok(piece),
            Ok(()) => Err(Fault::Damaged),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Fault::Damaged),
            Err(error) => Err(Fault::Io(error)),
        }
    }
}

/// A file that has no name yet. It goes unless it gets one.
#[derive(Debug)]
pub struct Temporary {
    file: File,
    path: PathBuf,
    is_kept: bool,
}

impl Temporary {
    /// Adds to it.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Waits until it is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives it its name, in the place of what had it.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
