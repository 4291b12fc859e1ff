//! Purges on disk: a line for each, so that they hold after a restart.
//!
//! A line is a checksum, a moment and what was purged. One that is whole and does not fit its checksum
//! stands for what cannot be known any more, and so for everything; one without an end was being written
//! when its process died, and nobody was told that it holds.

use super::files::{Folder, open_options};
use super::format::sum;
use crate::cache::store::purge::Purge;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

/// The largest journal that is read, in bytes.
const LARGEST: u64 = 256 << 20;

/// The journal of a folder.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Held while one process appends or rewrites.
    turn: File,
    file: File,
    /// How far it has been read.
    read: u64,
    /// What was appended and may not be on the disk yet.
    is_unsynced: bool,
    /// An append failed: it lacks something that is remembered.
    lacks: bool,
}

/// What a journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What was purged, and when.
    pub purges: Vec<(Purge, u64)>,
    /// Purges up to then were carried out.
    pub floor: u64,
    /// Something of it cannot be read.
    pub is_damaged: bool,
}

impl Journal {
    /// Opens the journal of a folder. True if there was none.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(folder: &Folder) -> io::Result<(Self, bool)> {
        let turn = open_options().create(true).truncate(false).open(folder.root().join("turn"))?;
        let path = folder.root().join("purges");
        let (file, is_new) = match open_options().append(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (open_options().append(true).create(true).open(&path)?, true)
            }
            file => (file?, false),
        };
        Ok((Self { path, turn, file, read: 0, is_unsynced: false, lacks: false }, is_new))
    }

    /// What has been added since it was read last, by whomever.
    ///
    /// # Errors
    /// The disk's.
    pub fn news(&mut self) -> io::Result<Said> {
        self.follow()?;
        let size = self.file.metadata()?.size();
        if size < self.read {
            self.read = 0;
        }
        if size == self.read {
            return Ok(Said::default());
        }
        let mut bytes = Vec::new();
        let length = (size - self.read).min(LARGEST);
        bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        self.file.read_exact_at(&mut bytes, self.read)?;
        let end = bytes.iter().rposition(|c| *c == b'\n').map_or(0, |at| at + 1);
        self.read += end as u64;
        Ok(read(bytes.get(..end).unwrap_or_default()))
    }

    /// Goes over to the file that has the name, if another process has rewritten it.
    fn follow(&mut self) -> io::Result<()> {
        if self.file.metadata()?.ino() != std::fs::metadata(&self.path)?.ino() {
            self.file = open_options().append(true).open(&self.path)?;
            self.read = 0;
        }
        Ok(())
    }

    /// Adds a purge.
    ///
    /// # Errors
    /// It is not written; [`Self::lacks`] until it is rewritten.
    pub fn append(&mut self, purge: &Purge, at: u64) -> io::Result<()> {
        let appended = self.try_append(purge, at);
        self.lacks |= appended.is_err();
        self.is_unsynced = true;
        appended
    }

    fn try_append(&mut self, purge: &Purge, at: u64) -> io::Result<()> {
        self.turn.lock()?;
        let done = self.append_in_turn(&line(purge, at));
        self.turn.unlock()?;
        done
    }

    fn append_in_turn(&mut self, line: &str) -> io::Result<()> {
        self.follow()?;
        let length = self.file.metadata()?.size();
        let mut last = [b'\n'];
        if length > 0 {
            self.file.read_exact_at(&mut last, length - 1)?;
        }
        if last != [b'\n'] {
            // What somebody began to write and did not end.
            let mut whole = Vec::new();
            File::open(&self.path)?.take(LARGEST).read_to_end(&mut whole)?;
            let end = whole.iter().rposition(|c| *c == b'\n').map_or(0, |at| at + 1);
            self.file.set_len(end as u64)?;
        }
        self.file.write_all(line.as_bytes())
    }

    /// True if it lacks something, or something may not be on the disk.
    pub fn needs_care(&self) -> bool {
        self.lacks || self.is_unsynced
    }

    /// True if an append failed.
    pub const fn lacks(&self) -> bool {
        self.lacks
    }

    /// Waits until what was appended is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.is_unsynced {
            self.file.sync_data()?;
            self.is_unsynced = false;
        }
        Ok(())
    }

    /// Writes it anew, with what `all` says of what it knows and what others have added.
    ///
    /// # Errors
    /// The disk's; then it stays as it is.
    pub fn rewrite(&mut self, folder: &Folder, all: impl FnOnce(Said) -> Said) -> io::Result<()> {
        self.turn.lock()?;
        let done = self.rewrite_in_turn(folder, all);
        self.turn.unlock()?;
        done
    }

    fn rewrite_in_turn(&mut self, folder: &Folder, all: impl FnOnce(Said) -> Said) -> io::Result<()> {
        let said = all(self.news()?);
        let mut text = signed(&format!("{} floor", said.floor));
        for (purge, at) in &said.purges {
            text.push_str(&line(purge, *at));
        }
        let mut file = folder.temporary()?;
        file.write(text.as_bytes())?;
        file.sync()?;
        file.keep(&self.path)?;
        File::open(folder.root())?.sync_all()?;
        self.file = open_options().append(true).open(&self.path)?;
        self.read = text.len() as u64;
        (self.lacks, self.is_unsynced) = (false, false);
        Ok(())
    }
}

fn signed(text: &str) -> String {
    format!("{:016x} {text}\n", sum(text.as_bytes()))
}

/// A purge as a line.
fn line(purge: &Purge, at: u64) -> String {
    signed(&format!("{at} {purge}"))
}

/// What whole lines say.
pub fn read(bytes: &[u8]) -> Said {
    let mut said = Said::default();
    for line in bytes.split(|c| *c == b'\n').filter(|line| !line.is_empty()) {
        match parse(line) {
            Some(Line::Purge(purge, at)) => said.purges.push((purge, at)),
            Some(Line::Floor(at)) => said.floor = said.floor.max(at),
            None => said.is_damaged = true,
        }
    }
    said
}

#[derive(Debug)]
enum Line {
    Purge(Purge, u64),
    Floor(u64),
}

fn parse(line: &[u8]) -> Option<Line> {
    let (checksum, text) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    if checksum.len() != 16 || u64::from_str_radix(checksum, 16).ok()? != sum(text.as_bytes()) {
        return None;
    }
    let (at, what) = text.split_once(' ')?;
    let at = at.parse().ok()?;
    if what == "floor" {
        return Some(Line::Floor(at));
    }
    Purge::parse(what).map(|purge| Line::Purge(purge, at))
}
