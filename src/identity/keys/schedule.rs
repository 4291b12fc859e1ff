//! When keys are fetched again.

use std::time::Duration;

/// However an issuer wishes it, its keys are not fetched more often than this.
pub const SOONEST: Duration = Duration::from_secs(30);
/// However long an issuer allows, its keys are fetched this often: a key that is withdrawn in haste
/// must not count for longer.
pub const LATEST: Duration = Duration::from_secs(3600);
/// The first of the waits after failures; each further one is twice as long.
const RETRY: Duration = Duration::from_secs(1);
/// The longest of them.
const LATEST_RETRY: Duration = Duration::from_secs(30);

/// How long to wait after a fetch that succeeded: as `Cache-Control` says, within bounds, or
/// `every` where it says nothing.
pub fn after_success(max_age: Option<u64>, every: Duration) -> Duration {
    max_age.map_or(every, |seconds| Duration::from_secs(seconds).clamp(SOONEST, LATEST))
}

/// How long to wait after so many failures in a row, the last one included. `chance`, any number,
/// spreads gateways that lost the same issuer at the same time: up to a quarter is taken away.
pub fn after_failures(failures: u32, chance: u64) -> Duration {
    let doubled = RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LATEST_RETRY);
    doubled - doubled.mul_f64((chance % 1024) as f64 / 4096.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_heard_within_bounds() {
        let every = Duration::from_secs(300);
        for (max_age, wait) in
            [(None, 300), (Some(0), 30), (Some(60), 60), (Some(86_400), 3600), (Some(u64::MAX), 3600)]
        {
            assert_eq!(after_success(max_age, every).as_secs(), wait, "{max_age:?}");
        }
    }

    #[test]
    fn failures_are_met_with_patience() {
        let waits: Vec<u64> = (1..9).map(|failures| after_failures(failures, 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(after_failures(u32::MAX, 0).as_secs(), 30);
        for chance in 0..2000 {
            let wait = after_failures(7, chance);
            assert!(wait > LATEST_RETRY.mul_f64(0.74) && wait <= LATEST_RETRY, "{wait:?}");
        }
    }
}
