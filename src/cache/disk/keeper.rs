//! The thread that looks after a folder: it walks it at the beginning, from time to time, and when many
//! purges have come together; it reads what other processes have purged; it sees to it that purges are on
//! the disk.

use super::files::Opened;
use super::index::{Entry, Name};
use super::journal::Said;
use super::{Disk, MANY_PURGES, told};
use crate::cache::rules::date;
use crate::cache::store::purge::{Purge, Target};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often it looks at the journal.
const TICK: Duration = Duration::from_millis(500);

/// How often it walks the folder, for what other processes left and what somebody took away.
const ROUND: Duration = Duration::from_secs(3600);

/// How soon it walks again while others may have left what it does not know of, as where an upgrade's old process still
/// serves: until then each unsafe request leaves a line in the journal. What is known is not read again.
const UNSURE: Duration = Duration::from_secs(60);

/// How long it leaves purges that it cannot forget before it carries them out again.
const AGAIN: Duration = Duration::from_secs(60);

/// After how many files it gives way.
const STEP: usize = 64;

/// Starts it. It ends with the last user of the disk.
pub(super) fn start(disk: &Arc<Disk>, woken: Receiver<()>) -> io::Result<()> {
    let disk = Arc::downgrade(disk);
    std::thread::Builder::new().name("cache-disk".to_owned()).spawn(move || run(&disk, &woken))?;
    Ok(())
}

fn run(disk: &Weak<Disk>, woken: &Receiver<()>) {
    let mut walks = Walks::default();
    loop {
        let Some(alive) = disk.upgrade() else { return };
        alive.care_for_journal();
        alive.drop_evicted();
        let due = walks.due(&alive);
        drop(alive);
        if let Some(carry_out) = due {
            walks.walk(disk, carry_out);
        }
        match woken.recv_timeout(TICK) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// When it walked, and what came of it.
#[derive(Default)]
struct Walks {
    last: Option<Instant>,
    /// Purges up to then have been carried out.
    carried: u64,
    /// They could not be forgotten the last time.
    is_held: bool,
}

impl Walks {
    /// Whether it is time to walk, and then whether to carry out what is purged.
    fn due(&self, disk: &Disk) -> Option<bool> {
        let since = self.last.map(|last| last.elapsed());
        let is_after = |wait| since.is_none_or(|since| since >= wait);
        // While purges cannot be forgotten, carrying them out again has some time.
        let is_crowded = disk.purges.count() >= MANY_PURGES && (!self.is_held || is_after(AGAIN));
        let carries = is_crowded || disk.was_emptied_after(self.carried);
        let is_unsure = is_after(UNSURE) && !disk.knows_all();
        (carries || is_unsure || is_after(ROUND)).then_some(carries)
    }

    /// Looks at every file. With `carry_out`, what is purged goes, and the purges are forgotten.
    fn walk(&mut self, weak: &Weak<Disk>, carry_out: bool) {
        self.last = Some(Instant::now());
        let Some(disk) = weak.upgrade() else { return };
        disk.counts.swept.fetch_add(disk.folder.sweep_temporary(), Ordering::Relaxed);
        // No other process may write meanwhile what this one does not see.
        let guests = disk.folder.alone(|| disk.folder.guests()).ok().flatten();
        let upto = {
            // Whoever asked the purges before this has told the index, or asks again.
            let _all_told = disk.gate.write();
            disk.purges.stamp()
        };
        drop(disk);
        let mut is_whole = true;
        for at in 0..super::files::FOLDERS {
            // The last user may leave in the middle.
            let Some(disk) = weak.upgrade() else { return };
            if let Err(error) = disk.walk_folder(at, upto, carry_out) {
                is_whole = false;
                disk.read_failed(&error);
            }
        }
        let Some(disk) = weak.upgrade() else { return };
        // What could not be read is found by a later walk.
        disk.is_rebuilt.store(true, Ordering::Release);
        disk.known_of.store(guests.filter(|_| is_whole).unwrap_or(0), Ordering::Release);
        if carry_out && is_whole {
            self.carried = upto;
            self.is_held = !disk.forget(upto, guests);
        }
    }
}

impl Disk {
    /// True if everything was purged after a moment.
    fn was_emptied_after(&self, moment: u64) -> bool {
        let is_everything =
            |(purge, at): &(Purge, u64)| purge.target == Target::All && !purge.soft && *at > moment;
        self.purges.all().iter().any(is_everything)
    }

    fn walk_folder(&self, at: u16, upto: u64, carry_out: bool) -> io::Result<()> {
        let (names, strangers) = self.folder.list(at)?;
        for path in strangers {
            log::warn!("cache_disk: what is no file of the cache is left alone path={}", path.display());
        }
        for names in names.chunks(STEP) {
            for name in names {
                self.walk_file(*name, upto, carry_out)?;
            }
            self.drop_evicted();
            std::thread::yield_now();
        }
        Ok(())
    }

    fn walk_file(&self, name: Name, upto: u64, carry_out: bool) -> io::Result<()> {
        let known = self.index.get(name);
        let is_done = |entry: &Arc<Entry>| !carry_out || entry.checked.load(Ordering::Acquire) >= upto;
        if known.as_ref().is_some_and(is_done) {
            return Ok(());
        }
        let sound = match self.folder.object(name)? {
            Opened::Sound(sound) if Name::of(&sound.record.key, &sound.record.variant) == name => sound,
            Opened::Sound(_) | Opened::Damaged => {
                self.drop_damaged(name);
                return Ok(());
            }
            Opened::Missing => return Ok(()),
        };
        let since = known.as_ref().map_or(0, |entry| entry.checked.load(Ordering::Acquire));
        match self.is_usable(&sound, since, date::now()) {
            Some((checked, is_aged)) if !(is_aged && carry_out) => {
                let checked = if is_aged { since.max(sound.record.born) } else { checked };
                if let Some(known) = known {
                    known.checked.fetch_max(checked, Ordering::AcqRel);
                    return Ok(());
                }
                let vary = sound.record.head.vary.clone();
                let times = (sound.record.born, checked);
                let mark = self.urls.mark(&sound.record.key);
                let entry = Entry::new((name.variant, vary), sound.size(), times, mark);
                self.index.insert(name.key, entry, true);
            }
            // What a purge made stale would be fresh again when the purge is forgotten.
            _ => self.drop_file(name, known.as_ref()),
        }
        Ok(())
    }

    /// Forgets the purges up to a moment, which have been carried out on every file; not if another
    /// process uses the folder, or has come and gone since there were `guests`. Whether it did.
    fn forget(&self, upto: u64, guests: Option<u64>) -> bool {
        let Some(guests) = guests else { return false };
        let forgotten = self.folder.alone(|| {
            if self.folder.guests()? != guests {
                return Ok(false);
            }
            self.journal.lock().rewrite(&self.folder, |said| {
                self.hear(&said);
                self.purges.forget(upto);
                told(&self.purges)
            })?;
            Ok(true)
        });
        match forgotten {
            Ok(forgotten) => forgotten.unwrap_or(false),
            Err(error) => {
                self.write_failed(&error);
                false
            }
        }
    }

    /// Takes over what others have purged. What cannot be read may be everything.
    fn hear(&self, said: &Said) {
        let everything = Purge { target: Target::All, soft: false };
        if said.is_damaged {
            self.purges.remember(&everything);
            (self.heard)(&everything);
        }
        for (purge, at) in &said.purges {
            if self.purges.hear(purge, *at) {
                (self.heard)(purge);
            }
        }
    }

    /// Reads what others have purged, and writes what could not be written.
    fn care_for_journal(&self) {
        let mut journal = self.journal.lock();
        let cared = journal.news().and_then(|said| {
            self.hear(&said);
            if journal.lacks() || said.is_damaged {
                return journal.rewrite(&self.folder, |said| {
                    self.hear(&said);
                    told(&self.purges)
                });
            }
            journal.sync()
        });
        drop(journal);
        if let Err(error) = cared {
            self.write_failed(&error);
        }
    }
}
