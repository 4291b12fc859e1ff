//! Putting an answer on disk, in the background.

use super::files::{Fault, Opened};
use super::index::{Entry, Name};
use super::{Disk, count, format};
use crate::cache::rules::key::Key;
use crate::cache::store::body::Whole;
use crate::cache::store::object::{Body, Object};
use crate::cache::store::purge::Verdict;
use crate::cache::store::urls::Mark;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// So much waits to be written at most, in bytes.
const MOST_QUEUED: u64 = 64 << 20;

/// What one that waits counts besides its body.
const OVERHEAD: u64 = 4096;

/// What is of use for a shorter time is not worth a file.
const SHORTEST: Duration = Duration::from_secs(5);

impl Disk {
    /// Puts an answer on disk, unless it is of use for a few seconds only or there is too much to write
    /// already. Returns at once.
    pub fn offer(self: &Arc<Self>, key: &Arc<Key>, object: &Arc<Object>, now: Duration) {
        let Body::Whole(whole) = &object.body else { return };
        let age = now.saturating_sub(object.head.terms.answered);
        if object.head.terms.useful_for(object.has_validator()).saturating_sub(age) < SHORTEST {
            return;
        }
        let weight = whole.length() + OVERHEAD;
        if weight > self.index.largest() {
            return;
        }
        let (name, whole) = (Arc::clone(key), Arc::clone(whole));
        let object = Arc::clone(object);
        self.queue((weight, &**key), move |disk| disk.write(&name, &object, &whole));
    }

    /// Gives the answer on disk that was asked for at `born` another head, which a 304 has made of it, in the background:
    /// its body is copied from file to file, and checked on the way. Returns at once.
    pub fn renew(self: &Arc<Self>, key: &Arc<Key>, born: u64, object: &Arc<Object>) {
        let (name, object) = (Arc::clone(key), Arc::clone(object));
        self.queue((OVERHEAD, &**key), move |disk| disk.copy(&name, born, &object));
    }

    /// True if there is an answer to the same requests that was asked for later.
    pub fn has_newer(&self, key: &Key, object: &Object) -> bool {
        let known = self.index.get(Name::of(key.as_str(), &object.variant));
        known.is_some_and(|known| known.born > object.born)
    }

    /// Has something written, in its turn.
    fn queue(
        self: &Arc<Self>,
        (weight, key): (u64, &Key),
        write: impl FnOnce(&Self) -> io::Result<()> + Send + 'static,
    ) {
        let before = self.queued.fetch_add(weight, Ordering::AcqRel);
        let queued = Queued { disk: Arc::clone(self), weight, _mark: self.urls.mark(key.url()) };
        // One that alone is larger than all that may wait is written by itself.
        let is_too_much = before > 0 && before + weight > MOST_QUEUED;
        if is_too_much || self.writing.is_paused(Instant::now()) {
            count(&self.counts.passed_over);
            return;
        }
        tokio::spawn(async move {
            let Ok(turn) = Arc::clone(&queued.disk.writers).acquire_owned().await else { return };
            let job = tokio::task::spawn_blocking(move || {
                let (_turn, disk): (_, &Self) = (turn, &queued.disk);
                if disk.writing.is_paused(Instant::now()) {
                    count(&disk.counts.passed_over);
                    return;
                }
                match write(disk) {
                    Ok(()) => disk.writing.worked(disk.folder.root()),
                    Err(error) => disk.write_failed(&error),
                }
            });
            // It says itself what went wrong.
            let _ = job.await;
        });
    }

    /// Writes a file. Blocks.
    pub(super) fn write(&self, key: &Key, object: &Object, whole: &Whole) -> io::Result<()> {
        let sums = format::sums(whole.pieces().iter().map(AsRef::as_ref));
        let Some(mut head) = format::encode(key.as_str(), object, (whole.length(), &sums)) else {
            return Ok(());
        };
        let name = Name::of(key.as_str(), &object.variant);
        let size = head.len() as u64 + whole.length();
        let mut file = self.folder.temporary()?;
        for piece in whole.pieces() {
            if head.len() + piece.len() > format::PIECE {
                file.write(&head)?;
                head.clear();
            }
            head.extend_from_slice(piece);
        }
        file.write(&head)?;
        self.name_file(name, (key, object), size, file)
    }

    /// Writes a file with the body of the one that has its name. Blocks.
    fn copy(&self, key: &Key, born: u64, object: &Object) -> io::Result<()> {
        let name = Name::of(key.as_str(), &object.variant);
        let Opened::Sound(sound) = self.folder.object(name)? else { return Ok(()) };
        let record = &sound.record;
        let is_it = *record.key == *key.as_str() && record.variant == object.variant;
        if !is_it || record.born != born {
            // It has been replaced meanwhile, by another body.
            return Ok(());
        }
        let Some(head) = format::encode(key.as_str(), object, (record.length, &record.sums)) else {
            return Ok(());
        };
        let mut file = self.folder.temporary()?;
        file.write(&head)?;
        for at in 0..sound.pieces() {
            match sound.piece(at) {
                Ok(piece) => file.write(&piece)?,
                Err(Fault::Io(error)) => return Err(error),
                Err(Fault::Damaged) => {
                    self.drop_damaged(name);
                    return Ok(());
                }
            }
        }
        self.name_file(name, (key, object), head.len() as u64 + record.length, file)
    }

    /// Gives a file its name, unless what it holds was purged meanwhile or is older than what is there.
    fn name_file(
        &self,
        name: Name,
        (key, object): (&Key, &Object),
        size: u64,
        file: super::files::Temporary,
    ) -> io::Result<()> {
        let _not_told_yet = self.gate.read();
        let _in_turn = self.naming.lock();
        if self.index.get(name).is_some_and(|known| known.born > object.born) {
            return Ok(());
        }
        let (verdict, at) = self.purges.look(key.as_str(), &object.tags, object.born);
        if verdict == Verdict::Gone {
            return Ok(());
        }
        file.keep(&self.folder.path(name))?;
        let checked = if verdict == Verdict::Good { at } else { object.born };
        let (vary, mark) = (object.head.vary.clone(), self.urls.mark(key.url()));
        let entry = Entry::new((name.variant, vary), size, (object.born, checked), mark);
        self.index.insert(name.key, entry, false);
        count(&self.counts.written);
        self.drop_evicted();
        Ok(())
    }
}

/// A place among what waits.
struct Queued {
    disk: Arc<Disk>,
    weight: u64,
    _mark: Mark,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.disk.queued.fetch_sub(self.weight, Ordering::AcqRel);
    }
}
