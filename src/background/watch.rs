//! Watches what the configuration was read from.

use inotify::{EventMask, EventOwned, Inotify, WatchDescriptor, WatchMask};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// What is told of a folder: that files come, go, are whole after writing, or may be read by somebody else. Not that
/// they are written to or opened: a folder may hold a log too, whose every line would wake us.
const MASK: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// Room for some dozens of events; more are read in the next round.
const ROOM: usize = 4096;

/// Watches files by the folders that they are in: a file may be replaced by another one of its
/// name, and in Kubernetes a link above it is. A file that is written to is a change once who writes it closes it.
pub struct Watcher {
    inner: Option<AsyncFd<Inotify>>,
    folders: HashMap<PathBuf, WatchDescriptor>,
    followed: HashSet<PathBuf>,
}

impl Watcher {
    /// A watcher that follows nothing yet. Within a runtime.
    pub fn start() -> Self {
        let inner = open();
        let inner =
            inner.inspect_err(|error| log::error!("files are not watched, reload by SIGHUP: {error}")).ok();
        Self { inner, folders: HashMap::new(), followed: HashSet::new() }
    }

    /// Follows these files and folders, and no others.
    pub fn follow(&mut self, files: &[PathBuf]) {
        let absolute = |file: &PathBuf| std::path::absolute(file).unwrap_or_else(|_| file.clone());
        self.followed = files.iter().map(absolute).collect();
        let Some(inner) = &mut self.inner else { return };
        let wanted: HashSet<PathBuf> = self.followed.iter().filter_map(|file| folder(file)).collect();
        let mut watches = inner.get_ref().watches();
        let gone: Vec<PathBuf> =
            self.folders.keys().filter(|folder| !wanted.contains(*folder)).cloned().collect();
        for gone in gone {
            // Two paths may lead to one folder, which then has one watch.
            if let Some(watch) = self.folders.remove(&gone)
                && !self.folders.values().any(|other| *other == watch)
            {
                let _ = watches.remove(watch);
            }
        }
        for new in wanted {
            if self.folders.contains_key(&new) {
                continue;
            }
            match watches.add(&new, MASK) {
                Ok(watch) => drop(self.folders.insert(new, watch)),
                Err(error) => log::warn!("`{}` is not watched: {error}", new.display()),
            }
        }
    }

    /// Resolves when something that is followed has changed; never if files cannot be watched. Whoever stops waiting
    /// loses nothing.
    pub async fn changed(&mut self) {
        loop {
            let events = self.events().await;
            // All of them, or those that come after the first that counts would count again.
            let count = events.iter().filter(|event| self.concerns(event)).count();
            for event in events.iter().filter(|event| event.mask.contains(EventMask::IGNORED)) {
                // The folder has gone; `follow` looks whether it has come again.
                self.folders.retain(|_, watch| *watch != event.wd);
            }
            if count > 0 {
                return;
            }
        }
    }

    async fn events(&mut self) -> Vec<EventOwned> {
        let Some(inner) = &mut self.inner else { return std::future::pending().await };
        loop {
            let mut ready = match inner.readable_mut().await {
                Ok(ready) => ready,
                Err(error) => return broken(&error).await,
            };
            let mut room = [0; ROOM];
            let mut read = |inner: &mut AsyncFd<Inotify>| {
                Ok(inner.get_mut().read_events(&mut room)?.map(|event| event.to_owned()).collect())
            };
            match ready.try_io(&mut read) {
                Ok(Ok(events)) => return events,
                Ok(Err(error)) => return broken(&error).await,
                // It was called ready and is not.
                Err(_) => {}
            }
        }
    }

    /// Whether an event is about what is followed: a file of that name, anything that could be
    /// configuration in a folder that is followed as such, or a link that a deployment swaps.
    fn concerns(&self, event: &EventOwned) -> bool {
        let of_all = EventMask::Q_OVERFLOW.union(EventMask::DELETE_SELF).union(EventMask::MOVE_SELF);
        if event.mask.intersects(of_all) {
            return true;
        }
        let Some(name) = event.name.as_ref().map(Path::new) else { return false };
        let is_yaml = || name.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        let folders = self.folders.iter().filter(|(_, watch)| **watch == event.wd).map(|(folder, _)| folder);
        let mut followed = folders.map(|folder| {
            self.followed.contains(&folder.join(name)) || (self.followed.contains(folder) && is_yaml())
        });
        followed.any(|is_followed| is_followed) || name.to_string_lossy().starts_with("..data")
    }
}

/// Says so, and waits for ever: to try again would be a loop that never rests.
async fn broken(error: &io::Error) -> Vec<EventOwned> {
    log::error!("files are no longer watched, reload by SIGHUP: {error}");
    std::future::pending().await
}

#[expect(unsafe_code, reason = "the runtime is given a descriptor by number")]
fn open() -> io::Result<AsyncFd<Inotify>> {
    let inotify = Inotify::init()?;
    // SAFETY: it has one descriptor, from here to its end, and nothing takes it out of its `AsyncFd`.
    let registered = unsafe { AsyncFd::register(inotify) };
    registered.map_err(io::Error::from)
}

fn folder(file: &Path) -> Option<PathBuf> {
    if file.is_dir() { Some(file.to_owned()) } else { file.parent().map(Path::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::time::Duration;

    /// Longer than any machine takes; a test waits so long only to fail.
    const AT_MOST: Duration = Duration::from_secs(20);

    /// What the watcher was told of, up to the file that is written last.
    async fn told(watcher: &mut Watcher, last: &str) -> Vec<String> {
        let mut names = Vec::new();
        while names.last().is_none_or(|name| name != last) {
            let events = tokio::time::timeout(AT_MOST, watcher.events()).await.unwrap();
            names.extend(events.iter().filter_map(|event| event.name.clone()?.into_string().ok()));
        }
        names
    }

    async fn changes(watcher: &mut Watcher) {
        tokio::time::timeout(AT_MOST, watcher.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_log_beside_a_certificate_wakes_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("tls.crt"), "1").unwrap();
        let mut log = File::create(at("access.log")).unwrap();
        let mut watcher = Watcher::start();
        watcher.follow(&[at("tls.crt")]);
        for _ in 0..100 {
            log.write_all(b"a line\n").unwrap();
        }
        drop(File::open(at("tls.crt")).unwrap());
        fs::write(at("tls.crt"), "2").unwrap();
        assert_eq!(told(&mut watcher, "tls.crt").await, ["tls.crt"]);
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut watcher = Watcher::start();
        watcher.follow(&[at("tls.crt"), at("links/routes.yaml")]);
        fs::write(at("tls.crt"), "new").unwrap();
        changes(&mut watcher).await;
        fs::write(at("other"), "renamed").unwrap();
        fs::rename(at("other"), at("tls.crt")).unwrap();
        changes(&mut watcher).await;
        fs::remove_file(at("tls.crt")).unwrap();
        changes(&mut watcher).await;
        std::os::unix::fs::symlink("somewhere", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        changes(&mut watcher).await;
    }

    #[tokio::test]
    async fn a_folder_counts_for_its_configuration_and_may_come_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("routes");
        fs::create_dir(&folder).unwrap();
        let mut watcher = Watcher::start();
        watcher.follow(std::slice::from_ref(&folder));
        fs::write(folder.join("notes.txt"), "of no interest").unwrap();
        fs::write(folder.join("a.yaml"), "").unwrap();
        changes(&mut watcher).await;
        fs::remove_dir_all(&folder).unwrap();
        changes(&mut watcher).await;
        // The last word of a folder comes after its files'.
        while !watcher.folders.is_empty() {
            let events = tokio::time::timeout(AT_MOST, watcher.events()).await.unwrap();
            let gone = |watch: &WatchDescriptor| {
                events.iter().any(|event| event.mask.contains(EventMask::IGNORED) && event.wd == *watch)
            };
            watcher.folders.retain(|_, watch| !gone(watch));
        }
        fs::create_dir(&folder).unwrap();
        watcher.follow(std::slice::from_ref(&folder));
        fs::write(folder.join("a.yaml"), "").unwrap();
        changes(&mut watcher).await;
    }
}
