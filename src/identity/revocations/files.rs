//! Files of revocations, one JSON object a line: those that an operator writes, and the state.

use super::entry::{Defaults, Revocation, RevocationId, Written};
use super::table::Table;
use super::{Revocations, now};
use crate::values::Problem;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// The longest line, in bytes.
const LONGEST_LINE: u64 = 16 << 10;

/// How many lines that are about the same thing the log names.
const SHOWN: usize = 10;

/// The revocations in an operator's file.
///
/// # Errors
/// It cannot be read, or a line is none.
pub(super) fn listed(path: &Path, most: usize, now: u64) -> Result<Table, Problem> {
    let defaults = Defaults { now, until: u64::MAX, before_now: false };
    let mut by_id: HashMap<RevocationId, (u64, Revocation)> = HashMap::new();
    let mut twice = 0;
    for (number, one) in read(path, most, defaults)? {
        match by_id.entry(one.id()) {
            Entry::Vacant(free) => drop(free.insert((number, one))),
            Entry::Occupied(mut known) => {
                let (first, before) = known.get();
                if twice < SHOWN {
                    let shown = path.display();
                    log::warn!(
                        "revocations: `{shown}` line {number} is about the same as line {first}: the stricter one holds"
                    );
                }
                twice += 1;
                let entry = (*first, before.stricter(&one));
                known.insert(entry);
            }
        }
    }
    if twice > SHOWN {
        log::warn!("revocations: `{}` has {} more such lines", path.display(), twice - SHOWN);
    }
    Ok(Table::of(by_id.into_values().map(|(_, one)| Arc::new(one))))
}

/// The revocations in the state, those that were taken back included; none if it is not there yet.
///
/// # Errors
/// It cannot be read, a line is none, or nothing could be written there.
pub(super) fn kept(path: &Path, most: usize, now: u64) -> Result<Vec<Revocation>, Problem> {
    let folder = folder(path);
    if !folder.is_dir() {
        let problem = Problem::new(format!("there is no folder `{}`", folder.display()));
        return Err(problem.remedy("make it, and give the gateway's user leave to write in it"));
    }
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => {
            let all = read(path, most, Defaults { now, until: u64::MAX, before_now: false })?;
            Ok(all.into_iter().map(|(_, one)| one).collect())
        }
    }
}

/// All of a file's, each with the number of its line.
fn read(path: &Path, most: usize, defaults: Defaults) -> Result<Vec<(u64, Revocation)>, Problem> {
    let shown = path.display();
    let unreadable = |error: io::Error| {
        Problem::new(format!("`{shown}` cannot be read: {error}"))
            .remedy("a relative path counts from the folder of the configuration file")
    };
    // Looked at before it is opened: to open a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Problem::new(format!("`{shown}` is not a file")).remedy("name a file"));
    }
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut all = Vec::new();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = reader.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        let at = |problem: Problem| Problem {
            what: format!("`{shown}` line {number}: {}", problem.what),
            remedy: problem.remedy,
        };
        if line.len() as u64 > LONGEST_LINE {
            return Err(at(Problem::new("the line is longer than 16KiB")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if all.len() == most {
            let problem = Problem::new(format!("there are more than {most} revocations"));
            return Err(at(problem.remedy("take old ones out, or raise `most`")));
        }
        all.push((number, Written::parse(&line).and_then(|text| text.read(defaults)).map_err(at)?));
    }
    Ok(all)
}

/// Follows a file.
pub(super) struct Follower {
    path: PathBuf,
    most: usize,
    seen: Option<Stamp>,
}

/// What tells a file from another state of it.
type Stamp = (u64, Option<SystemTime>, u64);

impl Follower {
    pub(super) fn new(path: PathBuf, most: usize) -> Self {
        Self { path, most, seen: None }
    }

    /// What is in the file, if it is another one than before. One that cannot be read, or has a mistake,
    /// leaves what was known.
    pub(super) async fn look(&mut self) -> Option<Table> {
        let stamp = |data: Metadata| (data.len(), data.modified().ok(), data.ino());
        let stamp = tokio::fs::metadata(&self.path).await.map(stamp).ok();
        if stamp == self.seen {
            return None;
        }
        self.seen = stamp;
        let (path, most) = (self.path.clone(), self.most);
        match tokio::task::spawn_blocking(move || listed(&path, most, now())).await {
            Ok(Ok(table)) => {
                log::info!("revocations read file={:?} count={}", self.path, table.len());
                Some(table)
            }
            Ok(Err(problem)) => {
                log::error!("revocations: {problem}; those read before stay in force");
                None
            }
            Err(error) => {
                log::error!("revocations: reading broke off: {error}");
                None
            }
        }
    }
}

/// What the state holds, if it is another one than was read.
pub(super) async fn other(revocations: &Arc<Revocations>, path: &Path, most: usize) -> Vec<Revocation> {
    if revocations.ledger.lock().read.as_deref() == Some(path) {
        return Vec::new();
    }
    let target = path.to_owned();
    match tokio::task::spawn_blocking(move || kept(&target, most, now())).await {
        Ok(Ok(kept)) => kept,
        Ok(Err(problem)) => {
            log::error!("revocations: {problem}");
            Vec::new()
        }
        Err(error) => {
            log::error!("revocations: reading broke off: {error}");
            Vec::new()
        }
    }
}

/// Writes the state, if it has changed: whole, or not at all.
pub(super) async fn save(revocations: &Arc<Revocations>, path: &Path) {
    if revocations.handed_over.load(Ordering::Acquire) {
        return;
    }
    let (generation, all) = {
        let ledger = revocations.ledger.lock();
        if *revocations.saved.borrow() == ledger.generation {
            return;
        }
        (ledger.generation, ledger.by_id.values().cloned().collect::<Vec<_>>())
    };
    let target = path.to_owned();
    match tokio::task::spawn_blocking(move || write(&target, &all)).await {
        Ok(Ok(())) => {
            revocations.saved.send_replace(generation);
        }
        Ok(Err(error)) => log::error!("revocations are not saved file={path:?} cause={error}"),
        Err(error) => log::error!("revocations are not saved file={path:?} cause={error}"),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write(path: &Path, all: &[Arc<Revocation>]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}.tmp", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let written = write_whole(&fresh, all).and_then(|()| std::fs::rename(&fresh, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written?;
    // The name is on disk as well then.
    File::open(folder(path))?.sync_all()
}

fn write_whole(path: &Path, all: &[Arc<Revocation>]) -> io::Result<()> {
    // It says who may not come in: nobody else's business.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut writer = BufWriter::with_capacity(1 << 18, file);
    for one in all {
        serde_json::to_writer(&mut writer, &one.written())?;
        writer.write_all(b"\n")?;
    }
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
