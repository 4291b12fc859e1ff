//! Watches what the configuration was read from.

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Watches files by the folders that they are in: a file may be replaced by another one of its
/// name, and in Kubernetes a link above it is.
pub struct Watcher {
    inner: Option<RecommendedWatcher>,
    folders: HashSet<PathBuf>,
    followed: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Watcher {
    /// A watcher that follows nothing yet, and the end that tells of changes.
    pub fn new() -> (Self, mpsc::Receiver<()>) {
        let (changed, changes) = mpsc::channel(1);
        let followed: Arc<Mutex<HashSet<PathBuf>>> = Arc::default();
        let known = Arc::clone(&followed);
        let inner = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if concerns(&event, &known.lock()) => {
                // Full means that a change is already on its way.
                let _ = changed.try_send(());
            }
            Ok(_) => {}
            Err(error) => log::warn!("watching the configuration's files: {error}"),
        });
        let inner =
            inner.inspect_err(|error| log::error!("files are not watched, reload by SIGHUP: {error}")).ok();
        (Self { inner, folders: HashSet::new(), followed }, changes)
    }

    /// Follows these files and folders, and no others.
    pub fn follow(&mut self, files: &[PathBuf]) {
        let absolute = |file: &PathBuf| std::path::absolute(file).unwrap_or_else(|_| file.clone());
        let files: HashSet<PathBuf> = files.iter().map(absolute).collect();
        let folders: HashSet<PathBuf> = files.iter().filter_map(|file| folder(file)).collect();
        *self.followed.lock() = files;
        let Some(inner) = &mut self.inner else { return };
        for gone in self.folders.difference(&folders) {
            let _ = inner.unwatch(gone);
        }
        for new in folders.difference(&self.folders) {
            if let Err(error) = inner.watch(new, RecursiveMode::NonRecursive) {
                log::warn!("`{}` is not watched: {error}", new.display());
            }
        }
        self.folders = folders;
    }
}

fn folder(file: &Path) -> Option<PathBuf> {
    if file.is_dir() { Some(file.to_owned()) } else { file.parent().map(Path::to_owned) }
}

/// Whether an event is about what is followed: a file of that name, anything that could be
/// configuration in a folder that is followed as such, or a link that a deployment swaps.
fn concerns(event: &Event, followed: &HashSet<PathBuf>) -> bool {
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    event.paths.iter().any(|path| {
        let in_folder = || path.parent().is_some_and(|parent| followed.contains(parent));
        let is_yaml = || path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        let is_link = || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("..data"));
        followed.contains(path) || (in_folder() && is_yaml()) || is_link()
    })
}
