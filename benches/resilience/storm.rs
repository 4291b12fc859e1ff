//! Clients that try again, before an upstream that fails for a while, and before one that stands still and then has
//! more to do than ever.

use crate::random::Random;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tollgate::config::model::upstream::RouteRetry;
use tollgate::upstream::retry::{Further, Retries, Traffic};

/// How long a simulation is, and when the trouble is, seconds.
pub const LENGTH: u64 = 120;
pub const TROUBLE: std::ops::Range<u64> = 20..25;
/// Requests a second.
const RATE: f64 = 1000.0;
/// Requests that the upstream works on at once, each for so long on average, microseconds: 1600 a second.
const WORKERS: usize = 20;
const SERVICE: f64 = 12_500.0;
/// How long an attempt may take, and how long one takes that fails by itself, microseconds.
const TIMEOUT: u64 = 1_000_000;
const FAILS_AFTER: u64 = 5_000;
const ATTEMPTS: u8 = 3;
const SECOND: u64 = 1_000_000;

/// Who tries again.
#[derive(Clone, Copy, PartialEq)]
pub enum Retrying {
    Nobody,
    /// Three attempts each.
    Everybody,
    /// Three attempts each, and no more than a budget of 20 % has.
    ByBudget,
}

/// What is wrong with the upstream meanwhile.
#[derive(Clone, Copy, PartialEq)]
pub enum Trouble {
    /// Each attempt fails after 5 ms.
    Fails,
    /// Nothing goes on. It knows nothing of clients that have gone.
    StandsStill,
}

/// What a second came to.
#[derive(Clone, Copy, Default)]
pub struct Second {
    pub requests: u64,
    pub retries: u64,
    pub well: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Request,
    /// The next attempt of a request begins.
    Attempt(usize),
    /// An attempt ends without an answer.
    Failed(usize, u8),
    /// An attempt is answered.
    Answered(usize, u8),
}

#[derive(Default)]
struct Request {
    attempts: u8,
    is_over: bool,
    further: Option<Further>,
}

struct World {
    retrying: Retrying,
    trouble: Trouble,
    retries: Retries,
    random: Random,
    began: Instant,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    requests: Vec<Request>,
    /// Attempts that somebody waits for.
    active: u64,
    waiting: VecDeque<(usize, u8)>,
    working: usize,
    seconds: Vec<Second>,
}

/// Each second of a run.
pub fn run(retrying: Retrying, trouble: Trouble) -> Vec<Second> {
    let mut world = World {
        retrying,
        trouble,
        retries: Retries::new(&tollgate::config::model::upstream::Retry::default(), Arc::default()),
        random: Random(0x9e37_79b9_7f4a_7c15),
        began: Instant::now(),
        now: 0,
        events: BinaryHeap::new(),
        order: 0,
        requests: Vec::new(),
        active: 0,
        waiting: VecDeque::new(),
        working: 0,
        seconds: vec![Second::default(); LENGTH as usize],
    };
    world.at(0, Event::Request);
    while let Some(Reverse((at, _, event))) = world.events.pop() {
        if at >= LENGTH * SECOND {
            break;
        }
        world.now = at;
        world.happens(event);
    }
    world.seconds
}

impl World {
    fn at(&mut self, after: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((self.now + after, self.order, event)));
    }

    fn second(&mut self) -> &mut Second {
        &mut self.seconds[(self.now / SECOND) as usize]
    }

    fn is_in_trouble(&self) -> bool {
        TROUBLE.contains(&(self.now / SECOND))
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Request => {
                self.second().requests += 1;
                self.requests.push(Request::default());
                self.attempt(self.requests.len() - 1);
                let gap = self.random.exponential(1e6 / RATE) as u64 + 1;
                self.at(gap, Event::Request);
            }
            Event::Attempt(id) => {
                self.second().retries += 1;
                self.attempt(id);
            }
            Event::Failed(id, attempt) => self.failed(id, attempt),
            Event::Answered(id, attempt) => {
                self.working -= 1;
                let request = &mut self.requests[id];
                if !request.is_over && request.attempts == attempt {
                    request.is_over = true;
                    request.further = None;
                    self.active -= 1;
                    self.second().well += 1;
                }
                self.work();
            }
        }
    }

    fn attempt(&mut self, id: usize) {
        let request = &mut self.requests[id];
        request.attempts += 1;
        let attempt = request.attempts;
        request.further.iter_mut().for_each(Further::begin);
        self.active += 1;
        if self.trouble == Trouble::Fails && self.is_in_trouble() {
            self.at(FAILS_AFTER, Event::Failed(id, attempt));
        } else {
            self.at(TIMEOUT, Event::Failed(id, attempt));
            self.waiting.push_back((id, attempt));
            self.work();
        }
    }

    fn work(&mut self) {
        while self.working < WORKERS {
            let Some((id, attempt)) = self.waiting.pop_front() else { return };
            self.working += 1;
            let mut took = self.random.exponential(SERVICE) as u64 + 1;
            if self.trouble == Trouble::StandsStill && self.is_in_trouble() {
                took += TROUBLE.end * SECOND - self.now;
            }
            self.at(took, Event::Answered(id, attempt));
        }
    }

    fn failed(&mut self, id: usize, attempt: u8) {
        let (requests, active) = (self.requests.len() as u64, self.active);
        let request = &mut self.requests[id];
        if request.is_over || request.attempts != attempt {
            return;
        }
        let again = attempt < ATTEMPTS
            && match self.retrying {
                Retrying::Nobody => false,
                Retrying::Everybody => true,
                Retrying::ByBudget => {
                    let now = self.began + Duration::from_micros(self.now);
                    let held = request.further.take();
                    request.further = self.retries.spend(held, Traffic { requests, active }, now);
                    request.further.is_some()
                }
            };
        self.active -= 1;
        if !again {
            request.is_over = true;
            request.further = None;
            return;
        }
        let route = RouteRetry::default();
        let wait = self.retries.with(&route).wait(attempt, self.random.bits(), None).unwrap_or_default();
        self.at(wait.as_micros() as u64, Event::Attempt(id));
    }
}
