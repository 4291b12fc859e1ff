//! Peak EWMA: how long an endpoint takes, quick to rise and slow to forget (Finagle's balancer of that name).
//!
//! An answer that took longer than the average becomes the average at once; faster ones bring it down by and by,
//! as does time alone, so that an endpoint that once was slow is tried again.

use std::sync::atomic::{AtomicU64, Ordering};

/// How long until what was seen weighs a third, milliseconds.
const TAU: f64 = 10_000.0;

/// What an endpoint without an answer yet is taken to cost if it has requests in flight, microseconds: they
/// may hang.
const UNKNOWN: f64 = 1_000_000.0;

/// The moving average of an endpoint's times: microseconds in the upper half, the millisecond that they are of
/// in the lower. Zero before the first answer.
#[derive(Debug, Default)]
pub struct PeakEwma(AtomicU64);

impl PeakEwma {
    /// An answer came after so many microseconds. `now` is in milliseconds since any one moment.
    pub fn note(&self, micros: u64, now: u64) {
        let took = micros.clamp(1, u64::from(u32::MAX)) as f64;
        let update = |word: u64| {
            let (average, at) = unpack(word);
            let weight = (-(elapsed(now, at) / TAU)).exp();
            let next = if took > average { took } else { average * weight + took * (1.0 - weight) };
            Some(pack(next, now))
        };
        // It cannot fail: there is always an update.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// No answer came within so many microseconds, and none is waited for any more: it would have taken longer.
    pub fn left(&self, micros: u64, now: u64) {
        let took = micros.clamp(1, u64::from(u32::MAX)) as f64;
        let update = |word: u64| (took > unpack(word).0).then(|| pack(took, now));
        // What is no longer than the average says nothing.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// What one more request costs with so many in flight; the less the better.
    pub fn cost(&self, in_flight: u64, now: u64) -> f64 {
        let (average, at) = unpack(self.0.load(Ordering::Relaxed));
        let in_flight = in_flight as f64;
        if average == 0.0 {
            return UNKNOWN * in_flight;
        }
        let average = average * (-(elapsed(now, at) / TAU)).exp();
        average.max(1.0) * (in_flight + 1.0)
    }
}

fn elapsed(now: u64, at: u32) -> f64 {
    f64::from((now as u32).wrapping_sub(at))
}

fn pack(average: f64, now: u64) -> u64 {
    (average.max(1.0) as u32 as u64) << 32 | u64::from(now as u32)
}

fn unpack(word: u64) -> (f64, u32) {
    (f64::from((word >> 32) as u32), word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let ewma = PeakEwma::default();
        assert_eq!((ewma.cost(0, 0), ewma.cost(2, 0)), (0.0, 2_000_000.0));
        ewma.note(1000, 0);
        assert_eq!((ewma.cost(0, 0), ewma.cost(3, 0)), (1000.0, 4000.0));
        ewma.note(50_000, 100);
        assert_eq!(ewma.cost(0, 100), 50_000.0);
        ewma.left(49_999, 150);
        assert_eq!(ewma.cost(0, 100), 50_000.0, "it may be as quick as ever");
        ewma.note(1000, 200);
        let falling = ewma.cost(0, 200);
        assert!((49_000.0..50_000.0).contains(&falling), "{falling}");
        for now in (200..60_200).step_by(100) {
            ewma.note(1000, now);
        }
        assert!((1000.0..1300.0).contains(&ewma.cost(0, 60_200)), "{}", ewma.cost(0, 60_200));
        ewma.left(1_000_000, 60_300);
        assert_eq!(ewma.cost(0, 60_300), 1_000_000.0);
        assert!(ewma.cost(0, 160_300) < 100.0, "time alone forgets, so that it is tried again");
    }
}
