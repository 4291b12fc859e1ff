//! The lines between the workers and the writer.
//!
//! Each worker has a page of its own, to which it appends under a lock that only the writer ever
//! asks for too, and only to exchange the page for an empty one. There is no allocation for a line,
//! and no worker waits for another or for a write.

use crate::telemetry::worker;
use parking_lot::{Condvar, Mutex};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Instant;

/// The bytes that lines may take while they wait, for each line that may wait.
const BYTES_PER_LINE: usize = 2048;
/// A page that grew beyond this in a burst gives its memory back.
const KEPT_CAPACITY: usize = 256 << 10;

/// Lines that wait for the writer.
pub(super) struct Queue {
    pages: Box<[Slot]>,
    page_mask: usize,
    lines_per_page: usize,
    /// Set while the writer has work before it, or will look anyway: who sets it wakes it.
    awake: AtomicBool,
    writer: OnceLock<Thread>,
    closed: AtomicBool,
    reopen: AtomicBool,
    flushes: Flushes,
}

#[repr(align(64))]
#[derive(Default)]
struct Slot(Mutex<Page>);

/// Whole lines, one after another.
#[derive(Default)]
pub(super) struct Page {
    pub bytes: Vec<u8>,
    pub lines: usize,
}

/// Flushes are numbered: one is done when the writer has finished a round that began after it.
#[derive(Default)]
struct Flushes {
    asked: AtomicU64,
    done: Mutex<u64>,
    changed: Condvar,
}

impl Queue {
    /// A queue for so many lines, which are shared out among so many workers.
    pub(super) fn new(lines: usize, workers: usize) -> Self {
        let pages = workers.clamp(1, 256).next_power_of_two();
        Self {
            pages: (0..pages).map(|_| Slot::default()).collect(),
            page_mask: pages - 1,
            lines_per_page: lines.div_ceil(pages).max(1),
            awake: AtomicBool::new(false),
            writer: OnceLock::new(),
            closed: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            flushes: Flushes::default(),
        }
    }

    /// Appends a line; `false` if there is no room for it.
    pub(super) fn append(&self, line: &[u8]) -> bool {
        {
            let mut page = self.pages[worker::number() & self.page_mask].0.lock();
            let room = self.lines_per_page.saturating_mul(BYTES_PER_LINE);
            // A line longer than all of the room finds it when the page is empty.
            let full = page.lines > 0 && page.bytes.len() + line.len() > room;
            if page.lines >= self.lines_per_page || full {
                return false;
            }
            page.bytes.extend_from_slice(line);
            page.lines += 1;
        }
        // The writer clears the flag before it takes the page's lock, so this reads what it wrote, or
        // what another worker wrote since.
        if !self.awake.load(Ordering::Relaxed) && !self.awake.swap(true, Ordering::Relaxed) {
            self.wake();
        }
        true
    }

    /// Whether pages fill so slowly that the writer may look at them now and then.
    pub(super) const fn is_long(&self) -> bool {
        self.lines_per_page >= 1024
    }

    /// Says which thread writes, before the first line.
    pub(super) fn set_writer(&self, writer: Thread) {
        let _ = self.writer.set(writer);
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Begins a round of the writer: lines that come from here on wake it.
    pub(super) fn begin_round(&self) -> u64 {
        self.awake.store(false, Ordering::Relaxed);
        self.flushes.asked.load(Ordering::Acquire)
    }

    /// Exchanges each page that has lines for `page`, which `write` gets full and gives back empty.
    /// How many lines there were.
    pub(super) fn collect(&self, page: &mut Page, mut write: impl FnMut(&mut Page)) -> usize {
        let mut lines = 0;
        for slot in &self.pages {
            std::mem::swap(&mut *slot.0.lock(), page);
            lines += page.lines;
            if page.lines > 0 {
                write(page);
                page.clear();
            }
        }
        lines
    }

    /// Ends a round: who waited for it goes on.
    pub(super) fn end_round(&self, asked: u64) {
        let mut done = self.flushes.done.lock();
        if *done < asked {
            *done = asked;
            self.flushes.changed.notify_all();
        }
    }

    /// Lets lines come without waking the writer: it will look by itself.
    pub(super) fn stay_awake(&self) {
        self.awake.store(true, Ordering::Relaxed);
    }

    /// Waits until every line from before is written; `false` if the deadline came first.
    pub(super) fn flush(&self, deadline: Instant) -> bool {
        let ticket = self.flushes.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake();
        let mut done = self.flushes.done.lock();
        while *done < ticket {
            if self.flushes.changed.wait_until(&mut done, deadline).timed_out() {
                return *done >= ticket;
            }
        }
        true
    }

    /// Whether a flush waits for a round that began at or after `asked`.
    pub(super) fn flush_waits(&self, asked: u64) -> bool {
        self.flushes.asked.load(Ordering::Acquire) > asked
    }

    pub(super) fn ask_reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn take_reopen(&self) -> bool {
        self.reopen.swap(false, Ordering::AcqRel)
    }

    pub(super) fn reopen_waits(&self) -> bool {
        self.reopen.load(Ordering::Acquire)
    }

    /// Lets the writer end when it has written what there is.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Page {
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_CAPACITY);
        self.lines = 0;
    }
}
