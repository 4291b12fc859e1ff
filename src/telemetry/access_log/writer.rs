//! The thread that writes the lines.

use super::queue::{Page, Queue};
use super::sink::Sink;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long the writer lets lines come together after a write. It bounds how often it wakes.
const GATHERING: Duration = Duration::from_millis(5);
/// How long it waits for a target that is full before it tries again.
const RETRY: Duration = Duration::from_millis(10);
/// How long it goes on trying when the log has been closed.
const LAST_TRIES: Duration = Duration::from_secs(1);
/// The error log hears of failed writes this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    queue: Arc<Queue>,
    sink: Sink,
    dropped: Arc<AtomicU64>,
    complaints: Complaints,
    /// Whether the target ends within a line, as a write failed in the middle.
    torn: bool,
    closed_at: Option<Instant>,
}

impl Writer {
    /// Starts the thread. It ends after [`Queue::close`].
    pub(super) fn start(queue: &Arc<Queue>, sink: Sink, dropped: Arc<AtomicU64>) -> io::Result<()> {
        let mut writer = Self {
            queue: queue.clone(),
            sink,
            dropped,
            complaints: Complaints::default(),
            torn: false,
            closed_at: None,
        };
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        queue.set_writer(thread.thread().clone());
        Ok(())
    }

    fn run(&mut self) {
        let queue = self.queue.clone();
        let mut page = Page::default();
        loop {
            let closed = queue.is_closed();
            let asked = queue.begin_round();
            if queue.take_reopen() {
                self.reopen();
            }
            let lines = queue.collect(&mut page, |page| self.write(page));
            queue.end_round(asked);
            if closed {
                return;
            }
            if queue.is_closed() || queue.reopen_waits() || queue.flush_waits(asked) {
                continue;
            }
            if lines > 0 && queue.is_long() {
                queue.stay_awake();
                thread::park_timeout(GATHERING);
            } else if lines == 0 {
                thread::park();
            }
        }
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(()) => self.torn = false,
            Err(error) => {
                log::error!("access log not reopened, the old file goes on: {}: {error}", self.sink);
            }
        }
    }

    fn write(&mut self, page: &Page) {
        let mut rest = page.bytes.as_slice();
        if self.torn {
            // Ends the torn line, so that it spoils no other.
            match self.write_some(b"\n") {
                Ok(_) => self.torn = false,
                Err(error) => return self.lose(rest, &error),
            }
        }
        while !rest.is_empty() {
            match self.write_some(rest) {
                Ok(0) => return self.lose(rest, &io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                Err(error) => return self.lose(rest, &error),
            }
        }
    }

    /// Waits for a target that does not block but is full: a pipe that nobody reads.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.sink.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.queue.is_closed()
                        && self.closed_at.get_or_insert_with(Instant::now).elapsed() > LAST_TRIES
                    {
                        return Err(error);
                    }
                    thread::park_timeout(RETRY);
                }
                result => return result,
            }
        }
    }

    fn lose(&mut self, rest: &[u8], error: &io::Error) {
        let lines = rest.iter().filter(|c| **c == b'\n').count() as u64;
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        if let Some(lost) = self.complaints.lost(lines, Instant::now()) {
            log::error!("access log lines lost: {lost}: {}: {error}", self.sink);
        }
    }
}

/// When to say that lines were lost, and how many.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// The number of lines to tell of now, if it is time.
    fn lost(&mut self, lines: u64, now: Instant) -> Option<u64> {
        self.unsaid += lines;
        if self.last.is_some_and(|last| now.duration_since(last) < COMPLAINT_INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_complaint_a_minute_tells_of_all_lines() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        assert_eq!(complaints.lost(3, start), Some(3));
        assert_eq!(complaints.lost(4, start + Duration::from_secs(1)), None);
        assert_eq!(complaints.lost(5, start + Duration::from_secs(59)), None);
        assert_eq!(complaints.lost(6, start + Duration::from_secs(60)), Some(15));
    }
}
