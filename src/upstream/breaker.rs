//! A circuit breaker (Nygard, "Release It!", 2007): while too many calls fail or are slow, none are made, so
//! that the one that is called can recover and callers learn at once. After a while a few try again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The share of failed calls from which on it opens, 0 to 1; 0 is never.
    pub failures: f64,
    /// Calls that took so many milliseconds are slow, and the share of them from which on it opens.
    pub slow: Option<(u64, f64)>,
    /// With fewer calls in the window it does not open.
    pub of_at_least: u32,
    /// The window, milliseconds.
    pub within: u64,
    /// How long it stays open, milliseconds.
    pub open_for: u64,
    /// How many calls try whether all is well again, and have to succeed.
    pub probes: u32,
}

/// A breaker. Times are milliseconds since any one moment.
#[derive(Debug, Default)]
pub struct Breaker {
    window: Window,
    /// What it is, in the lowest two bits, and since when or until when.
    state: AtomicU64,
    /// Half open: calls that try, and those of them that went well.
    trying: AtomicU32,
    well: AtomicU32,
    opened: AtomicU64,
}

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls are made.
    Closed,
    /// No calls are made.
    Open,
    /// A few calls try.
    HalfOpen,
}

impl State {
    /// As the admin listener says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A call that may be made. What came of it is told by [`Breaker::note`], or [`Breaker::forget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// As any other.
    Usual,
    /// One that tries.
    Trial,
}

/// The longest that another process may say one is open for, in milliseconds: a day.
const LONGEST_LEFT: u64 = 86_400_000;

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF: u64 = 2;

impl Breaker {
    /// Whether a call may be made.
    ///
    /// # Errors
    /// It may not; for how many milliseconds not, as far as is known.
    pub fn ask(&self, rules: &Rules, now: u64) -> Result<Pass, u64> {
        loop {
            let state = self.state.load(Ordering::Acquire);
            let at = state >> 2;
            match state & 3 {
                CLOSED => return Ok(Pass::Usual),
                OPEN if now < at => return Err(at - now),
                // Trials of which nobody told the end do not keep it half open for ever.
                HALF if now < at.saturating_add(rules.open_for) => {
                    if self.trying.fetch_add(1, Ordering::AcqRel) < rules.probes {
                        return Ok(Pass::Trial);
                    }
                    self.trying.fetch_sub(1, Ordering::AcqRel);
                    return Err(at.saturating_add(rules.open_for) - now);
                }
                _ => {
                    let next = now << 2 | HALF;
                    if self.state.compare_exchange(state, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                        self.well.store(0, Ordering::Release);
                        self.trying.store(0, Ordering::Release);
                    }
                }
            }
        }
    }

    /// For how many milliseconds no call may be made; none if one may now. Takes no trial, as [`Self::ask`] does.
    pub fn closed_for(&self, rules: &Rules, now: u64) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        let until = match state & 3 {
            OPEN => state >> 2,
            HALF if self.trying.load(Ordering::Acquire) >= rules.probes => {
                (state >> 2).saturating_add(rules.open_for)
            }
            _ => return None,
        };
        until.checked_sub(now).filter(|left| *left > 0)
    }

    /// What came of a call: whether it failed, and how many milliseconds it took. True if that opened the
    /// breaker.
    pub fn note(&self, rules: &Rules, pass: Pass, (failed, took): (bool, u64), now: u64) -> bool {
        let slow = rules.slow.is_some_and(|(after, _)| took >= after);
        let state = self.state.load(Ordering::Acquire);
        match (pass, state & 3) {
            (Pass::Usual, CLOSED) => {
                let sums = self.window.add(rules.within, now, failed, slow);
                self.is_too_much(rules, sums) && self.open(state, rules, now)
            }
            (Pass::Trial, HALF) if failed || slow => self.open(state, rules, now),
            (Pass::Trial, HALF) => {
                if self.well.fetch_add(1, Ordering::AcqRel) + 1 >= rules.probes {
                    self.window.clear();
                    let _ = self.state.compare_exchange(state, CLOSED, Ordering::AcqRel, Ordering::Relaxed);
                }
                false
            }
            // It is about a time that is over.
            _ => false,
        }
    }

    /// Nothing came of a call: the client went away.
    pub fn forget(&self, pass: Pass) {
        if pass == Pass::Trial && self.state.load(Ordering::Acquire) & 3 == HALF {
            let less = |trying: u32| Some(trying.saturating_sub(1));
            let _ = self.trying.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
        }
    }

    /// What it is.
    pub fn state(&self, now: u64) -> State {
        let state = self.state.load(Ordering::Acquire);
        match state & 3 {
            CLOSED => State::Closed,
            OPEN if now < state >> 2 => State::Open,
            _ => State::HalfOpen,
        }
    }

    /// What another process is told of it: for how many milliseconds no call may be made, 0 where trials are due; none
    /// where calls are made.
    pub fn left_open(&self, now: u64) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        match state & 3 {
            CLOSED => None,
            OPEN => Some((state >> 2).saturating_sub(now)),
            _ => Some(0),
        }
    }

    /// Takes over what another process says of it, unless it is open already.
    pub fn take_over(&self, left_open: u64, now: u64) {
        let next = now.saturating_add(left_open.min(LONGEST_LEFT)) << 2 | OPEN;
        let _ = self.state.compare_exchange(CLOSED, next, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// How often it opened.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    fn is_too_much(&self, rules: &Rules, sums: Sums) -> bool {
        let share = |count: u32, most: f64| most > 0.0 && f64::from(count) >= most * f64::from(sums.calls);
        sums.calls >= rules.of_at_least.max(1)
            && (share(sums.failed, rules.failures)
                || rules.slow.is_some_and(|(_, most)| share(sums.slow, most)))
    }

    fn open(&self, seen: u64, rules: &Rules, now: u64) -> bool {
        let next = now.saturating_add(rules.open_for) << 2 | OPEN;
        let opened = self.state.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if opened {
            self.window.clear();
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }
}

/// Parts of the window. What is older than the window by less than a part may still count.
const PARTS: usize = 10;

/// Calls of the last while, in parts that are used in turn. Two that come to a part as its time begins may
/// lose each other's count, which a share does not notice.
#[derive(Debug, Default)]
struct Window([Part; PARTS]);

#[derive(Debug, Default)]
struct Part {
    /// Which part of time it counts, from 1.
    turn: AtomicU64,
    calls: AtomicU32,
    failed: AtomicU32,
    slow: AtomicU32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    calls: u32,
    failed: u32,
    slow: u32,
}

impl Window {
    /// Counts a call. The sums are worked out only if something was wrong with it.
    fn add(&self, within: u64, now: u64, failed: bool, slow: bool) -> Sums {
        let turn = now / (within / PARTS as u64).max(1) + 1;
        let part = &self.0[turn as usize % PARTS];
        let known = part.turn.load(Ordering::Acquire);
        if known != turn
            && part.turn.compare_exchange(known, turn, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            [&part.calls, &part.failed, &part.slow]
                .iter()
                .for_each(|count| count.store(0, Ordering::Release));
        }
        part.calls.fetch_add(1, Ordering::Relaxed);
        if !failed && !slow {
            return Sums::default();
        }
        part.failed.fetch_add(u32::from(failed), Ordering::Relaxed);
        part.slow.fetch_add(u32::from(slow), Ordering::Relaxed);
        let counts = |part: &Part| part.turn.load(Ordering::Acquire) + PARTS as u64 > turn;
        self.0.iter().filter(|part| counts(part)).fold(Sums::default(), |sums, part| Sums {
            calls: sums.calls + part.calls.load(Ordering::Relaxed),
            failed: sums.failed + part.failed.load(Ordering::Relaxed),
            slow: sums.slow + part.slow.load(Ordering::Relaxed),
        })
    }

    fn clear(&self) {
        self.0.iter().for_each(|part| part.turn.store(0, Ordering::Release));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        failures: 0.5,
        slow: Some((1000, 0.8)),
        of_at_least: 20,
        within: 10_000,
        open_for: 5000,
        probes: 3,
    };

    /// Calls one each 10 ms; what `outcome` says of each. How many were made, and when the last one was.
    fn run(breaker: &Breaker, from: u64, count: u64, outcome: impl Fn(u64) -> (bool, u64)) -> u64 {
        (0..count)
            .filter(|call| {
                let now = from + call * 10;
                let Ok(pass) = breaker.ask(&RULES, now) else { return false };
                breaker.note(&RULES, pass, outcome(*call), now);
                true
            })
            .count() as u64
    }

    #[test]
    fn it_opens_at_the_share_and_closes_after_trials_that_went_well() {
        let breaker = Breaker::default();
        assert_eq!(run(&breaker, 0, 1000, |call| (call % 3 == 0, 1)), 1000, "a third is not half");
        let breaker = Breaker::default();
        assert_eq!(run(&breaker, 0, 100, |_| (true, 1)), 20, "it opens at the twentieth");
        assert_eq!((breaker.state(1000), breaker.ask(&RULES, 1000)), (State::Open, Err(4190)));
        assert_eq!(run(&breaker, 5000, 50, |_| (true, 1)), 1, "one trial that fails opens it again");
        let now = 20_000;
        let trials: Vec<_> = (0..5).map(|_| breaker.ask(&RULES, now)).collect();
        assert_eq!(trials, [Ok(Pass::Trial), Ok(Pass::Trial), Ok(Pass::Trial), Err(5000), Err(5000)]);
        breaker.forget(Pass::Trial);
        assert_eq!(breaker.ask(&RULES, now), Ok(Pass::Trial), "one whose client went is no trial");
        for _ in 0..3 {
            breaker.note(&RULES, Pass::Trial, (false, 1), now + 1);
        }
        assert_eq!((breaker.state(now + 1), breaker.ask(&RULES, now + 1)), (State::Closed, Ok(Pass::Usual)));
        assert_eq!(breaker.opened(), 2);
        // What was counted before does not count any more.
        assert_eq!(run(&breaker, now + 2, 19, |_| (true, 1)), 19);
        assert_eq!(breaker.state(now + 200), State::Closed);
    }

    #[test]
    fn looking_says_what_asking_would_and_takes_nothing() {
        let breaker = Breaker::default();
        run(&breaker, 0, 20, |_| (true, 1));
        for now in (0..30_000).step_by(37) {
            let seen = breaker.closed_for(&RULES, now);
            assert_eq!(seen, breaker.closed_for(&RULES, now));
            match breaker.ask(&RULES, now) {
                Ok(_) => assert_eq!(seen, None, "{now}"),
                Err(wait) => assert_eq!(seen, Some(wait), "{now}"),
            }
        }
    }

    #[test]
    fn what_is_open_is_open_for_the_next_process() {
        let old = Breaker::default();
        assert_eq!(old.left_open(0), None);
        run(&old, 0, 20, |_| (true, 1));
        assert_eq!(old.left_open(1190), Some(4000));
        // The clocks of two processes have nothing in common.
        let new = Breaker::default();
        new.take_over(4000, 77);
        assert_eq!((new.state(77), new.ask(&RULES, 77)), (State::Open, Err(4000)));
        new.take_over(9000, 78);
        assert_eq!(new.left_open(78), Some(3999), "it knows itself");
        assert_eq!(new.ask(&RULES, 4077), Ok(Pass::Trial));
        assert_eq!(new.left_open(4077), Some(0));
        let next = Breaker::default();
        next.take_over(0, 5);
        assert_eq!(next.ask(&RULES, 5), Ok(Pass::Trial));
        let hostile = Breaker::default();
        hostile.take_over(u64::MAX, u64::MAX >> 3);
        assert_eq!(hostile.left_open(u64::MAX >> 3), Some(LONGEST_LEFT));
    }

    #[test]
    fn slow_calls_are_as_bad() {
        let breaker = Breaker::default();
        assert_eq!(
            run(&breaker, 0, 200, |call| (false, if call % 10 < 7 { 1000 } else { 10 })),
            200,
            "seven of ten"
        );
        let breaker = Breaker::default();
        assert!(
            run(&breaker, 0, 200, |call| (false, if call % 10 < 9 { 1000 } else { 10 })) < 30,
            "nine of ten"
        );
        let breaker = Breaker::default();
        for _ in 0..100 {
            breaker.note(&RULES, Pass::Usual, (false, 5000), 0);
        }
        assert_eq!(breaker.ask(&RULES, 5000), Ok(Pass::Trial));
        assert!(
            breaker.note(&RULES, Pass::Trial, (false, 1000), 6000),
            "a trial that is slow opens it again"
        );
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let breaker = Breaker::default();
        run(&breaker, 0, 19, |_| (true, 1));
        assert_eq!(run(&breaker, 11_000, 19, |_| (true, 1)), 19, "a window later");
        assert_eq!(breaker.state(12_000), State::Closed);
    }

    #[test]
    fn trials_whose_end_nobody_tells_do_not_keep_it_half_open() {
        let breaker = Breaker::default();
        run(&breaker, 0, 20, |_| (true, 1));
        for _ in 0..3 {
            assert_eq!(breaker.ask(&RULES, 6000), Ok(Pass::Trial));
        }
        assert!(breaker.ask(&RULES, 10_999).is_err());
        assert_eq!(breaker.ask(&RULES, 11_000), Ok(Pass::Trial));
    }

    /// An outage of a minute: how many calls were made into it, and how soon all is well after it.
    #[test]
    fn an_outage_costs_few_calls_and_ends_soon() {
        let breaker = Breaker::default();
        let down = |now: u64| (60_000..120_000).contains(&now);
        let (mut into, mut refused_after, mut last_refused) = (0, 0, 0);
        for now in (0..300_000).step_by(5) {
            match breaker.ask(&RULES, now) {
                Ok(pass) => {
                    into += u64::from(down(now));
                    breaker.note(&RULES, pass, (down(now), 1), now);
                }
                Err(_) if now >= 120_000 => {
                    refused_after += 1;
                    last_refused = now;
                }
                Err(_) => {}
            }
        }
        // The window has to fill up to the half, and then there is a trial each five seconds.
        assert!(into <= 2000 / 2 + 15, "{into} of 12000 calls");
        assert!(last_refused <= 125_000, "{refused_after} refused after it, the last one at {last_refused}");
    }
}
