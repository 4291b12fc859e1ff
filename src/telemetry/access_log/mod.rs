//! The access log: one JSON object a line for each request.
//!
//! A request formats its line on its own thread, into that thread's buffer, and appends it to a
//! bounded [`queue`]; a thread of its own writes. A disk or pipe that is full, slow or gone loses
//! lines, which are counted, and never holds up a request.

mod clock;
mod fields;
mod json;
mod queue;
mod sink;
#[cfg(test)]
mod tests;
mod writer;

pub use fields::{Record, field_names};
pub use sink::LogTarget;

use super::random;
use crate::values::Problem;
use arc_swap::ArcSwap;
use clock::Clock;
use fields::Fields;
use queue::Queue;
use sink::Sink;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use writer::Writer;

/// A line's buffer that grew beyond this gives its memory back.
const KEPT_CAPACITY: usize = 16 << 10;

thread_local! {
    static SCRATCH: RefCell<(Vec<u8>, Clock)> = RefCell::default();
}

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Where lines go.
    pub target: LogTarget,
    /// Names of fields, in the order in which a line has them; empty: all but headers and query.
    pub fields: Vec<String>,
    /// Headers whose values print as `***`.
    pub redact: Vec<String>,
    /// The share of requests that are logged, in hundredths of a percent, 0 to 10,000. Those
    /// answered with 5xx always are.
    pub sample: u16,
    /// About how many lines may wait for the writer; they are shared out among the workers.
    pub queue: usize,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        let redact = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];
        Self {
            target: LogTarget::Stdout,
            fields: Vec::new(),
            redact: redact.map(String::from).to_vec(),
            sample: 10_000,
            queue: 8192,
        }
    }
}

/// What of the settings can change while the log is open, checked and compiled.
#[derive(Debug)]
pub struct LinePlan {
    fields: Fields,
    sample: u16,
}

impl LinePlan {
    /// Checks the names of fields and headers.
    ///
    /// # Errors
    /// If a name is unknown, malformed, or stands twice.
    pub fn compile(settings: &AccessLogSettings) -> Result<Self, Problem> {
        let fields = Fields::compile(&settings.fields, &settings.redact)?;
        Ok(Self { fields, sample: settings.sample })
    }
}

/// An access log that is open. When it is dropped, its thread writes what there is and ends.
pub struct AccessLog {
    plan: ArcSwap<LinePlan>,
    queue: Arc<Queue>,
    dropped: Arc<AtomicU64>,
    target: LogTarget,
    queue_length: usize,
}

impl AccessLog {
    /// Opens the target and starts the writer. Lines that are lost are counted on `dropped`.
    ///
    /// # Errors
    /// If the fields are wrong, or the target cannot be opened.
    pub fn open(
        settings: &AccessLogSettings,
        workers: usize,
        dropped: Arc<AtomicU64>,
    ) -> Result<Self, Problem> {
        let plan = LinePlan::compile(settings)?;
        let sink = Sink::open(&settings.target).map_err(|error| cannot_open(&settings.target, &error))?;
        Self::start(settings, plan, sink, (workers, dropped))
            .map_err(|error| Problem::new(format!("the access log's thread does not start: {error}")))
    }

    fn start(
        settings: &AccessLogSettings,
        plan: LinePlan,
        sink: Sink,
        (workers, dropped): (usize, Arc<AtomicU64>),
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new(settings.queue, workers));
        Writer::start(&queue, sink, dropped.clone())?;
        Ok(Self {
            plan: ArcSwap::from_pointee(plan),
            queue,
            dropped,
            target: settings.target.clone(),
            queue_length: settings.queue,
        })
    }

    /// Whether [`Self::configure`] is enough for these settings: target and queue stay as they are.
    pub fn fits(&self, settings: &AccessLogSettings) -> bool {
        self.target == settings.target && self.queue_length == settings.queue
    }

    /// Changes fields, redaction and sampling, from the next line on.
    pub fn configure(&self, plan: LinePlan) {
        self.plan.store(Arc::new(plan));
    }

    /// Logs a request that ended. It waits for nothing; without room for it the line is dropped and
    /// counted.
    pub fn log(&self, record: &Record<'_>) {
        let plan = self.plan.load();
        if !is_sampled(plan.sample, record.status) {
            return;
        }
        SCRATCH.with_borrow_mut(|(line, clock)| {
            line.clear();
            plan.fields.write(line, record, clock);
            if !self.queue.append(line) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            line.shrink_to(KEPT_CAPACITY);
        });
    }

    /// Opens a file anew by its path, after it was moved away. It happens on the writer's thread,
    /// before the lines that are logged from here on; what fails is told to the error log.
    pub fn reopen(&self) {
        self.queue.ask_reopen();
    }

    /// Waits until the lines from before are written or lost; `false` if the deadline came first. It
    /// blocks the thread.
    pub fn flush(&self, deadline: Instant) -> bool {
        self.queue.flush(deadline)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn is_sampled(sample: u16, status: Option<u16>) -> bool {
    const ALL: u64 = 10_000;
    let always = u64::from(sample) >= ALL || status.is_some_and(|status| status >= 500);
    always || random::next_u64() % ALL < u64::from(sample)
}

fn cannot_open(target: &LogTarget, error: &std::io::Error) -> Problem {
    let name = match target {
        LogTarget::Stdout => "standard output".to_owned(),
        LogTarget::Stderr => "standard error".to_owned(),
        LogTarget::File(path) => format!("`{}`", path.display()),
    };
    Problem::new(format!("the access log {name} cannot be opened: {error}"))
        .remedy("name a file in a folder that exists and that the gateway may write to")
}
