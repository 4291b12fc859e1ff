//! Stores of answers: found again after a reload, with their tiers on disk.

use crate::cache::disk::index::Bounds;
use crate::cache::store::Store;
use crate::config::Config;
use crate::config::model::cache::CacheDisk;
use crate::outbound::redis::Stores;
use crate::retained::{Retained, StableId};
use crate::values::{ConfigPath, Finding, Name, Problem};
use nix::unistd::{AccessFlags, Uid, access};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

/// The least that a tier on disk may hold, in bytes.
const LEAST: u64 = 1 << 20;

fn path(name: &Name, field: &str) -> ConfigPath {
    ConfigPath::default().key("caches").key(name).key("disk").key(field)
}

/// What is wrong with caches, as far as that can be seen without opening their folders.
pub(super) fn findings(config: &Config, shared: &Stores) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, store) in &config.caches {
        let problem = store.share_purges.as_ref().and_then(|wanted| shared.get(wanted).err().flatten());
        let at = || ConfigPath::default().key("caches").key(name).key("share_purges");
        found.extend(problem.map(|problem| Finding::error(at(), problem)));
    }
    let mut known: Vec<(&Name, &CacheDisk)> = Vec::new();
    let disks = config.caches.iter().filter_map(|(name, store)| Some((name, store.disk.as_ref()?)));
    for (name, disk) in disks {
        let twin = known
            .iter()
            .find(|(_, other)| disk.path.starts_with(&other.path) || other.path.starts_with(&disk.path));
        if let Some((other, _)) = twin {
            let problem = Problem::new(format!("the cache `{other}` has this folder, or one within it"))
                .remedy("give each store a folder of its own");
            found.push(Finding::error(path(name, "path"), problem).with_other(path(other, "path")));
        }
        if disk.size.bytes() < LEAST {
            let problem = Problem::new("a tier on disk holds 1MiB at least").remedy("raise `size`");
            found.push(Finding::error(path(name, "size"), problem));
        }
        if let Err(error) = can_be_written(&disk.path) {
            found.push(Finding::error(path(name, "path"), refused(&error)));
        }
        found.extend(open_to_others(&disk.path).map(|problem| Finding::error(path(name, "path"), problem)));
        known.push((name, disk));
    }
    found
}

fn refused(error: &io::Error) -> Problem {
    Problem::new(format!("this folder cannot be made, or not be written to: {error}"))
        .remedy("name a folder that the gateway's user may write to")
}

/// Why a folder that is there is not the gateway's alone to write to: whoever else may decides what clients get.
fn open_to_others(folder: &Path) -> Option<Problem> {
    let mode = std::fs::metadata(folder).ok()?.mode() & 0o7777;
    (mode & 0o022 != 0).then(|| {
        let cause = "others may write to this folder, and so choose what clients are answered";
        Problem::new(format!("{cause}: its mode is {mode:04o}"))
            .remedy(format!("take that from group and others: chmod go-w {}", folder.display()))
    })
}

/// The same of its owner, who may always write to it. A check may be run by another user than the gateway.
fn owned_by_another(folder: &Path) -> Option<Problem> {
    let (owner, own) = (std::fs::metadata(folder).ok()?.uid(), Uid::effective().as_raw());
    (owner != own).then(|| {
        let cause = "this folder is another user's, who may choose what clients are answered";
        Problem::new(format!("{cause}: its owner is {owner}, the gateway runs as {own}"))
            .remedy(format!("give it to the gateway's user: chown -R {own} {}", folder.display()))
    })
}

/// Whether a folder, or the nearest one above it that is there, can be written to.
fn can_be_written(path: &Path) -> io::Result<()> {
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "a file is in the way"));
    }
    Ok(access(there, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// The stores; with `opens`, their folders are opened, which makes them.
pub(super) fn stores(
    config: &Config,
    (retained, shared): (&Retained, &Stores),
    opens: bool,
) -> Result<BTreeMap<Box<str>, Arc<Store>>, Vec<Finding>> {
    let mut stores = BTreeMap::new();
    for (name, store) in &config.caches {
        let kept = retained.get_or(StableId::new("cache", name), || Store::new(store.memory));
        kept.set_memory(store.memory);
        if opens {
            let problem = store.disk.as_ref().and_then(|disk| owned_by_another(&disk.path));
            if let Some(problem) = problem {
                return Err(vec![Finding::error(path(name, "path"), problem)]);
            }
            let disk = store.disk.as_ref().map(|disk| {
                let bounds = Bounds { bytes: disk.size.bytes(), objects: u64::from(disk.objects) };
                (disk.path.as_path(), bounds)
            });
            kept.set_disk(disk).map_err(|error| vec![Finding::error(path(name, "path"), refused(&error))])?;
            let sharing = store.share_purges.as_ref().and_then(|wanted| shared.get(wanted).ok());
            kept.set_sharing(name.as_str(), sharing);
        }
        stores.insert(name.as_str().into(), kept);
    }
    Ok(stores)
}
