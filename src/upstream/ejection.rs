//! Endpoints that fail are left out for a while: after so many failures in a row, or because they fail far more
//! than the others do.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// When an endpoint is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// After so many failures in a row; 0 is never.
    pub consecutive: u32,
    /// The first time for so many milliseconds, each further time for as many more.
    pub eject_for: u64,
    /// The longest, milliseconds.
    pub longest: u64,
    /// The greatest share of endpoints that are left out, 0 to 1.
    pub most: f64,
}

/// What is known of an endpoint. Times are milliseconds since any one moment.
#[derive(Debug, Default)]
pub struct Record {
    /// Failures in a row.
    failures: AtomicU32,
    /// How often it was left out lately.
    times: AtomicU32,
    /// Until when it is left out.
    until: AtomicU64,
    /// Since the last look: calls, and those that went well.
    calls: AtomicU32,
    well: AtomicU32,
}

impl Record {
    /// What came of a call. True if that is one failure too many in a row.
    pub fn note(&self, rules: &Rules, failed: bool) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if !failed {
            self.well.fetch_add(1, Ordering::Relaxed);
            if self.failures.load(Ordering::Relaxed) > 0 {
                self.failures.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        rules.consecutive > 0 && failures >= rules.consecutive
    }

    /// Leaves it out, from now on.
    pub fn eject(&self, rules: &Rules, now: u64) {
        let times = self.times.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let span = rules.eject_for.saturating_mul(times.into()).min(rules.longest.max(rules.eject_for));
        self.failures.store(0, Ordering::Relaxed);
        self.until.store(now.saturating_add(span), Ordering::Release);
    }

    /// True if it is left out now.
    pub fn is_out(&self, now: u64) -> bool {
        now < self.until.load(Ordering::Acquire)
    }

    /// Since when it is back, if it was out.
    pub fn back_since(&self) -> Option<u64> {
        Some(self.until.load(Ordering::Acquire)).filter(|until| *until > 0)
    }

    /// Calls, and those of them that went well, since the last time that this was asked. An endpoint that
    /// was not out since then is forgiven one time.
    pub fn take(&self, now: u64) -> (u32, u32) {
        if !self.is_out(now) {
            let less = |times: u32| Some(times.saturating_sub(1));
            let _ = self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        (self.calls.swap(0, Ordering::Relaxed), self.well.swap(0, Ordering::Relaxed))
    }
}

/// True if one more may be left out, of so many of which so many are out. One of one never is.
pub fn may_eject(out: usize, of: usize, most: f64) -> bool {
    of > 1 && (out + 1) as f64 <= (most * of as f64).max(1.0)
}

/// Those that fail far more than the others: whose share of calls that went well is below the mean by more than
/// `deviations` standard deviations. `calls` has for each endpoint its calls and those that went well; with
/// fewer than `least` calls it is not judged, and with fewer than three that are, nobody is.
pub fn outliers(calls: &[(u32, u32)], least: u32, deviations: f64) -> Vec<usize> {
    let rates: Vec<(usize, f64)> = calls
        .iter()
        .enumerate()
        .filter(|(_, (calls, _))| *calls >= least.max(1))
        .map(|(at, (calls, well))| (at, f64::from(*well) / f64::from(*calls)))
        .collect();
    if rates.len() < 3 {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let bound = mean - deviations * variance.sqrt();
    // Where all are alike, rounding makes nobody an outlier.
    rates.into_iter().filter(|(_, rate)| *rate < bound - 1e-9).map(|(at, _)| at).collect()
}

/// The share of its weight that an endpoint has which is there since `since`: it rises evenly over `over`
/// milliseconds, from a tenth on, so that caches and connections can be made.
pub fn warmth(since: u64, now: u64, over: u64) -> f64 {
    if over == 0 {
        return 1.0;
    }
    let part = now.saturating_sub(since) as f64 / over as f64;
    part.clamp(0.1, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { consecutive: 5, eject_for: 30_000, longest: 300_000, most: 0.5 };

    #[test]
    fn so_many_in_a_row_and_longer_each_time() {
        let record = Record::default();
        let fails = |times: u32| (0..times).map(|_| record.note(&RULES, true)).filter(|out| *out).count();
        assert_eq!(fails(4), 0);
        record.note(&RULES, false);
        assert_eq!((fails(4), fails(1)), (0, 1));
        record.eject(&RULES, 1000);
        assert!(record.is_out(30_999) && !record.is_out(31_000));
        assert_eq!(fails(4), 0, "it begins anew");
        record.eject(&RULES, 31_000);
        assert!(record.is_out(90_999) && !record.is_out(91_000), "twice as long");
        for _ in 0..20 {
            record.eject(&RULES, 0);
        }
        assert!(record.is_out(299_999) && !record.is_out(300_000), "and never longer than that");
        for _ in 0..30 {
            record.take(400_000);
        }
        record.eject(&RULES, 400_000);
        assert!(!record.is_out(430_000), "it is forgiven in time");
    }

    #[test]
    fn some_always_stay() {
        for (out, of, expected) in [
            (0, 1, false),
            (0, 2, true),
            (1, 2, false),
            (0, 3, true),
            (1, 3, false),
            (4, 10, true),
            (5, 10, false),
        ] {
            assert_eq!(may_eject(out, of, 0.5), expected, "{out} of {of}");
        }
    }

    #[test]
    fn who_fails_far_more_than_the_others() {
        let good = (100, 99);
        let mut calls = vec![good; 9];
        calls.push((100, 40));
        assert_eq!(outliers(&calls, 50, 1.9), [9]);
        assert_eq!(outliers(&[good; 10], 50, 1.9), [] as [usize; 0]);
        assert_eq!(
            outliers(&[(100, 30); 10], 50, 1.9),
            [] as [usize; 0],
            "all alike: it is not the endpoints"
        );
        calls[9] = (10, 0);
        assert_eq!(outliers(&calls, 50, 1.9), [] as [usize; 0], "too few calls to judge");
        assert_eq!(
            outliers(&[(100, 99), (100, 0)], 50, 0.5),
            [] as [usize; 0],
            "of two nobody knows which is odd"
        );
    }

    #[test]
    fn weights_rise() {
        for (now, expected) in
            [(0, 0.1), (500, 0.1), (2000, 0.1), (5000, 0.4), (6000, 0.5), (11_000, 1.0), (99_000, 1.0)]
        {
            assert!((warmth(1000, now, 10_000) - expected).abs() < 1e-9, "{now}");
        }
        assert_eq!(warmth(1000, 1000, 0), 1.0);
    }
}
