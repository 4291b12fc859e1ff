use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Leaves a server alone that failed several times in a row, and lets one call at a time try whether it
/// is back.
#[derive(Debug, Default)]
pub(in crate::identity) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// The next call may try then.
    closed_until: Option<Instant>,
}

impl Breaker {
    /// Whether the server may be called now. `pause` is how long the next call waits for this one, if
    /// this one is a trial.
    pub fn allows(&self, now: Instant, pause: Duration) -> bool {
        let mut state = self.0.lock();
        match state.closed_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.closed_until = Some(now + pause);
                true
            }
        }
    }

    /// The server answered.
    pub fn succeeded(&self) {
        *self.0.lock() = State::default();
    }

    /// The server failed; true if it is left alone from now on and was not before.
    pub fn failed(&self, now: Instant, most: u32, pause: Duration) -> bool {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < most {
            return false;
        }
        let is_news = state.closed_until.is_none();
        state.closed_until = Some(now + pause);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_down_is_tried_once_in_a_while() {
        let (breaker, start, pause) = (Breaker::default(), Instant::now(), Duration::from_secs(5));
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..2 {
            assert!(breaker.allows(at(0), pause));
            assert!(!breaker.failed(at(0), 3, pause));
        }
        assert!(breaker.failed(at(0), 3, pause), "the third time");
        assert!(!breaker.allows(at(4), pause));
        assert!(breaker.allows(at(5), pause), "a trial");
        assert!(!breaker.allows(at(5), pause), "one at a time");
        assert!(!breaker.failed(at(6), 3, pause));
        assert!(!breaker.allows(at(10), pause));
        assert!(breaker.allows(at(11), pause));
        breaker.succeeded();
        assert!(breaker.allows(at(11), pause) && breaker.allows(at(11), pause));
        assert!(!breaker.failed(at(11), 3, pause), "it counts anew");
    }
}
