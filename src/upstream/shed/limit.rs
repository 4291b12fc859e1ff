//! How many requests an upstream can have at once without getting slower: found from how long its answers take,
//! with no clock of its own. Times are microseconds.
//!
//! It is a gradient, as TCP Vegas compares the round trip with the shortest one (Brakmo and Peterson, "TCP Vegas",
//! 1995), in the form of Netflix's `concurrency-limits` (2018) and Envoy: after each window of answers
//!
//! ```text
//! limit' = limit x min(1, tolerance x shortest / mean) + sqrt(limit)
//! ```
//!
//! so that it grows by a root while answers are about as quick as ever, and shrinks by as much as they got slower. The
//! root is the queue that the upstream is left: enough that it never runs dry, and little as against the limit. The
//! shortest mean is of the last while; while there is too much to do it cannot be seen, and would creep up, so now and
//! then the limit is halved for a moment to look (BBR's `ProbeRTT`: Cardwell and others, 2016).
//!
//! A gradient, and not AIMD (Chiu and Jain, 1989) on errors: an upstream that is overloaded is slow long before it
//! fails, and what it fails by may have another cause. Only failures that took as long as an overload's count.

/// Where it starts.
const START: f64 = 16.0;
/// How much slower than the shortest answers may get.
const TOLERANCE: f64 = 2.0;
/// The shortest mean of so long counts, in two halves.
const MEMORY: u64 = 20_000_000;
/// A share of failed answers from which on a window is one of an overload.
const FAILED: f64 = 0.1;

/// A window of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// How many there were.
    pub answers: u64,
    /// How long they took together.
    pub sum: u64,
    /// Failures that took longer than most answers.
    pub failed: u64,
    /// The most in flight meanwhile.
    pub peak: u64,
}

/// The limit.
#[derive(Debug)]
pub struct Limit {
    now: f64,
    /// The shortest mean of the half that has begun, and of the one before.
    shortest: [f64; 2],
    half_since: u64,
    /// When the shortest was seen last, or looked for.
    looked: u64,
    look: Look,
}

/// Looking for the shortest mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Look {
    No,
    /// The limit was halved: from this one. Answers of before are still coming.
    Waiting(f64),
    /// Those that come are of the halved one.
    Looking(f64),
}

impl Default for Limit {
    fn default() -> Self {
        Self { now: START, shortest: [f64::INFINITY; 2], half_since: 0, looked: 0, look: Look::No }
    }
}

impl Limit {
    /// The limit, one at least.
    pub const fn get(&self) -> usize {
        if self.now < 1.0 { 1 } else { self.now as usize }
    }

    /// The shortest mean that is remembered; infinite before there is one.
    pub const fn shortest(&self) -> f64 {
        self.shortest[0].min(self.shortest[1])
    }

    /// How many answers a window needs.
    pub const fn wanted(&self) -> u64 {
        // With fewer, the shortest mean would be one of chance.
        let some = 3 * self.get() as u64;
        if some < 60 {
            60
        } else if some > 600 {
            600
        } else {
            some
        }
    }

    /// Goes on by what a window saw that ended `now`; the limit stays between `least` and `most`.
    pub fn update(&mut self, window: Window, now: u64, (least, most): (f64, f64)) {
        if window.answers == 0 && window.failed == 0 {
            return;
        }
        let answers = window.answers.max(1) as f64;
        let mean = if window.answers > 0 { (window.sum as f64 / answers).max(1.0) } else { f64::INFINITY };
        if let Look::Waiting(from) = self.look {
            self.look = Look::Looking(from);
            return;
        }
        self.remember(mean, now);
        if let Look::Looking(from) = std::mem::replace(&mut self.look, Look::No) {
            self.now = from.clamp(least, most);
            return;
        }
        let failed = window.failed as f64 / (window.failed as f64 + answers);
        // Where it is not made use of, nothing can be said of more.
        let is_used = window.peak as f64 >= self.now * 0.75;
        let gradient =
            if failed >= FAILED { 0.7 } else { (TOLERANCE * self.shortest() / mean).clamp(0.5, 1.0) };
        if gradient < 1.0 || is_used {
            self.now = (self.now * gradient + if failed >= FAILED { 0.0 } else { self.now.sqrt() })
                .clamp(least, most);
        }
        let is_old = now.saturating_sub(self.looked) >= MEMORY / 2;
        if is_old && is_used && self.now * 0.5 >= least {
            self.looked = now;
            // Those of before would hide it.
            self.shortest = [f64::INFINITY, self.shortest()];
            self.half_since = now;
            self.look = Look::Waiting(self.now);
            self.now *= 0.5;
        }
    }

    fn remember(&mut self, mean: f64, now: u64) {
        if now.saturating_sub(self.half_since) >= MEMORY / 2 {
            self.shortest = [f64::INFINITY, self.shortest[0]];
            self.half_since = now;
        }
        if mean <= self.shortest() {
            self.looked = now;
        }
        self.shortest[0] = self.shortest[0].min(mean);
    }
}
