use http::StatusCode;
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

/// Leave for one call. One that is dropped without a word on how it went, since its client has gone, says
/// nothing of the server: the next one may try in its place.
#[derive(Debug)]
pub(in crate::identity) struct Pass<'a> {
    breaker: &'a Breaker,
    is_trial: bool,
}

impl Breaker {
    /// Leave for a call now, if the server may be called. `pause` is how long the next call waits for this
    /// one, if this one is a trial.
    pub fn enter(&self, now: Instant, pause: Duration) -> Option<Pass<'_>> {
        let mut state = self.0.lock();
        let is_trial = match state.closed_until {
            None => false,
            Some(until) if now < until => return None,
            Some(_) => {
                state.closed_until = Some(now + pause);
                true
            }
        };
        Some(Pass { breaker: self, is_trial })
    }
}

impl Pass<'_> {
    /// The server answered.
    pub fn succeeded(mut self) {
        self.is_trial = false;
        *self.breaker.0.lock() = State::default();
    }

    /// The server failed; true if it is left alone from now on and was not before.
    pub fn failed(mut self, now: Instant, most: u32, pause: Duration) -> bool {
        self.is_trial = false;
        let mut state = self.breaker.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < most {
            return false;
        }
        let is_news = state.closed_until.is_none();
        state.closed_until = Some(now + pause);
        is_news
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            let mut state = self.breaker.0.lock();
            state.closed_until = state.closed_until.map(|_| Instant::now());
        }
    }
}

/// True for an answer that is about what was asked. Any client can ask for it, and so it says nothing of how
/// the server is.
pub(in crate::identity) const fn is_about_the_question(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::URI_TOO_LONG
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_down_is_tried_once_in_a_while() {
        let (breaker, start, pause) = (Breaker::default(), Instant::now(), Duration::from_secs(5));
        let at = |seconds| start + Duration::from_secs(seconds);
        let enter = |seconds| breaker.enter(at(seconds), pause);
        for _ in 0..2 {
            assert!(!enter(0).unwrap().failed(at(0), 3, pause));
        }
        assert!(enter(0).unwrap().failed(at(0), 3, pause), "the third time");
        assert!(enter(4).is_none());
        let trial = enter(5).unwrap();
        assert!(enter(5).is_none(), "one at a time");
        assert!(!trial.failed(at(6), 3, pause));
        assert!(enter(10).is_none());
        enter(11).unwrap().succeeded();
        assert!(enter(11).is_some() && enter(11).is_some());
        assert!(!enter(11).unwrap().failed(at(11), 3, pause), "it counts anew");
    }

    #[test]
    fn a_call_that_is_given_up_says_nothing() {
        let (breaker, start, hour) = (Breaker::default(), Instant::now(), Duration::from_secs(3600));
        for _ in 0..10 {
            drop(breaker.enter(start, hour));
        }
        assert!(breaker.enter(start, hour).unwrap().failed(start, 1, Duration::ZERO));
        let trial = breaker.enter(Instant::now(), hour).unwrap();
        assert!(breaker.enter(Instant::now(), hour).is_none(), "it is waited for");
        drop(trial);
        breaker.enter(Instant::now(), hour).expect("the next one tries").succeeded();
    }
}
